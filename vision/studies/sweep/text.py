"""The table of a sweep on a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from vision.analysis import page
from vision.studies.sweep.plan import Plan
from vision.studies.sweep.space import labels

Trial = Mapping[str, Any]
ABSENT = "–"
_MOST_ROWS = 20


def head(plan: Plan) -> list[str]:
    """Returns the names of the columns of :func:`cells`."""
    return ["trial", *labels(plan.space), plan.section["metric"], "spread", "runs"]


def ranked(content: Mapping[str, Any], plan: Plan) -> list[Trial]:
    """Returns the trials, the best first, those without a result last."""
    sign = -1.0 if plan.mode == "max" else 1.0
    return sorted(
        content["trials"], key=lambda trial: ("mean" not in trial, sign * trial.get("mean", 0.0), trial["number"])
    )


def cells(trial: Trial, plan: Plan) -> list[str]:
    """Returns a row of the table of trials."""
    mean, spread = trial.get("mean"), trial.get("spread")
    return [
        str(trial["number"]),
        *(_readable(trial["params"][each.key]) for each in plan.space),
        trial["state"] if mean is None else f"{mean:.4f}",
        ABSENT if spread is None else f"{spread:.4f}",
        str(len(trial["runs"])),
    ]


def table(content: Mapping[str, Any], plan: Plan) -> str:
    """Returns the trials as lines for people, the best first."""
    trials = ranked(content, plan)
    rows = [head(plan), *(cells(trial, plan) for trial in trials[:_MOST_ROWS])]
    lines = _aligned(rows)
    if len(trials) > _MOST_ROWS:
        lines.append(f"... and {len(trials) - _MOST_ROWS} more")
    tested = (content.get("test") or {}).get("metrics") or {}
    for name, value in tested.items():
        lines.append(f"trial {content['test']['trial']} on {name}: {_mean_and_spread(value)}")
    return "\n".join(lines)


def _mean_and_spread(value: Mapping[str, float | None]) -> str:
    spread = value["spread"]
    return f"{value['mean']:.4f}" + (f" +- {spread:.4f}" if spread is not None else "")


def _readable(value: Any) -> str:
    return page.number(value) if isinstance(value, float) else page.readable(value)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
