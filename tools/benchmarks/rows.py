"""What a suite is told, what it returns, and the table that people read."""

import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).parents[2]
QUICKSTART = "configs/quickstart.py"


@dataclass(frozen=True)
class Settings:
    """How a suite is to measure.

    Attributes:
      scratch: an empty folder for what the measured code writes.
      repeats: of every measurement, or None for each suite's own number.
      quick: the smallest setting that still runs every line; its numbers say nothing.
      jpegs: a folder of JPEG files, one folder for each class, or None to make them.
      peers: ``torch`` and ``tensorflow`` -> an interpreter that has it.
    """

    scratch: Path
    repeats: int | None = None
    quick: bool = False
    jpegs: Path | None = None
    peers: Mapping[str, str] = field(default_factory=dict)

    def times(self, usual: int) -> int:
        """Returns how often to repeat what is usually repeated ``usual`` times."""
        return self.repeats or (1 if self.quick else usual)


@dataclass(frozen=True)
class Row:
    """One measured quantity.

    Attributes:
      suite: name of the suite.
      name: what was measured.
      values: one number for each repeat, in the order of measurement.
      unit: of the numbers.
      aim: what the median should be below, or at least; None where nothing is asked.
      better: whether ``less`` or ``more`` of it is wanted.
    """

    suite: str
    name: str
    values: tuple[float, ...]
    unit: str
    aim: float | None = None
    better: Literal["less", "more"] = "less"

    @property
    def median(self) -> float:
        """The median over the repeats."""
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Between them lies the middle half of the repeats."""
        if len(self.values) == 1:
            return self.values[0], self.values[0]
        lower, _, upper = statistics.quantiles(self.values, method="inclusive")
        return lower, upper

    @property
    def met(self) -> bool | None:
        """Whether the median is below the aim, or where more is better not below it; None without an aim."""
        if self.aim is None:
            return None
        return self.median < self.aim if self.better == "less" else self.median >= self.aim

    def as_json(self) -> dict[str, Any]:
        """Returns the row as it stands in the JSON file."""
        return {
            "suite": self.suite,
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "quartiles": list(self.quartiles),
            "min": min(self.values),
            "max": max(self.values),
            "repeats": len(self.values),
            "aim": self.aim,
            "better": self.better,
            "met": self.met,
            "values": list(self.values),
        }


def seconds_of(function: Callable[[], object]) -> float:
    """Returns how long a call takes; the caller sees to it that it ends when its work has."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def table(rows: Iterable[Row]) -> str:
    """Returns the rows as aligned text, with the median, the quartiles and the extremes of the repeats."""
    lines: list[Sequence[str]] = [("suite", "what", "median", "25 %", "75 %", "min", "max", "unit", "n", "aim", "")]
    for row in rows:
        numbers = [_number(value) for value in (row.median, *row.quartiles, min(row.values), max(row.values))]
        aim = "" if row.aim is None else f"{'<' if row.better == 'less' else '>='} {_number(row.aim)}"
        verdict = {None: "", True: "met", False: "MISSED"}[row.met]
        lines.append((row.suite, row.name, *numbers, row.unit, str(len(row.values)), aim, verdict))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    right = {2, 3, 4, 5, 6, 8}
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def say(text: str) -> None:
    """Tells a waiting person what is being measured."""
    print(text, file=sys.stderr, flush=True)


def _number(value: float) -> str:
    """Three digits, and all of those before the point."""
    size = abs(value)
    return f"{value:,.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3}f}"
