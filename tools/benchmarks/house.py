"""The house's side of the data suite, in a process of its own like its peers.

Command: python -m tools.benchmarks.house WORK, see :mod:`tools.peers`.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tools.peers import MEAN, STD, Start, Stream, Work, begin, serve

_DECODED_AHEAD = 8  # batches, rather too many: two that the loader keeps, and what its workers hold besides


def main() -> None:
    """Serves batches of JPEG files, of small images on the device, of views, and steps of a ResNet."""
    work = begin(Work)
    from vision import program

    program.prepare_jax()
    import cv2

    cv2.setNumThreads(1)
    serve(streams(work))


def streams(work: Work) -> dict[str, Start]:
    """Returns what can be timed.

    ``opencv bilinear`` and the like: the host path alone, in one thread: read, decode, crop, resize, stack.
    ``pipeline``: all of it, read ahead by threads, placed on the device, mirrored and normalised there.
    ``threads`` and ``processes``: batches on the device as the train step gets them, before its own part.
    ``small N``: batches of N of 32-pixel images that live on the device: shifted, mirrored, normalised.
    ``step``: a train step of a ResNet on such a batch that lies ready. ``views``: DINO's views of resident images.
    """
    size, step_size = work.small_batch, work.step_batch
    host = {
        f"{decoder} {interpolation}": partial(_chunks, work, decoder, interpolation)
        for decoder in ("opencv", "pillow")
        for interpolation in ("bilinear", "bicubic")
    }
    return {
        **host,
        "pipeline": lambda: _prepared(_jpegs(work, workers=0), work.batch_size, _FLIP, ahead=_DECODED_AHEAD),
        "threads": partial(_batches, work, workers=0),
        "processes": partial(_batches, work, workers=work.cores),
        f"small {size}": lambda: _prepared(_small(work, size), size, _SHIFT + _FLIP),
        f"small {step_size}": lambda: _prepared(_small(work, step_size), step_size, _SHIFT + _FLIP),
        "step": partial(_steps, work),
        "views": partial(_views, work),
    }


_FLIP: tuple[dict[str, Any], ...] = ({"name": "random_flip", "probability": 0.5},)
_SHIFT: tuple[dict[str, Any], ...] = ({"name": "random_shift", "pixels": 4},)


def _chunks(work: Work, decoder: Any, interpolation: Any) -> Stream:
    chunks = _work_on(work, decoder, interpolation)

    def batches() -> Iterator[Any]:
        first = 0
        while True:
            yield [chunks(number) for number in range(first, first + chunks.parts)]
            first += chunks.parts

    return Stream(batches(), work.batch_size)


def _batches(work: Work, *, workers: int) -> Stream:
    pipeline = _jpegs(work, workers=workers)
    return _one_behind(pipeline.batch, work.batch_size, _DECODED_AHEAD)


def _prepared(pipeline: Any, images: int, sections: tuple[Mapping[str, Any], ...], *, ahead: int = 0) -> Stream:
    from vision.data import augment

    chain = augment.compose(augment.resolve(sections, "augment"), "augment")
    return _one_behind(_prepare(pipeline, augmentation=chain), images, ahead)


def _views(work: Work) -> Stream:
    import numpy as np

    from vision.data import augment
    from vision.data.augment.multi_crop import dino_views

    images = np.load(work.views)
    views = dino_views(global_size=work.global_size, local_size=work.local_size, num_local=work.num_local)
    chains = augment.compose_views(augment.resolve_views(views, "views"), "views")
    pipeline = _resident(images, work.views_batch)
    return _one_behind(_prepare(pipeline, views=chains), work.views_batch)


def _steps(work: Work) -> Stream:
    from tools.benchmarks.model_steps import make_step

    example = next(_prepared(_small(work, work.step_batch), work.step_batch, ()).batches)
    state, step, _ = make_step("resnet/20", example["image"], stage_sizes=(work.step_blocks,) * 3)

    def run(_: int) -> Any:
        nonlocal state
        state, loss = step(state, example["image"], example["label"])
        return loss

    return _one_behind(run, work.step_batch)


def _prepare(pipeline: Any, **options: Any) -> Callable[[int], Any]:
    """Returns ``step -> prepared batch``, the device's part jitted alone as the train step has it inside."""
    import jax

    from vision.data.prepare import make_prepare

    prepare = jax.jit(make_prepare(mean=MEAN, std=STD, channels=3, **options))
    key = jax.random.key(0)
    return lambda step: prepare(pipeline.batch(step), pipeline.resident, key, step)


def _one_behind(function: Callable[[int], Any], images: int, ahead: int = 0) -> Stream:
    """Results of 0, 1, ... in turn, each complete; the next one is dispatched before, as a training does it."""
    import jax

    pending: list[Any] = []

    def batches() -> Iterator[Any]:
        for step in itertools.count():
            pending.append(function(step))
            if step:
                yield jax.block_until_ready(pending.pop(0))

    return Stream(batches(), images, ahead + 1, lambda: jax.block_until_ready(pending))


def _small(work: Work, batch_size: int) -> Any:
    import numpy as np

    return _resident(
        np.random.default_rng(0).integers(0, 256, (work.small_images, 32, 32, 3), np.uint8), batch_size, classes=10
    )


def _resident(images: Any, batch_size: int, classes: int = 1) -> Any:
    import numpy as np

    from vision.data.host import HostPart
    from vision.data.order import Shuffled
    from vision.data.pipeline import make_pipeline
    from vision.data.source import ArraySource

    labels = np.arange(len(images), dtype=np.int32) % classes
    source = ArraySource({"image": images, "label": labels}, classes)
    order, part = Shuffled(len(images), batch_size, 0), HostPart(images.shape[1:3], 3)
    return make_pipeline(source, order, part, sharding=_sharding(), residency="device")


def _jpegs(work: Work, *, workers: int) -> Any:
    from vision.data.pipeline import make_pipeline

    chunks = _work_on(work, "opencv", "bilinear")
    options: dict[str, Any] = {"sharding": _sharding(), "residency": "host", "workers": workers}
    return make_pipeline(chunks.source, chunks.order, chunks.part, **options)


def _work_on(work: Work, decoder: Any, interpolation: Any) -> Any:
    import numpy as np

    from vision.data.host import HostPart
    from vision.data.loader import Chunks
    from vision.data.order import Shuffled
    from vision.data.sources import folder

    source, _ = folder.read(Path(work.folder), on_error="error", note=lambda text: None)
    part = HostPart((work.size, work.size), 3, {"name": "random_resized"}, decoder, interpolation)
    order = Shuffled(len(source), work.batch_size, 0)
    return Chunks(source, part, order, np.arange(work.batch_size))


def _sharding() -> Any:
    import jax

    from vision.training.sharding import batch_sharding, make_mesh

    return batch_sharding(make_mesh(data=jax.device_count()))


if __name__ == "__main__":
    main()
