"""Contact sheets of a config's data: batches as a model is given them, and every augmentation there is."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vision.analysis import contact_sheet
from vision.analysis.data_report import Look
from vision.data.augment import AUGMENTATIONS
from vision.data.augment.mix import MIXES
from vision.data.loader import columns
from vision.data.sources.captions import unpack

_ROWS, _COLUMNS = 8, 8


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
