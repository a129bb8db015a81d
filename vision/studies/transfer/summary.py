"""Means over seeds, their spread, and which differences are outside it."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]
MEASURED = ("test_accuracy", "train_accuracy", "gap", "seconds", "step_seconds")


def row(method: str, share: Mapping[str, Any], cells: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> Row:
    """Returns a row of the table.

    Args:
      method: its name.
      share: ``percent``, ``labels`` and ``steps``.
      cells: what was measured with each seed.
      settings: what was chosen, and how.
    """
    whole = [{**each, "gap": each["train_accuracy"] - each["test_accuracy"]} for each in cells]
    means: Row = {}
    for name in MEASURED:
        values = [each[name] for each in whole if each.get(name) is not None]
        means[name] = statistics.fmean(values) if values else None
    accuracies = [each["test_accuracy"] for each in whole]
    return {
        "method": method,
        "percent": share["percent"],
        "labels": share["labels"],
        "steps": share["steps"],
        "seeds": len(cells),
        **means,
        "test_accuracies": accuracies,
        "test_accuracy_sd": spread(accuracies),
        "gap_sd": spread([each["gap"] for each in whole]),
        "settings": dict(settings),
    }


def spread(values: Sequence[float]) -> float | None:
    """Returns the standard deviation of a sample; None of a single value."""
    return statistics.stdev(values) if len(values) > 1 else None


def pooled(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Returns the pooled standard deviation of two samples; None where one is a single value."""
    if min(len(first), len(second)) < 2:
        return None
    squares = sum((len(each) - 1) * statistics.variance(each) for each in (first, second))
    return (squares / (len(first) + len(second) - 2)) ** 0.5


def margins(rows: Sequence[Row], base: str = "scratch") -> list[Row]:
    """Returns how far each row is above that of another method with as many labels.

    Args:
      rows: of the table.
      base: name of the other method.

    Returns:
      ``method``, ``percent``, ``difference`` of the mean test accuracies, ``pooled_sd``, and ``outside``: whether the
      difference is more than twice that, in either direction; None where there are single seeds.
    """
    under = {each["percent"]: each for each in rows if each["method"] == base}
    made = []
    for each in rows:
        other = under.get(each["percent"])
        if other is None or each is other:
            continue
        difference = each["test_accuracy"] - other["test_accuracy"]
        deviation = pooled(each["test_accuracies"], other["test_accuracies"])
        outside = None if deviation is None else abs(difference) > 2 * deviation
        place = {"method": each["method"], "percent": each["percent"], "over": base}
        made.append({**place, "difference": difference, "pooled_sd": deviation, "outside": outside})
    return made
