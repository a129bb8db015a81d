"""A folder of images: ``root/class/*.jpg``, the same below ``root/train`` and ``root/val``, or images alone."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from vision.data.host import OnError
from vision.data.records import Files, RecordSource
from vision.data.sources.splits import HELD_OUT, TRAIN, hold_out
from vision.errors import UserError

Note = Callable[[str], None]
Splits = dict[str, np.ndarray]
SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".jp2",
        ".avif",
        ".ico",
        ".tga",
    ]
)


def read(root: Path, *, on_error: OnError, note: Note) -> tuple[RecordSource, Splits]:
    """Returns all images of a folder and which of them make each split.

    Classes are folders, in the order of their names over all splits; ``root/classes.tsv`` may give each folder a
    readable name, tab-separated. Images may lie deeper below their class's folder. Without folders of classes there
    are no labels. Where the folders are not named train, val, test and the like, a tenth of each class is held out
    as ``val``.

    Args:
      root: the folder.
      on_error: whether a class without images is an error, or just said.
      note: told what a person should know.

    Raises:
      UserError: there is no such folder, it has no images, or a class has none.
    """
    if not root.is_dir():
        raise UserError(f"config.data.name: {root} is no folder; write folder:PATH of one that has images")
    top = _folders(root)
    named = {folder.name.lower(): folder for folder in top if folder.name.lower() in TRAIN + HELD_OUT}
    others = [folder.name for folder in top if folder not in named.values()]
    training = [folder for name, folder in named.items() if name in TRAIN]
    in_splits = bool(named) and (not others or (bool(training) and (len(named) > 1 or bool(_folders(training[0])))))
    if in_splits and others:
        note(f"{root}: passed over what is in no split: the folders {', '.join(others)}")
    parts = named if in_splits else {"": root}
    above = frozenset(_identity(folder) for folder in (root, *root.resolve().parents))
    folders = {name: {inner.name: inner for inner in _folders(part)} for name, part in parts.items()}
    classes = sorted({name for found in folders.values() for name in found})
    paths: list[Path] = []
    labels: list[int] = []
    splits: dict[str, list[int]] = {name: [] for name in parts}
    strange: Counter[str] = Counter()
    for name, part in parts.items():
        for label, inner in ((classes.index(key), value) for key, value in sorted(folders[name].items())):
            found = list(_images(inner, strange, above | {_identity(part)}))
            if not found and not in_splits:
                _say_empty(f"the class folder {inner} holds no images", on_error, note)
            paths += found
            labels += [label] * len(found)
            splits[name] += range(len(paths) - len(found), len(paths))
        if classes:
            astray = sum(Path(item).suffix.lower() in SUFFIXES for item in os.listdir(part))
            if astray and not folders[name]:
                raise UserError(f"{part} has {astray} images and no class folders, which other splits have")
            if astray:
                note(f"{part}: passed over {astray} images beside the class folders")
        else:
            found = list(_images(part, strange, above - {_identity(part)}))
            paths += found
            splits[name] += range(len(paths) - len(found), len(paths))
    if not paths:
        raise UserError(f"config.data.name: {root} holds no images (known: {' '.join(sorted(SUFFIXES))})")
    if in_splits and classes:
        first = next((name for name in TRAIN if name in splits), next(iter(splits)))
        present = {labels[position] for position in splits[first]}
        for label in sorted(set(range(len(classes))) - present):
            _say_empty(f"the class {classes[label]} has no images in {parts[first]}", on_error, note)
    if len(classes) == 1:
        note(f"{root}: one class only, {classes[0]}; classes are the folders in {', '.join(map(str, parts.values()))}")
    if strange:
        kinds = ", ".join(f"{count} {suffix or 'without a suffix'}" for suffix, count in sorted(strange.items()))
        note(f"{root}: passed over {strange.total()} files that are no images ({kinds})")
    if classes:
        source = RecordSource(
            Files(tuple(paths)), {"label": np.asarray(labels, np.int32)}, len(classes), _readable(root, classes)
        )
    else:
        source = RecordSource(Files(tuple(paths)), {})
    if in_splits:
        return source, {name: np.asarray(positions) for name, positions in splits.items() if positions}
    note(f"{root}: no folders train and val; a tenth of {'every class' if classes else 'it'} is held out as val")
    keys = [path.relative_to(root).as_posix() for path in paths]
    return source, hold_out(keys, np.asarray(labels) if classes else None)


def _say_empty(text: str, on_error: OnError, note: Note) -> None:
    if on_error == "error":
        raise UserError(f"{text}; fill it, remove it, or set config.data.on_error=skip")
    note(text)


def _folders(folder: Path) -> list[Path]:
    return sorted(
        (item for item in folder.iterdir() if item.is_dir() and not item.name.startswith((".", "__MACOSX"))),
        key=lambda item: item.name,
    )


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _images(folder: Path, strange: Counter[str], above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """The images below a folder, sorted; a link that leads back to a folder above it is not followed."""
    here = _identity(folder)
    if here in above:
        return
    for item in sorted(os.scandir(folder), key=lambda item: item.name):
        if item.name.startswith("."):
            continue
        path = folder / item.name
        if item.is_dir():
            yield from _images(path, strange, above | {here})
        elif path.suffix.lower() in SUFFIXES and (item.is_file() or not path.exists()):
            yield path  # a link that leads nowhere too: it is named when it is read; a pipe would wait for ever
        elif item.name not in ("classes.tsv", "Thumbs.db", "desktop.ini"):
            strange[path.suffix.lower()] += 1


def _readable(root: Path, classes: list[str]) -> tuple[str, ...]:
    """The names in ``classes.tsv``, or those of the folders."""
    names = {name: name.encode(errors="surrogateescape").decode(errors="replace") for name in classes}
    table = root / "classes.tsv"
    if table.is_file():
        for line in table.read_text(encoding="utf-8-sig", errors="replace").splitlines():
            folder, tab, name = line.partition("\t")
            if tab and folder in names:
                names[folder] = name.strip()
    return tuple(names[name] for name in classes)
