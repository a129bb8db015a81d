"""What there is to know of the data of a config before training on them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from vision.data.host import HostPart
from vision.data.inputs import Inputs, make_prepare_of
from vision.data.loader import columns
from vision.data.pipeline import Pipeline
from vision.data.source import Source

_STATISTICS_BYTES = 2**30


@dataclass(frozen=True)
class Look:
    """The data of a config, ready to be looked at.

    Attributes:
      inputs: the data.
      pipeline: batches of the training examples.
      key: of the augmentations.
    """

    inputs: Inputs
    pipeline: Pipeline
    key: Key[Array, ""]

    def prepared(self, step: int, config: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
        """Returns a training batch as the objective gets it, or as it would under another config."""
        made = self.prepare(config or self.inputs.config)(step)
        return {name: np.asarray(array) for name, array in made.items()}

    def prepare(self, config: Mapping[str, Any]) -> Callable[[int], dict[str, jax.Array]]:
        """Returns ``step -> prepared batch``, compiled once."""
        channels, classes = self.inputs.part.channels, self.inputs.source.num_classes
        compiled = jax.jit(make_prepare_of(config, channels, classes, training=True))
        return lambda step: compiled(self.pipeline.batch(step), self.pipeline.resident, self.key, step)


def inspect(data: Look, *, batches: int) -> tuple[dict[str, Any], list[str]]:
    """Looks at data: sizes, classes, shapes, mean and standard deviation, speed, fingerprint.

    Args:
      data: what is looked at.
      batches: training batches that the speed is measured over.

    Returns:
      The result as JSON, and the same as lines for people.

    Raises:
      UserError: an image does not decode.
    """
    source, part, config = data.inputs.source, data.inputs.part, data.inputs.config
    result: dict[str, Any] = {
        "name": config["data"]["name"],
        "split": config["data"]["split"],
        "examples": len(source),
        "classes": source.num_classes,
        "fingerprint": source.fingerprint,
        "evals": {
            name: len(data.inputs.evaluation_source(section["split"])) for name, section in config["evals"].items()
        },
    }
    lines = [line("data", f"{result['name']}, split {result['split']}: {len(source):,} examples")]
    for name, count in result["evals"].items():
        lines.append(line("", f"{name}, {config['evals'][name]['split'] or 'held out'}: {count:,} examples"))
    balance = class_balance(source)
    if balance:
        result["class_balance"] = balance
        smallest, largest = min(balance, key=balance.__getitem__), max(balance, key=balance.__getitem__)
        span = f"from {balance[smallest]:,} ({smallest}) to {balance[largest]:,} ({largest})"
        even = balance[smallest] == balance[largest]
        lines.append(line("classes", f"{len(balance)}, {f'{balance[largest]:,} examples each' if even else span}"))
    row = np.zeros(1, int)
    result["element"] = {name: _spec(value[0]) for name, value in columns(source, part, row, row).items()}
    result["batch"] = {name: _spec(value) for name, value in data.prepared(0).items()}
    for key in ("element", "batch"):
        lines += [line(key if n == 0 else "", f"{name} {spec}") for n, (name, spec) in enumerate(result[key].items())]
    mean, std, count = statistics(source, part)
    result |= {"mean": mean, "std": std}
    lines.append(line("mean, std", f"{_numbers(mean)}, {_numbers(std)} over {count:,} images (config.data.mean, .std)"))
    result["images_per_second"] = speed(data, batches)
    lines += [
        line("speed" if n == 0 else "", f"{name}: {value:,.0f} images/s")
        for n, (name, value) in enumerate(result["images_per_second"].items())
    ]
    lines.append(line("fingerprint", result["fingerprint"]))
    return result, lines


def class_balance(source: Source) -> dict[str, int]:
    """Returns how many examples each class has (several may share one), or nothing without labels."""
    if "label" not in source.fields:
        return {}
    labels = source.labels()
    counts = np.bincount(labels, minlength=source.num_classes) if labels.ndim == 1 else labels.sum(axis=0)
    names = source.class_names or tuple(str(number) for number in range(source.num_classes))
    # Two folders may have been given one readable name.
    keys = [name if names.count(name) == 1 else f"{name} ({number})" for number, name in enumerate(names)]
    return {key: int(count) for key, count in zip(keys, counts, strict=True)}


def statistics(source: Source, part: HostPart) -> tuple[tuple[float, ...], tuple[float, ...], int]:
    """Returns mean and standard deviation per channel of pixels / 255, and over how many images.

    These are all, or as many, spread evenly, as decode to 1 GiB.
    """
    plain = replace(part, crop={"name": "center", "fraction": 1.0})
    most = max(1, _STATISTICS_BYTES // int(np.prod(part.shape)))
    positions = np.unique(np.linspace(0, len(source) - 1, min(len(source), most)).astype(int))
    total, squares, count = np.zeros(part.channels), np.zeros(part.channels), 0
    for chunk in np.array_split(positions, -(-len(positions) // 256)):
        pixels = columns(source, plain, chunk, np.zeros_like(chunk))["image"].reshape(-1, part.channels) / 255.0
        total, squares, count = total + pixels.sum(0), squares + np.square(pixels).sum(0), count + len(pixels)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return tuple(mean.round(4).tolist()), tuple(std.round(4).tolist()), len(positions)


def speed(data: Look, batches: int) -> dict[str, float]:
    """Returns images per second of the pipeline alone, and with the device's part after it."""
    prepare, size = data.prepare(data.inputs.config), data.inputs.config["batch_size"]
    jax.block_until_ready(prepare(0))

    def run(function: Callable[[int], Any], first: int) -> float:
        began = time.perf_counter()
        made: Any = None
        for step in range(first, first + batches):
            made, before = function(step), made
            jax.block_until_ready(before)
        jax.block_until_ready(made)
        return batches * size / (time.perf_counter() - began)

    return {"batches": run(data.pipeline.batch, 1), "batches, augmented": run(prepare, 1 + batches)}


def _spec(value: np.ndarray) -> str:
    return f"{value.dtype} {list(value.shape)}"


def _numbers(values: tuple[float, ...]) -> str:
    return f"({', '.join(f'{value:.4f}' for value in values)}{',' * (len(values) == 1)})"


def line(name: str, text: str) -> str:
    """Returns a line of the report."""
    return f"{name:<13}{text}"
