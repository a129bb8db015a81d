"""Curves for a page, as inline SVG that fits light and dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vision.analysis import page
from vision.analysis.drawing import PALETTE, drawn
from vision.analysis.runs import Points

MOST_POINTS = 400
_LARGEST = 1e100  # axes overflow beyond, and float32 ends long before


@dataclass(frozen=True)
class Curve:
    """One line of a figure: its label, its ``(step, value)`` points and its place in the palette."""

    label: str
    points: Points
    place: int

    @property
    def color(self) -> str:
        """The line's colour."""
        return PALETTE[self.place % len(PALETTE)]

    @property
    def dashed(self) -> bool:
        """Whether the palette has come round once."""
        return self.place // len(PALETTE) % 2 == 1

    def drawable(self) -> Points:
        """The points whose value is finite and has a place on an axis."""
        return [(step, value) for step, value in self.points if abs(value) < _LARGEST]

    def missing(self) -> str:
        """Says where there are no such points; an empty string where all are."""
        steps = [step for step, value in self.points if not abs(value) < _LARGEST]
        if not steps:
            return ""
        where = f"at {len(steps)} of {len(self.points)} points, first at step {steps[0]}"
        return f"{self.label} is not finite, or beyond {_LARGEST:g}, {where}."


def curves(title: str, lines: Sequence[Curve], *, identifier: str) -> str:
    """Returns a figure of curves over the step, with its legend and what cannot be drawn in words.

    A curve of more than ``MOST_POINTS`` points is drawn as the mean over stretches of steps, with their range behind.

    Args:
      title: what the values are.
      lines: the curves.
      identifier: a word that no other figure of the page has.
    """
    drawn = [line.drawable() for line in lines]
    values = [value for points in drawn for _, value in points]
    logarithmic = bool(values) and min(values) > 0 and max(values) > 50 * min(values)
    legend = "".join(
        f"<span><i style='color: {line.color}; border-top-style: {'dashed' if line.dashed else 'solid'}'></i>"
        f"{page.escape(line.label)}</span>"
        for line in lines
    )
    caption = f"<b>{page.escape(title)}</b>{' (logarithmic)' if logarithmic else ''}{legend}"
    picture = _svg(title, lines, logarithmic, identifier) if values else ""
    notes = [line.missing() for line in lines]
    if any(len(points) > MOST_POINTS for points in drawn):
        notes.append("Means over stretches of steps; the band is their range.")
    said = "".join(f"<p class='note'>{page.escape(note)}</p>" for note in notes if note)
    return f"<figure><figcaption>{caption}</figcaption>{picture}{said}</figure>\n"


def _svg(title: str, lines: Sequence[Curve], logarithmic: bool, identifier: str) -> str:
    def draw(axes: Any) -> None:
        from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

        if logarithmic:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0,), numticks=6))
        for line in lines:
            _draw(axes, line)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.set_xlabel("step")

    return drawn(draw, label=f"{title} over steps", identifier=identifier)


def _draw(axes, line: Curve) -> None:
    points = line.drawable()
    dashes = "--" if line.dashed else "-"
    if len(points) > MOST_POINTS:
        size = math.ceil(len(points) / MOST_POINTS)
        stretches = [points[start : start + size] for start in range(0, len(points), size)]
        steps = [stretch[-1][0] for stretch in stretches]
        columns = [[value for _, value in stretch] for stretch in stretches]
        axes.fill_between(
            steps, [min(c) for c in columns], [max(c) for c in columns], color=line.color, alpha=0.2, linewidth=0
        )
        points = [(step, sum(c) / len(c)) for step, c in zip(steps, columns, strict=True)]
    marker = "o" if len(points) <= 30 else None
    x, y = [step for step, _ in points], [value for _, value in points]
    axes.plot(x, y, color=line.color, linestyle=dashes, linewidth=1.5, marker=marker, markersize=3)
