"""Pictures by matplotlib as inline SVG: one style, the page's own text colour, light and dark."""

import io
import re
from collections.abc import Callable
from typing import Any

from vision.analysis import page

# Middle tones, at least 3:1 against both white and the dark paper.
PALETTE = ("#3b82f6", "#e8590c", "#2f9e44", "#c243c9", "#0c8599", "#b7791f", "#e64980", "#7c6cf0")
GREY = "#808080"
INK = "#010203"  # stands for the page's own text colour until the SVG is in the page


def drawn(
    draw: Callable[..., None],
    *,
    label: str,
    identifier: str,
    size: tuple[float, float] = (4.6, 2.5),
    panels: tuple[int, int] = (1, 1),
    share: bool = False,
) -> str:
    """Returns what ``draw(axes, ...)`` draws, as SVG inside a page.

    Args:
      draw: takes the axes of each panel, row by row.
      label: what the picture shows, for who cannot see it.
      identifier: a word that no other picture of the page has.
      size: width and height in inches.
      panels: rows and columns.
      share: whether the panels have the same axes.
    """
    # Not pyplot, and the style only for as long as this takes: a notebook keeps its backend, figures and style.
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", {"svg.fonttype": "none", "svg.hashsalt": identifier, "font.size": 9}]):
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(*panels, squeeze=False, sharex=share, sharey=share).ravel()
        for axes in grid:
            _plain(axes)
        draw(*grid)
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True)
    return _inline(written.getvalue(), label, identifier)


def _plain(axes: Any) -> None:
    for text in (axes.xaxis.label, axes.yaxis.label, axes.title):
        text.set_color(INK)
    axes.tick_params(which="both", labelcolor=INK, color=GREY)
    axes.grid(color=GREY, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GREY)


def _inline(svg: str, label: str, identifier: str) -> str:
    """Returns a stand-alone SVG as part of a page: no prologue, ids of its own, the page's text colour."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s+(?:xmlns(?::\w+)?|version)="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{identifier}-", svg)
    svg = svg.replace(INK, "currentColor")
    return svg.replace("<svg", f"<svg role='img' aria-label='{page.escape(label)}'", 1)
