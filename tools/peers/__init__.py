"""What the suites compare: a contender is a process that hands out batches and times itself on request.

Only the standard library is imported here, as a peer runs under an interpreter that has none of the house's packages.
"""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_STEPS_TO_SETTLE = 3


@dataclass(frozen=True)
class Work:
    """What all contenders do alike.

    Attributes:
      folder: of JPEG files, one folder for each class.
      views: ``.npy`` file of uint8 images ``[n, height, width, 3]`` that views are made of.
      cores: that the process may use; also its worker processes or threads, where it has some.
      batch_size: of JPEG images.
      size: side of what is made of them in pixels.
      small_images: how many 32-pixel images there are in memory.
      small_batch: their batch size.
      step_batch: batch size of the train step that their input is compared with.
      step_blocks: residual blocks in each of the three stages of that step's ResNet.
      views_batch: images that views are made of at a time.
      global_size: side of the two global views.
      local_size: side of the local views.
      num_local: local views.
    """

    folder: str
    views: str
    cores: int
    batch_size: int = 64
    size: int = 224
    small_images: int = 50_000
    small_batch: int = 512
    step_batch: int = 128
    step_blocks: int = 3
    views_batch: int = 16
    global_size: int = 224
    local_size: int = 96
    num_local: int = 8

    def as_json(self) -> str:
        """Returns it as one argument of a command line."""
        return json.dumps(dataclasses.asdict(self))


class Network(NamedTuple):
    """A network that both sides of the suite of models have, for 10 classes.

    Attributes:
      model: the house's name of it.
      size: side of its images in pixels.
      channels: of its images.
      options: of the house's model.
    """

    model: str
    size: int
    channels: int
    options: Mapping[str, Any]


MIXER = {"patch_size": 4, "width": 192, "depth": 8, "tokens_dim": 96, "channels_dim": 768}
NETWORKS = {
    "MLP": Network("mlp/512-512", 28, 1, {}),
    "LeNet-5": Network("lenet/5", 28, 1, {}),
    "ResNet-20": Network("resnet/20", 32, 3, {}),
    "ResNet-18": Network("resnet/18_cifar", 32, 3, {}),
    "Mixer-192/4": Network("mixer/S16", 32, 3, MIXER),
    "ViT-Ti/4": Network("vit/Ti16", 32, 3, {"patch_size": 4}),
    "ResNet-50": Network("resnet/50", 224, 3, {}),
    "ViT-S/16": Network("vit/S16", 224, 3, {}),
    "ViT-B/16": Network("vit/B16", 224, 3, {}),
}
CEILING = 1536  # rows and columns of the matrices whose product is the ceiling


@dataclass(frozen=True)
class Networks:
    """What contenders of the suite of models do alike.

    Attributes:
      cores: that the process may use.
      batch_sizes: name of a network -> images in a batch.
      parameters: name of a network -> how many it has in the house, and is to have on the other side.
      half: compute in bfloat16, the parameters in float32; PyTorch compiles its side then.
    """

    cores: int
    batch_sizes: Mapping[str, int] = field(default_factory=dict)
    parameters: Mapping[str, int] = field(default_factory=dict)
    half: bool = False

    def as_json(self) -> str:
        """Returns it as one argument of a command line."""
        return json.dumps(dataclasses.asdict(self))


@dataclass(frozen=True)
class Distillation:
    """What contenders of the suite of self-distillation do alike; the defaults are DINO's.

    Attributes:
      images: ``.npy`` file of uint8 images ``[n, height, width, 3]`` that crops are made of.
      report: file for what the house's compiled step takes.
      cores: that the process may use.
      network: ``patch_size``, ``width``, ``depth``, ``num_heads`` and ``mlp_dim`` of the ViT.
      batch_size: images in a batch.
      half: compute in bfloat16.
      parameters: ``backbone`` and ``head`` -> how many are trained in the house, and are to be on the other side.
      prototypes: of the head, K.
    """

    images: str
    report: str
    cores: int
    network: Mapping[str, int]
    batch_size: int
    half: bool = False
    parameters: Mapping[str, int] = field(default_factory=dict)
    prototypes: int = 65536
    hidden_dim: int = 2048
    bottleneck_dim: int = 256
    global_size: int = 224
    local_size: int = 96
    num_local: int = 8

    def as_json(self) -> str:
        """Returns it as one argument of a command line."""
        return json.dumps(dataclasses.asdict(self))


@dataclass(frozen=True)
class Contrast:
    """What contenders of the suite of contrastive losses do alike: the loss of a batch and its gradients.

    Attributes:
      report: folder for files of what each loss takes of memory.
      cores: that the process may use.
      batch_sizes: pairs of a batch.
      embed_dim: size of an embedding.
      chunk_sizes: rows of a chunk, for each batch size.
    """

    report: str
    cores: int
    batch_sizes: Sequence[int] = (256, 1024, 4096)
    embed_dim: int = 512
    chunk_sizes: Sequence[int] = (64, 256, 512)

    def as_json(self) -> str:
        """Returns it as one argument of a command line."""
        return json.dumps(dataclasses.asdict(self))


@dataclass(frozen=True)
class Pairs:
    """What contenders do alike that train CLIP: a ViT and a text transformer, the loss over all pairs of a batch.

    Attributes:
      cores: that the process may use.
      image: ``patch_size``, ``width``, ``depth``, ``num_heads`` and ``mlp_dim`` of the ViT.
      text: ``width``, ``depth``, ``num_heads`` and ``mlp_dim`` of the text transformer.
      size: side of an image in pixels.
      length: places of a text.
      vocab_size: number of ids, the last of which ends a text.
      embed_dim: size of the embeddings.
      batch_size: pairs of a batch.
      parameters: how many the house has, and the other side is to have.
      half: compute in bfloat16; PyTorch compiles its side then.
    """

    cores: int
    image: Mapping[str, int]
    text: Mapping[str, int]
    size: int
    length: int
    vocab_size: int
    embed_dim: int
    batch_size: int
    parameters: int = 0
    half: bool = False

    def as_json(self) -> str:
        """Returns it as one argument of a command line."""
        return json.dumps(dataclasses.asdict(self))


class Stream(NamedTuple):
    """Batches without end.

    Attributes:
      batches: each is complete when it is handed out.
      images: in a batch.
      ahead: batches that may lie ready when nobody has asked for any for a while.
      settle: waits for what has been dispatched; it is not to take time from whoever is next.
    """

    batches: Iterator[Any]
    images: int
    ahead: int = 0
    settle: Callable[[], object] = tuple


Start = Callable[[], Stream]
AnyWork = TypeVar("AnyWork", Work, Networks, Distillation, Contrast, Pairs)


def begin(kind: type[AnyWork]) -> AnyWork:
    """Reads the work from the command line and keeps the process to as many cores; call it before other imports."""
    work = kind(**json.loads(sys.argv[1]))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: work.cores])
    return work


def grown_by(function: Callable[[], object]) -> int | None:
    """Returns by how many bytes the process's memory grows at most while it runs; None where the system does not say.

    What the process holds already, and holds again after, is not counted.
    """
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")  # forgets the peak so far
        before = _kilobytes("VmRSS")
        function()
        return 1024 * max(_kilobytes("VmHWM") - before, 0)
    except OSError:
        return None


def _kilobytes(name: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(f"{name}:"))


def serve(streams: Mapping[str, Start]) -> None:
    """Answers ``{"name", "batches", "step_seconds"}`` a line with :func:`timed`, until the input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr
    started: dict[str, Stream] = {}
    for line in sys.stdin:
        request = json.loads(line)
        name = request["name"]
        if name not in started:
            started[name] = streams[name]()
            next(started[name].batches)
        print(json.dumps(timed(started[name], request["batches"], request["step_seconds"])), file=answers, flush=True)


def timed(stream: Stream, batches: int, step_seconds: float = 0.0) -> dict[str, float]:
    """Returns ``seconds`` and the process's ``cpu_seconds`` for so many batches, ``images``, and ``ahead``.

    Batches that lay ready are not counted. With ``step_seconds`` the consumer sleeps so long after each batch, as if
    it waited for a device that takes nothing from the cores; it does so for a few batches before the clock starts.
    """
    for _ in range(stream.ahead):
        next(stream.batches)
    if step_seconds:
        _consume(stream, _STEPS_TO_SETTLE, step_seconds)
    cpu, began = time.process_time(), time.perf_counter()
    _consume(stream, batches, step_seconds)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    stream.settle()
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "images": batches * stream.images,
        "ahead": stream.ahead,
    }


def _consume(stream: Stream, batches: int, step_seconds: float) -> None:
    for _ in range(batches):
        next(stream.batches)
        if step_seconds:
            time.sleep(step_seconds)
