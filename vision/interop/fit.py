"""Arrays from elsewhere against the arrays of a model: what fits, what differs, and what was allowed to."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

from vision.errors import UserError

Shape = tuple[int, ...]
Resize = Callable[[np.ndarray, tuple[int, int]], np.ndarray]
POSITIONS = "position_embedding"
_SHOWN = 4


@dataclass(frozen=True)
class Report:
    """What became of each array; empty apart from ``fitted`` where everything fits as it is.

    Paths are ours, such as ``params/head/kernel``; arrays that no name of ours stands for keep the file's.

    Attributes:
      fitted: paths that were taken over.
      only_in_source: the source has them, the model has not.
      only_in_model: the reverse; the model keeps its own values.
      other_shapes: ``(source, model)``; the model keeps its own values.
      resized: learned positions brought to another grid, ``(source, model)``.
      converted: types of the source that were changed to the model's, with the number of arrays.
      not_finite: paths whose numbers are not all finite.
    """

    fitted: tuple[str, ...] = ()
    only_in_source: Mapping[str, Shape] = field(default_factory=dict)
    only_in_model: Mapping[str, Shape] = field(default_factory=dict)
    other_shapes: Mapping[str, tuple[Shape, Shape]] = field(default_factory=dict)
    resized: Mapping[str, tuple[Shape, Shape]] = field(default_factory=dict)
    converted: Mapping[str, int] = field(default_factory=dict)
    not_finite: tuple[str, ...] = ()

    @property
    def fresh(self) -> tuple[str, ...]:
        """Paths of the model that the source does not fill."""
        return (*self.only_in_model, *self.other_shapes)

    def lines(self) -> list[str]:
        """Returns the report for people, a line for each kind of difference."""
        made = [f"{len(self.fitted)} arrays fit"]
        for label, entries in (
            ("left as initialised", [*_shaped(self.only_in_model), *_both(self.other_shapes)]),
            ("not used", _shaped(self.only_in_source)),
            ("resized", _both(self.resized)),
            ("converted", [f"{count} arrays from {name}" for name, count in self.converted.items()]),
            ("not finite", list(self.not_finite)),
        ):
            if entries:
                made.append(f"{label}: {', '.join(entries)}")
        return made


@dataclass(frozen=True)
class Fit:
    """Arrays of the model's shapes and types by path, and what is to be known about them."""

    arrays: Mapping[str, np.ndarray]
    report: Report


def fit(
    arrays: Mapping[str, np.ndarray],
    wanted: Mapping[str, Any],
    *,
    may_differ: Sequence[str] = (),
    resize: Resize | None = None,
    misshapen: Mapping[str, tuple[Shape, Shape]] | None = None,
    names: Mapping[str, str] | None = None,
    source: str = "the source",
) -> Fit:
    """Holds arrays against those of a model.

    Args:
      arrays: by path; whatever is no path of the model counts as only in the source.
      wanted: ``{path: shape and dtype}`` of the model, see :func:`vision.interop.trees.flat`.
      may_differ: regular expressions, searched in paths (and in the file's names). Where one matches, an array may
        be missing on either side or have another shape: it is then left out of what is returned.
      resize: ``(positions, grid) -> positions``, for learned positions of another grid; None refuses them.
      misshapen: paths whose arrays could not be laid out as ours, ``(source, model)`` in the source's layout.
      names: the source's name for a path, or for an array of ``arrays`` our path.
      source: for messages.

    Raises:
      UserError: something differs that may not; the message says which arrays, on which side, with both shapes. Or
        nothing fits at all, or an array holds something else than real numbers.
    """
    names, misshapen = dict(names or {}), dict(misshapen or {})
    patterns = compile_patterns(may_differ)
    taken: dict[str, np.ndarray] = {}
    resized: dict[str, tuple[Shape, Shape]] = {}
    other = dict(misshapen)
    converted: dict[str, int] = {}
    for path in [path for path in arrays if path in wanted]:
        array, shape, dtype = arrays[path], tuple(wanted[path].shape), np.dtype(wanted[path].dtype)
        if _may_resize(path, array.shape, shape) and resize is not None:
            resized[path] = (tuple(array.shape), shape)
            array = np.asarray(resize(array, (shape[0], shape[1])))
        if array.shape != shape:
            other[path] = (tuple(array.shape), shape)
            continue
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise UserError(f"{source}: {_named(path, names)} holds {array.dtype}, no weights")
        if array.dtype != dtype:
            converted[array.dtype.name] = converted.get(array.dtype.name, 0) + 1
        taken[path] = array.astype(dtype, copy=False)
    report = Report(
        fitted=tuple(taken),
        only_in_source={path: tuple(array.shape) for path, array in arrays.items() if path not in wanted},
        only_in_model={
            path: tuple(leaf.shape) for path, leaf in wanted.items() if path not in arrays and path not in misshapen
        },
        other_shapes=other,
        resized=resized,
        converted=converted,
        not_finite=tuple(path for path, array in taken.items() if not np.isfinite(array).all()),
    )
    _refuse(report, patterns, names, source)
    return Fit(taken, report)


def compile_patterns(patterns: Sequence[str]) -> list[re.Pattern[str]]:
    """Returns compiled regular expressions.

    Raises:
      UserError: one is none.
    """
    compiled = []
    for pattern in patterns:
        try:
            compiled.append(re.compile(pattern))
        except re.error as error:
            raise UserError(f"may_differ: {pattern!r} is no regular expression: {error}") from error
    return compiled


def _may_resize(path: str, found: Shape, wanted: Shape) -> bool:
    is_grid = path.rsplit("/", 1)[-1] == POSITIONS and len(found) == len(wanted) == 3
    return is_grid and found != wanted and found[2] == wanted[2]


def _refuse(report: Report, patterns: list[re.Pattern[str]], names: Mapping[str, str], source: str) -> None:
    def allowed(path: str) -> bool:
        return any(pattern.search(word) for pattern in patterns for word in (path, names.get(path, path)))

    kinds: tuple[tuple[str, Mapping[str, Any]], ...] = (
        ("only in the file", report.only_in_source),
        ("only in the model", report.only_in_model),
        ("other shapes", report.other_shapes),
    )
    left = [(label, {path: value for path, value in each.items() if not allowed(path)}) for label, each in kinds]
    paths = [path for _, each in left for path in each]
    parts = [
        f"{label}: {_some(_both(each, names) if label == 'other shapes' else _shaped(each, names))}"
        for label, each in left
        if each
    ]
    if parts:
        heads = all("head" in word for path in paths for word in [f"{path} {names.get(path, '')}"])
        cure = "if the heads may differ, say may_differ 'head'" if heads else "is it the same architecture and size?"
        raise UserError(f"{source} does not fit the model: {'; '.join(parts)}; {cure}")
    if not report.fitted:
        raise UserError(f"{source} does not fit the model: not a single array is for it")


def _named(path: str, names: Mapping[str, str]) -> str:
    return f"{path} ({names[path]})" if path in names else path


def _shaped(entries: Mapping[str, Shape], names: Mapping[str, str] | None = None) -> list[str]:
    return [f"{_named(path, names or {})} {list(shape)}" for path, shape in entries.items()]


def _both(entries: Mapping[str, tuple[Shape, Shape]], names: Mapping[str, str] | None = None) -> list[str]:
    return [
        f"{_named(path, names or {})} (file {list(found)}, model {list(wanted)})"
        for path, (found, wanted) in entries.items()
    ]


def _some(entries: list[str]) -> str:
    more = len(entries) - _SHOWN
    return ", ".join(entries[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
