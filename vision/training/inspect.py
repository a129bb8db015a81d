"""What there is to know of a config's data before training on them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vision.analysis import contact_sheet
from vision.config.calling import call
from vision.data.augment import AUGMENTATIONS
from vision.data.augment.mix import MIXES
from vision.data.host import HostPart
from vision.data.loader import columns
from vision.data.pipeline import Pipeline
from vision.data.source import Source
from vision.data.sources.captions import unpack
from vision.training.inputs import Inputs, make_prepare_of, open_inputs
from vision.training.schema import resolve
from vision.training.sharding import batch_sharding, check_batch, make_mesh
from vision.training.state import make_keys

_STATISTICS_BYTES = 2**30
_ROWS, _COLUMNS = 8, 8


@dataclass(frozen=True)
class Look:
    """The data of a config, ready to be looked at.

    Attributes:
      inputs: the data.
      pipeline: batches of the training examples.
    """

    inputs: Inputs
    pipeline: Pipeline

    def prepared(self, step: int, config: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
        """Returns a training batch as the objective gets it, or as it would under another config."""
        made = self.prepare(config or self.inputs.config)(step)
        return {name: np.asarray(array) for name, array in made.items()}

    def prepare(self, config: Mapping[str, Any]) -> Callable[[int], dict[str, jax.Array]]:
        """Returns ``step -> prepared batch``, compiled once."""
        key = make_keys(config["seed"]).augment
        channels, classes = self.inputs.part.channels, self.inputs.source.num_classes
        compiled = jax.jit(make_prepare_of(config, channels, classes, training=True))
        return lambda step: compiled(self.pipeline.batch(step), self.pipeline.resident, key, step)


def look(config: Mapping[str, Any]) -> Look:
    """Opens the data of a config, as a file gives it.

    Raises:
      UserError: the data are not there, or cannot be used.
    """
    resolved = resolve(config)
    mesh = call(make_mesh, resolved["mesh"], "config.mesh")
    check_batch(resolved["batch_size"], mesh, 1)
    inputs = open_inputs(resolved)
    return Look(inputs, inputs.training_pipeline(batch_sharding(mesh)))


def inspect(data: Look, out: Path, *, batches: int) -> tuple[dict[str, Any], list[str]]:
    """Looks at data and writes a contact sheet of augmented training batches.

    Args:
      data: see :func:`look`.
      out: where the sheet is written.
      batches: training batches that the speed is measured over.

    Returns:
      The result as JSON, and the same as lines for people.

    Raises:
      UserError: an image does not decode, or the sheet cannot be written.
    """
    source, part, config = data.inputs.source, data.inputs.part, data.inputs.config
    result: dict[str, Any] = {
        "name": config["data"]["name"],
        "split": config["data"]["split"],
        "examples": len(source),
        "classes": source.num_classes,
        "fingerprint": source.fingerprint,
        "evals": {name: len(data.inputs.opener(section["split"])) for name, section in config["evals"].items()},
    }
    lines = [_line("data", f"{result['name']}, split {result['split']}: {len(source):,} examples")]
    for name, count in result["evals"].items():
        lines.append(_line("", f"{name}, {config['evals'][name]['split'] or 'held out'}: {count:,} examples"))
    balance = class_balance(source)
    if balance:
        result["class_balance"] = balance
        smallest, largest = min(balance, key=balance.__getitem__), max(balance, key=balance.__getitem__)
        span = f"from {balance[smallest]:,} ({smallest}) to {balance[largest]:,} ({largest})"
        even = balance[smallest] == balance[largest]
        lines.append(_line("classes", f"{len(balance)}, {f'{balance[largest]:,} examples each' if even else span}"))
    row = np.zeros(1, int)
    result["element"] = {name: _spec(value[0]) for name, value in columns(source, part, row, row).items()}
    result["batch"] = {name: _spec(value) for name, value in data.prepared(0).items()}
    for key in ("element", "batch"):
        lines += [_line(key if n == 0 else "", f"{name} {spec}") for n, (name, spec) in enumerate(result[key].items())]
    mean, std, count = statistics(source, part)
    result |= {"mean": mean, "std": std}
    lines.append(
        _line("mean, std", f"{_numbers(mean)}, {_numbers(std)} over {count:,} images (config.data.mean, .std)")
    )
    result["images_per_second"] = speed(data, batches)
    lines += [
        _line("speed" if n == 0 else "", f"{name}: {value:,.0f} images/s")
        for n, (name, value) in enumerate(result["images_per_second"].items())
    ]
    lines.append(_line("fingerprint", result["fingerprint"]))
    draw_batches(data, out)
    result["sheet"] = str(out)
    lines.append(_line("sheet", str(out)))
    data.pipeline.close()
    return result, lines


def draw_augmentations(data: Look, folder: Path, *, seed: int = 0) -> list[str]:
    """Writes ``<name>.png`` for every augmentation with its defaults, and returns their names."""
    source = data.inputs.source
    positions = np.linspace(0, len(source) - 1, min(4, len(source))).astype(int)
    images = columns(source, data.inputs.part, positions, np.zeros_like(positions))["image"]
    rows = {name: contact_sheet.augmented(make(), images, _COLUMNS, seed) for name, make in AUGMENTATIONS.items()}
    rows |= {name: contact_sheet.mixed(make(), images, _COLUMNS, seed) for name, make in MIXES.items()}
    for name, made in rows.items():
        titles = [[f"{name}: the image, then {_COLUMNS} draws"], *([""] for _ in made[1:])]
        contact_sheet.save(folder / f"{name}.png", made, titles)
    return sorted(rows)


def draw_batches(data: Look, out: Path) -> None:
    """Writes examples of the first batches as training sees them, normalisation apart; one row for each example."""
    config = data.inputs.config
    plain = {**config, "data": {**config["data"], "mean": None, "std": None}}
    batches = -(-_ROWS * _COLUMNS // config["batch_size"])
    prepared = [data.prepared(step, plain) for step in range(min(batches, 2))]
    examples = {
        name: np.concatenate([each[name] for each in prepared])
        for name in prepared[0]
        if name not in ("index", "visit")
    }
    names = data.inputs.source.class_names
    pictures = {name: array for name, array in examples.items() if array.ndim in (4, 5) and array.shape[-1] in (1, 3)}
    if all(array.ndim == 4 for array in pictures.values()):
        images = contact_sheet.as_pixels(pictures["image"])[: _ROWS * _COLUMNS]
        rows = [list(images[start : start + _COLUMNS]) for start in range(0, len(images), _COLUMNS)]
        starts = range(0, len(images), _COLUMNS)
        titles = [
            [_title(examples, start + n, names) for n in range(_COLUMNS)][: len(images) - start] for start in starts
        ]
    else:
        views = [contact_sheet.as_pixels(array[:_ROWS]) for array in pictures.values()]
        rows = [[view for each in views for view in each[position]] for position in range(len(views[0]))]
        titles = [[_title(examples, position, names)] for position in range(len(rows))]
    contact_sheet.save(out, rows, titles)


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
    std = np.sqrt(squares / count - mean**2)
    return tuple(mean.round(4).tolist()), tuple(std.round(4).tolist()), len(positions)


def speed(data: Look, batches: int) -> dict[str, float]:
    """Returns images per second of the pipeline alone, and with the device's part after it."""
    prepare, size = data.prepare(data.inputs.config), data.inputs.config["batch_size"]
    jax.block_until_ready(prepare(0))

    def run(function: Callable[[int], Any], first: int) -> float:
        began = time.perf_counter()
        made = [function(step) for step in range(first, first + batches)]
        jax.block_until_ready(made)
        return batches * size / (time.perf_counter() - began)

    return {"batches": run(data.pipeline.batch, 1), "batches, augmented": run(prepare, 1 + batches)}


def _title(examples: Mapping[str, np.ndarray], position: int, names: tuple[str, ...]) -> str:
    if "caption" in examples:
        return unpack(examples["caption"][position])
    label = examples.get("label")
    if label is None:
        return ""
    if label.ndim == 1:
        return names[label[position]] if names else str(label[position])
    shares = [(share, number) for number, share in enumerate(label[position]) if share > 0]
    return " + ".join(f"{share:.2f} {names[n] if names else n}" for share, n in sorted(shares, reverse=True)[:3])


def _spec(value: np.ndarray) -> str:
    return f"{value.dtype} {list(value.shape)}"


def _numbers(values: tuple[float, ...]) -> str:
    return f"({', '.join(f'{value:.4f}' for value in values)}{',' * (len(values) == 1)})"


def _line(name: str, text: str) -> str:
    return f"{name:<13}{text}"
