"""The layout of another library's arrays into ours, and back; nothing is read or written here."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from vision.errors import UserError
from vision.interop.fit import POSITIONS, Shape
from vision.interop.names import Naming, Pair
from vision.interop.recognise import Recognised, with_head

Arrays = dict[str, np.ndarray]


class Laid(NamedTuple):
    """Arrays in our layout, ready for :func:`vision.interop.fit.fit`.

    Attributes:
      arrays: by our path; those no pair stands for by the file's name.
      misshapen: paths whose arrays have another shape, ``(file, model)`` in the file's layout.
      names: our path -> the names in the file.
    """

    arrays: Arrays
    misshapen: dict[str, tuple[Shape, Shape]]
    names: dict[str, str]


def to_ours(arrays: Mapping[str, np.ndarray], recognised: Recognised, module: Any, wanted: Mapping[str, Any]) -> Laid:
    """Lays a file's arrays out as ours.

    Args:
      arrays: by the file's names.
      recognised: how these are to be read.
      module: of the model.
      wanted: ``{path: shape and dtype}`` of the model.
    """
    laid = Laid({name: arrays[name] for name in recognised.unknown}, {}, {})
    for pair in recognised.naming.pairs(with_head(module)):
        laid.names.update(dict.fromkeys(pair.ours, ", ".join(pair.theirs)))
        if not all(name in recognised.names for name in pair.theirs):
            present = [recognised.names[name] for name in pair.theirs if name in recognised.names]
            laid.arrays.update({name: arrays[name] for name in present})
            continue
        theirs = [arrays[recognised.names[name]] for name in pair.theirs]
        if all(path in wanted for path in pair.ours):
            _lay(pair, theirs, wanted, laid)
        else:
            laid.arrays.update(_headless(pair, theirs))
    return laid


def to_theirs(arrays: Mapping[str, np.ndarray], naming: Naming, module: Any) -> Arrays:
    """Returns our arrays under their names and in their layout, contiguous.

    Raises:
      UserError: the naming has no name for some array, an array is missing, or the names fix a size that it has not.
    """
    pairs = naming.pairs(module)
    covered = [path for pair in pairs for path in pair.ours]
    nameless, missing = sorted(set(arrays) - set(covered)), sorted(set(covered) - set(arrays))
    for words, paths in (("there is no name for", nameless), ("these are missing:", missing)):
        if paths:
            raise UserError(f"{words} {', '.join(paths[:4])}{' ...' if len(paths) > 4 else ''}")
    made: Arrays = {}
    for pair in pairs:
        made.update(zip(pair.theirs, _theirs(pair, [arrays[path] for path in pair.ours]), strict=True))
    return {name: np.asarray(array, order="C") for name, array in made.items()}


def unfaithful(arrays: Mapping[str, np.ndarray], naming: Naming, module: Any) -> list[str]:
    """Returns the paths of arrays that would not come back bit for bit, because their names fold several into one."""
    changed = []
    for pair in naming.pairs(module):
        ours = [arrays[path] for path in pair.ours]
        back = pair.to_ours(*pair.to_theirs(*ours))
        changed += [
            path
            for path, before, after in zip(pair.ours, ours, back, strict=True)
            if path.rsplit("/", 1)[-1] != POSITIONS and before.tobytes() != after.tobytes()
        ]
    return changed


def shapes_of(pair: Pair, wanted: Mapping[str, Any]) -> tuple[Shape, ...]:
    """Returns the shapes of a pair's arrays in their layout, without filling any memory where they are moved only."""
    zeros = [np.broadcast_to(np.zeros((), np.float32), tuple(wanted[path].shape)) for path in pair.ours]
    return tuple(tuple(array.shape) for array in _theirs(pair, zeros))


def _theirs(pair: Pair, ours: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    try:
        return pair.to_theirs(*ours)
    except ValueError as error:
        shapes = ", ".join(f"{path} {list(array.shape)}" for path, array in zip(pair.ours, ours, strict=True))
        raise UserError(
            f"{', '.join(pair.theirs)} cannot hold {shapes}: these names are for images of another size"
        ) from error


def _lay(pair: Pair, theirs: list[np.ndarray], wanted: Mapping[str, Any], laid: Laid) -> None:
    found, expected = tuple(array.shape for array in theirs), shapes_of(pair, wanted)
    has_positions = any(path.rsplit("/", 1)[-1] == POSITIONS for path in pair.ours)
    if found == expected or has_positions:
        try:
            ours = pair.to_ours(*theirs)
        except ValueError:  # the layout was not that of such an array; both shapes are told
            ours = None
        if ours is not None:
            _check_lossless(pair, ours, theirs)
            laid.arrays.update(zip(pair.ours, ours, strict=True))
            return
    for path in pair.ours:
        at = min(next((i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b), 0), len(found) - 1)
        laid.misshapen[path] = (found[at], expected[at])


def _check_lossless(pair: Pair, ours: tuple[np.ndarray, ...], theirs: list[np.ndarray]) -> None:
    """Numbers that have no place in our layout, such as weights where we have no connection, are not dropped."""
    for name, before, after in zip(pair.theirs, theirs, pair.to_theirs(*ours), strict=True):
        if not np.array_equal(before, after, equal_nan=jnp.issubdtype(before.dtype, jnp.inexact)):
            raise UserError(f"{name} holds numbers for which {', '.join(pair.ours)} has no place")


def _headless(pair: Pair, theirs: list[np.ndarray]) -> Arrays:
    """The head of a file for a model that has none, under our paths, so that it can be named as such."""
    try:
        return dict(zip(pair.ours, pair.to_ours(*theirs), strict=True))
    except ValueError:
        return dict(zip(pair.theirs, theirs, strict=True))
