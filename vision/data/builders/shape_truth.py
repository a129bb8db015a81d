"""Whether a caption is true of a scene of shapes, whichever picture it was written for.

A caption says that something is there: it is true of a picture where *any* object, not only the main one, makes it so.
"a red circle at the top left" is true beside a larger square, "a red circle above a blue square" of any two such
objects whose cells lie in different rows. Two forms speak of everything there is and tolerate nothing else: the count
("two shapes on a white background"), and the list ("a red circle and a blue square"), which is how a picture of
exactly these objects is told from one that has a third. Words of size are those of the drawing: *large* is a class
of radii and compares nothing.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from vision.data.builders.shape_captions import COUNTS, FORMS
from vision.data.builders.shape_scenes import BACKGROUNDS, CELLS, COLORS, MOST_OBJECTS, SHAPES, SIZES, Scenes

_ABSENT = -1


@dataclass(frozen=True)
class Contents:
    """What is in the pictures, in the columns of :class:`vision.data.builders.shape_scenes.Scenes`; -1: no object.

    Attributes:
      color: position in ``COLORS`` of each object.
      shape: position in ``SHAPES``.
      size: position in ``SIZES``.
      cell: position in ``CELLS``.
      background: position in ``BACKGROUNDS``.
    """

    color: Int64[np.ndarray, "scene 3"]
    shape: Int64[np.ndarray, "scene 3"]
    size: Int64[np.ndarray, "scene 3"]
    cell: Int64[np.ndarray, "scene 3"]
    background: Int64[np.ndarray, " scene"]

    def __len__(self) -> int:
        return len(self.background)


def of_scenes(scenes: Scenes) -> Contents:
    """Returns what is in drawn scenes."""
    there = np.arange(MOST_OBJECTS) < scenes.num_objects[:, None]
    objects = {name: np.where(there, getattr(scenes, name), _ABSENT) for name in ("color", "shape", "size", "cell")}
    return Contents(**objects, background=scenes.background)


def of_records(records: Iterable[Mapping[str, Any]]) -> Contents:
    """Returns what is in prepared examples, with the features ``objects`` and ``background`` of the builder."""
    kept = [(record["objects"], int(record["background"])) for record in records]
    columns = {name: np.full((len(kept), MOST_OBJECTS), _ABSENT) for name in ("color", "shape", "size", "cell")}
    for row, (objects, _) in enumerate(kept):
        for name, column in columns.items():
            values = np.asarray(objects[name])
            column[row, : len(values)] = values
    return Contents(**columns, background=np.array([background for _, background in kept], np.int64))


def is_true(caption: str, scene: Contents) -> bool:
    """Returns whether a caption is true of one scene.

    Raises:
      ValueError: the caption has none of the forms of :func:`vision.data.builders.shape_captions.captions`, or there
        are several scenes.
    """
    if len(scene) != 1:
        raise ValueError(f"one scene is asked for, got {len(scene)}; true_of takes several")
    return bool(true_of(caption, scene)[0])


def true_of(caption: str, scenes: Contents) -> Bool[np.ndarray, " scene"]:
    """Returns of which scenes a caption is true.

    Raises:
      ValueError: the caption has none of the forms of :func:`vision.data.builders.shape_captions.captions`.
    """
    claim = _claim(caption)
    named = [_matches(thing, scenes) for thing in claim.things]
    holds = np.ones(len(scenes), bool)
    if claim.background is not None:
        holds &= scenes.background == claim.background
    if claim.count is not None:
        holds &= (scenes.color != _ABSENT).sum(axis=1) == claim.count
    if claim.relation is not None:
        first, second = named
        return holds & _related(first, second, claim.relation, scenes)
    for each in named:
        holds &= each.any(axis=1)
    if claim.complete:
        holds &= (np.any(named, axis=0) | (scenes.color == _ABSENT)).all(axis=1)
        holds &= (scenes.color != _ABSENT).sum(axis=1) == len(named)
    return holds


def truth_table(captions: Sequence[str], scenes: Contents) -> Bool[np.ndarray, "captions scene"]:
    """Returns which captions are true of which scenes; equal captions are judged once.

    Raises:
      ValueError: a caption has none of the known forms.
    """
    different, rows = np.unique(np.asarray(captions, dtype=object).astype(str), return_inverse=True)
    return np.stack([true_of(str(caption), scenes) for caption in different])[rows]


@dataclass(frozen=True)
class _Thing:
    """An object as a caption names it; None where it does not say."""

    color: int
    shape: int
    size: int | None
    cell: int | None


@dataclass(frozen=True)
class _Claim:
    """What a caption says.

    Attributes:
      things: objects that are there.
      complete: whether there are no others.
      count: how many there are.
      background: position in ``BACKGROUNDS``.
      relation: where the first is, seen from the second.
    """

    things: tuple[_Thing, ...] = ()
    complete: bool = False
    count: int | None = None
    background: int | None = None
    relation: str | None = None


def _any_of(words: Iterable[str]) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


_GROUND = rf"(?: on an? (?P<background>{_any_of(BACKGROUNDS)}) background)?"
_NAMED = rf"an? (?:(?:{_any_of(SIZES)}) )?(?:{_any_of(COLORS)}) (?:{_any_of(SHAPES)})"
_THING = re.compile(rf"an? (?:({_any_of(SIZES)}) )?({_any_of(COLORS)}) ({_any_of(SHAPES)})")
_COUNT = re.compile(rf"(?P<count>{_any_of(COUNTS)}){_GROUND}")
_ONE = re.compile(rf"{_NAMED}(?: (?:at|on|in) the (?P<cell>{_any_of(CELLS)}))?{_GROUND}")
_LIST = re.compile(rf"{_NAMED}(?:, {_NAMED})* and {_NAMED}")
_RELATION = re.compile(rf"{_NAMED} (?P<relation>to the left of|to the right of|above|below) {_NAMED}")


@lru_cache(maxsize=2**16)
def _claim(caption: str) -> _Claim:
    """Reads a caption.

    Raises:
      ValueError: it has none of the known forms.
    """
    for form in (_COUNT, _ONE, _LIST, _RELATION):
        if found := form.fullmatch(caption):
            break
    else:
        raise ValueError(f"{caption!r} is no caption of shapes; there are the forms {', '.join(FORMS)}")
    told = found.groupdict()
    background = list(BACKGROUNDS).index(told["background"]) if told.get("background") else None
    if form is _COUNT:
        return _Claim(count=COUNTS.index(told["count"]), background=background)
    cell = CELLS.index(told["cell"]) if told.get("cell") else None
    things = tuple(
        _Thing(list(COLORS).index(color), SHAPES.index(shape), SIZES.index(size) if size else None, cell)
        for size, color, shape in _THING.findall(caption)
    )
    return _Claim(things, form is _LIST, None, background, told.get("relation"))


def _matches(thing: _Thing, scenes: Contents) -> Bool[np.ndarray, "scene 3"]:
    """Returns which objects are what a caption names."""
    found = (scenes.color == thing.color) & (scenes.shape == thing.shape)
    if thing.size is not None:
        found &= scenes.size == thing.size
    if thing.cell is not None:
        found &= scenes.cell == thing.cell
    return found


def _related(
    first: Bool[np.ndarray, "scene 3"], second: Bool[np.ndarray, "scene 3"], relation: str, scenes: Contents
) -> Bool[np.ndarray, " scene"]:
    """Returns where an object of ``first`` lies so to one of ``second``, by the rows or columns of their cells."""
    row, column = np.divmod(scenes.cell, 3)
    along = row if relation in ("above", "below") else column
    before = along[:, :, None] < along[:, None, :]
    holds = before if relation in ("above", "to the left of") else before.transpose(0, 2, 1)
    return (holds & first[:, :, None] & second[:, None, :]).any(axis=(1, 2))
