"""Charts over any quantity, as inline SVG in the style of the curves over steps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vision.analysis import page
from vision.analysis.drawing import GREY, PALETTE, drawn

_LARGEST = 1e100  # axes overflow beyond


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
      label: what the legend says.
      x: where its points are.
      y: their values; what is not finite is left out.
      place: in the palette.
      dashed: drawn with dashes, such as a closed form beside a measurement.
      marked: whether its points have dots.
    """

    label: str
    x: Sequence[float | int]
    y: Sequence[float | int]
    place: int
    dashed: bool = False
    marked: bool = True

    @property
    def color(self) -> str:
        """The line's colour."""
        return PALETTE[self.place % len(PALETTE)]

    def drawable(self) -> tuple[list[float | int], list[float | int]]:
        """The points whose value has a place on an axis."""
        pairs = [(x, y) for x, y in zip(self.x, self.y, strict=True) if abs(y) < _LARGEST]
        return [x for x, _ in pairs], [y for _, y in pairs]


def chart(
    title: str,
    lines: Sequence[Line],
    *,
    x: str,
    identifier: str,
    log_x: bool = False,
    log_y: bool = False,
    y_range: tuple[float, float] | None = None,
    upright: Sequence[tuple[float, str]] = (),
) -> str:
    """Returns a figure of lines with its legend.

    Args:
      title: what the values are.
      lines: the lines.
      x: what the horizontal axis is.
      identifier: a word that no other figure of the page has.
      log_x: a logarithmic horizontal axis.
      log_y: a logarithmic vertical axis; values that are not above 0 are left out.
      y_range: of the vertical axis, where not everything is to be in view.
      upright: positions of upright dotted lines, and what stands there.
    """

    def draw(axes: Any) -> None:
        if log_x:
            axes.set_xscale("log")
        if log_y:
            axes.set_yscale("log", nonpositive="mask")
        for line in lines:
            xs, ys = line.drawable()
            style = {"linestyle": "--" if line.dashed else "-", "marker": "o" if line.marked else None}
            axes.plot(xs, ys, color=line.color, linewidth=1.5, markersize=3, **style)
        for position, _ in upright:
            axes.axvline(position, color=GREY, linestyle=":", linewidth=1.2)
        if y_range is not None:
            axes.set_ylim(*y_range)
        for axis, logarithmic in ((axes.xaxis, log_x), (axes.yaxis, log_y)):
            _plain_numbers(axis, logarithmic)
        axes.set_xlabel(x)

    marks = "".join(f"<span>dotted: {page.escape(text)}</span>" for _, text in upright)
    scale = " (logarithmic)" if log_y else ""
    caption = f"<b>{page.escape(title)}</b>{scale}{legend([(a.label, a.color, a.dashed) for a in lines])}{marks}"
    return figure(caption, drawn(draw, label=title, identifier=identifier))


def figure(caption: str, picture: str) -> str:
    """Returns a picture with what is said of it; both are HTML already."""
    return f"<figure><figcaption>{caption}</figcaption>{picture}</figure>\n"


def grid(figures: Sequence[str]) -> str:
    """Returns figures side by side where the screen is wide enough."""
    return f"<div class='curves'>{''.join(figures)}</div>\n"


def numbers(head: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """Returns a table of numbers whose words stay whole on a narrow screen, where it scrolls."""
    return f"<div style='overflow-wrap: normal'>{page.table(head, rows, kind='numbers')}</div>\n"


def legend(entries: Sequence[tuple[str, str, bool]]) -> str:
    """Returns the legend of ``(label, color, dashed)``."""
    return "".join(
        f"<span><i style='color: {color}; border-top-style: {'dashed' if dashed else 'solid'}'></i>"
        f"{page.escape(label)}</span>"
        for label, color, dashed in entries
    )


def _plain_numbers(axis: Any, logarithmic: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    low, high = axis.get_view_interval()
    if logarithmic and low > 0:
        few = math.log10(high / low) < 2
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=6))
    elif not logarithmic:
        axis.set_major_locator(MaxNLocator(nbins=6))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
