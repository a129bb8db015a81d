"""Two checkpoints held against each other, array by array and bit by bit."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vision.training.checkpoint import load_arrays
from vision.training.logging import read_metrics


class Row(NamedTuple):
    """One array of two checkpoints.

    Attributes:
      path: where it stands in the state.
      what: its type and shape, or both sides' where they differ.
      equal: whether every bit is the same.
      difference: largest absolute difference; NaN where there is none to speak of.
    """

    path: str
    what: str
    equal: bool
    difference: float


def compare(a: str | Path, b: str | Path, *, step_a: int | None = None, step_b: int | None = None) -> list[Row]:
    """Returns a row for each array of two runs' checkpoints (the newest, or of the given steps).

    Raises:
      UserError: a run or a step does not exist, or a checkpoint is damaged.
    """
    return compare_arrays(load_arrays(a, step_a)[1], load_arrays(b, step_b)[1])


def compare_arrays(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Row]:
    """Returns a row for each array of either side, in the order of the paths."""
    return [_row(path, a.get(path), b.get(path)) for path in sorted({*a, *b})]


def compare_metrics(a: str | Path, b: str | Path) -> list[str]:
    """Returns a sentence for each difference of two runs' metrics.jsonl; speed is no result and left out."""
    lines_a, lines_b = (_without_speed(read_metrics(Path(run) / "metrics.jsonl")) for run in (a, b))
    problems = [] if len(lines_a) == len(lines_b) else [f"{len(lines_a)} lines against {len(lines_b)}"]
    for one, other in zip(lines_a, lines_b, strict=False):
        for name in sorted({*one, *other}):
            if one.get(name) != other.get(name):
                problems.append(f"step {one['step']}: {name} is {one.get(name)!r} against {other.get(name)!r}")
    return problems


def table(rows: Sequence[Row]) -> str:
    """Returns the rows as a table for people."""
    width = max(len(row.path) for row in rows)
    middle = max(len(row.what) for row in rows)
    return "\n".join(
        f"{row.path:<{width}}  {row.what:<{middle}}  "
        + ("equal" if row.equal else f"DIFFERENT  largest difference {row.difference:.3g}")
        for row in rows
    )


def _row(path: str, a: Any, b: Any) -> Row:
    if a is None or b is None:
        return Row(path, f"only in the {'second' if a is None else 'first'}", False, float("nan"))
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return Row(path, f"{a.dtype}{list(a.shape)} against {b.dtype}{list(b.shape)}", False, float("nan"))
    equal = a.tobytes() == b.tobytes()
    with np.errstate(all="ignore"):
        difference = 0.0 if equal else float(np.max(np.abs(a.astype(np.float64) - b.astype(np.float64))))
    return Row(path, f"{a.dtype}{list(a.shape)}", equal, difference)


def _without_speed(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if not name.startswith("speed/")} for line in lines]
