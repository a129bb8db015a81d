"""Images with captions or labels in a table: CSV, tab-separated, or JSON lines."""

import csv
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vision.data.host import OnError
from vision.data.records import Files, RecordSource
from vision.data.source import MAX_CLASSES, several_hot
from vision.data.sources.captions import pack
from vision.data.sources.folder import Note, Splits
from vision.data.sources.splits import hold_out
from vision.errors import UserError, did_you_mean

_MOST_ENTRIES = 2**30
COLUMNS = {
    "image": ("image", "filepath", "file_path", "file_name", "filename", "path"),
    "caption": ("caption", "captions", "title", "text"),
    "label": ("label", "class"),
    "labels": ("labels", "classes"),
    "split": ("split",),
}


@dataclass
class _Row:
    """What the lines about one image say."""

    captions: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    split: str = ""


def read(path: Path, *, on_error: OnError, note: Note) -> tuple[RecordSource, Splits]:
    """Returns the images of a table and which of them make each split.

    A line names an image, relative to the table's folder or to ``images/`` in it, and its ``caption``, ``label``, or
    several ``labels`` (a JSON list, or separated by ``|``). Several lines about one image are put together. A column
    ``split`` names splits; without it a tenth is held out as ``val``. Classes are sorted, numbers as numbers.

    Args:
      path: ends in ``.csv``, ``.tsv``, ``.txt`` (comma or tab), ``.jsonl`` or ``.json`` (an object a line).
      on_error: whether a line that cannot be used ends the run, or is passed over and counted.
      note: told what a person should know.

    Raises:
      UserError: the table cannot be read, or a line cannot be used.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"config.data.name: {path} cannot be read: {error.strerror}") from error
    rows: dict[str, _Row] = {}
    skipped: list[str] = []
    places: dict[str, Path | None] = {}
    for number, entry in _entries(path, content):
        problem = entry if isinstance(entry, str) else _add(entry, rows, places, path.parent)
        if problem:
            if on_error == "error":
                cure = "mend it, or set config.data.on_error=skip"
                raise UserError(f"{path}, line {number}: {problem}; {cure}")
            skipped.append(f"line {number}: {problem}")
    if skipped:
        note(f"{path}: passed over {len(skipped)} lines, the first: {skipped[0]}")
    if not rows:
        raise UserError(f"{path} names no images")
    names = list(rows)
    arrays, classes = _arrays(path, rows)
    images = Files(tuple(place for name in names if (place := places[name]) is not None))
    source = RecordSource(images, arrays, len(classes), tuple(classes))
    if any(row.split for row in rows.values()):
        of = np.asarray([row.split or "train" for row in rows.values()])
        return source, {str(name): np.flatnonzero(of == name) for name in dict.fromkeys(of.tolist())}
    note(f"{path}: no column split; a tenth is held out as val")
    label = arrays.get("label")
    return source, hold_out(names, label if label is not None and label.ndim == 1 else None)


def _add(entry: Mapping[str, Any], rows: dict[str, _Row], places: dict[str, Path | None], base: Path) -> str:
    """Adds a line to its image; returns what is wrong with it, or nothing."""
    name = entry.get("image")
    if not isinstance(name, str) or not name:
        return "it names no image"
    if name not in places:
        candidates = (base / name, base / "images" / name, base / "Images" / name)
        places[name] = next((place for place in candidates if os.path.isfile(place)), None)
    if places[name] is None:
        return f"there is no image {_shown(name)} in {base} or {base / 'images'}"
    captions = entry.get("caption") or []
    captions = [captions] if isinstance(captions, str) else captions
    labels = entry.get("labels", entry.get("label"))
    labels = labels.split("|") if isinstance(labels, str) and "labels" in entry else labels
    labels = [] if labels is None or labels == "" else labels if isinstance(labels, list) else [labels]
    if not isinstance(captions, list) or not all(isinstance(each, str) and each.strip() for each in captions):
        return "a caption is no text"
    if not all(isinstance(each, str | int) for each in labels):
        return "a label is neither text nor a whole number"
    split = str(entry.get("split") or "").strip()
    if name in rows and split and rows[name].split not in ("", split):
        return f"{_shown(name)} is in split {_shown(split)}, and above in {_shown(rows[name].split)}"
    row = rows.setdefault(name, _Row())
    row.captions += captions
    row.labels += [str(each).strip() for each in labels if str(each).strip()]
    row.split = split or row.split
    return ""


def _shown(text: str) -> str:
    """On one line, not too long, and without what no terminal can print."""
    return repr(text if len(text) <= 100 else f"{text[:97]}...")[1:-1]


def _arrays(path: Path, rows: Mapping[str, _Row]) -> tuple[dict[str, np.ndarray], list[str]]:
    with_caption, with_label = [sum(bool(getattr(row, key)) for row in rows.values()) for key in ("captions", "labels")]
    for what, count in (("caption", with_caption), ("label", with_label)):
        if 0 < count < len(rows):
            name = next(name for name, row in rows.items() if not getattr(row, f"{what}s"))
            lacking = f"{len(rows) - count} of {len(rows)} images have no {what}"
            raise UserError(f"{path}: {lacking}, the first is {_shown(name)}")
    arrays = pack([row.captions for row in rows.values()]) if with_caption else {}
    if not with_label:
        return arrays, []
    words = {label for row in rows.values() for label in row.labels}
    numeric = all(word.isdecimal() for word in words)
    outside = next((word for word in sorted(words) if numeric and (len(word) > 9 or int(word) >= MAX_CLASSES)), None)
    if outside is not None:
        raise UserError(f"{path}: label {_shown(outside)}, classes reach from 0 to {MAX_CLASSES - 1}")
    classes = [str(n) for n in range(max(map(int, words)) + 1)] if numeric else sorted(words)
    number = {name: position for position, name in enumerate(classes)}
    numbers = [sorted({number[str(int(each)) if numeric else each] for each in row.labels}) for row in rows.values()]
    if all(len(each) == 1 for each in numbers):
        return {**arrays, "label": np.asarray(numbers, np.int32)[:, 0]}, classes
    if len(numbers) * len(classes) > _MOST_ENTRIES:
        raise UserError(f"{path}: {len(numbers)} images with several of {len(classes)} classes need too much memory")
    return {**arrays, "label": several_hot(numbers, len(classes))}, classes


def _entries(path: Path, content: bytes) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yields ``(line number, entry)``, or ``(line number, what is wrong with it)``."""
    content = content.removeprefix(b"\xef\xbb\xbf")
    if path.suffix.lower() in (".jsonl", ".json", ".ndjson"):
        for number, line in enumerate(content.splitlines(), start=1):
            if line.strip():
                yield number, _json(line)
        return
    lines = []
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        try:
            lines.append(line.decode())
        except UnicodeDecodeError as error:
            yield number, f"broken UTF-8 at byte {error.start}"
            lines.append("\n")
    delimiter = "\t" if lines and "\t" in lines[0] else ","
    columns: list[str] | None = None
    for number, row in _records(lines, delimiter):
        if isinstance(row, str):
            yield number, row
        elif columns is None:
            columns = _columns(path, [name.strip() for name in row])
        elif row and len(row) < len(columns):
            yield number, f"{len(row)} columns instead of {len(columns)}"
        elif row:
            # A caption with commas that nobody quoted spreads over the last columns.
            spread = [*row[: len(columns) - 1], delimiter.join(row[len(columns) - 1 :])]
            yield number, {key: value for key, value in zip(columns, spread, strict=True) if key}
    if columns is None:
        _columns(path, [])


def _records(lines: list[str], delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """Yields ``(number of its first line, columns)``, or what is wrong with the line.

    A quotation mark that nobody closed would swallow all lines below it; only its own line is lost.
    """
    start = 0
    while start < len(lines):
        reader = csv.reader(lines[start:], delimiter=delimiter, strict=True)
        first = start
        try:
            for row in reader:
                yield first + 1, row
                first = start + reader.line_num
            return
        except csv.Error as error:
            try:
                closed = f"{lines[first].rstrip()}{delimiter}|"
                (row,) = csv.reader([closed], delimiter=delimiter)
            except (csv.Error, ValueError):
                row = []
            # What stands behind a quoted part is taken as it is; a mark that was not closed took the end with it.
            yield first + 1, row[:-1] if row[-1:] == ["|"] else " ".join(str(error).split())
            start = first + 1


def _json(line: bytes) -> dict[str, Any] | str:
    try:
        entry = json.loads(line.decode())
    except UnicodeDecodeError as error:
        return f"broken UTF-8 at byte {error.start}"
    except (ValueError, RecursionError) as error:
        return f"no JSON: {' '.join(str(error).split())}"
    if not isinstance(entry, dict):
        return "no JSON object"
    return {key: entry[name] for key, names in COLUMNS.items() for name in names[::-1] if name in entry}


def _columns(path: Path, header: list[str]) -> list[str]:
    """The known name of each column, empty for those that are not used."""
    known = {name: key for key, names in COLUMNS.items() for name in names}
    columns = [known.get(name.lower(), "") for name in header]
    ranks = [COLUMNS[key].index(name.lower()) if key else 0 for key, name in zip(columns, header, strict=True)]
    for place, (key, rank) in enumerate(zip(columns, ranks, strict=True)):
        if (rank, place) != min((r, p) for p, (k, r) in enumerate(zip(columns, ranks, strict=True)) if k == key):
            columns[place] = ""  # of two columns that could be it, the one whose name is more usual
    if "image" not in columns:
        near = "".join(did_you_mean(name, known) for name in header[:1])
        raise UserError(f"{path}: its first line names no column image{near}; it reads: {_shown(', '.join(header))}")
    return columns
