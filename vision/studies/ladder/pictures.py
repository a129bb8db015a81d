"""The ladder at a glance: accuracy against cost, and what is learned by heart."""

from collections.abc import Mapping, Sequence
from typing import Any

from vision.analysis import page
from vision.analysis.drawing import GREY, INK, PALETTE, drawn

FAMILIES = {
    "none": "no learning",
    "linear": "linear",
    "neighbours": "nearest neighbours",
    "kernel": "support vectors",
    "trees": "trees",
    "features": "hand-made features",
    "network": "networks",
}
Result = Mapping[str, Any]
Box = tuple[float, float, float, float]
_FONT = 7.0
_PIXELS = 100 / 72  # of a figure, in a point
_MISTAKES = (0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)


def color(family: str) -> str:
    """Returns the colour of a family."""
    return PALETTE[list(FAMILIES).index(family) % len(PALETTE)]


def legend(families: Sequence[str]) -> str:
    """Returns the families with their colours, as HTML."""
    items = "".join(
        f"<span style='white-space: nowrap; margin-right: 1rem'><b style='color: {color(family)}'>●</b> "
        f"{page.escape(title)}</span>"
        for family, title in FAMILIES.items()
        if family in families
    )
    return f"<p class='note'>{items}</p>\n"


def cost(results: Sequence[Result], quantity: str, axis: str, *, identifier: str) -> str:
    """Returns test accuracy over a cost, a point with its name for each rung.

    Both axes are logarithmic, the upright one in the share of mistakes: from 0.98 to 0.99 is as far as from 0.8 to 0.9.

    Args:
      results: of the rungs.
      quantity: the entry of a result that costs.
      axis: what that is, with its unit.
      identifier: a word that no other picture of the page has.
    """

    def draw(axes: Any) -> None:
        points = [(max(each[quantity], 1e-3), max(1 - each["test_accuracy"], 1e-3)) for each in results]
        for (x, y), each in zip(points, results, strict=True):
            axes.plot(x, y, "o", color=color(each["family"]), markersize=5)
        axes.set(xscale="log", yscale="log", xlabel=axis, ylabel="test accuracy")
        axes.margins(x=0.1, y=0.1)
        axes.invert_yaxis()
        least, most = min(y for _, y in points), max(y for _, y in points)
        ticks = [each for each in _MISTAKES if least / 1.3 <= each <= most * 1.3]
        axes.set_yticks(ticks, [f"{1 - each:g}" for each in ticks])
        axes.set_yticks([], minor=True)
        names = [each["name"].replace("_", " ") for each in results]
        for (x, y), name, offset in zip(
            points, names, _places(axes.transData.transform(points).tolist(), names), strict=True
        ):
            axes.annotate(name, (x, y), xytext=offset, textcoords="offset points", fontsize=_FONT, color=INK)

    caption = f"<b>Test accuracy against {page.escape(axis)}</b>"
    picture = drawn(draw, label=f"test accuracy against {axis}", identifier=identifier, size=(7.0, 3.9))
    return f"<figure><figcaption>{caption}</figcaption>{_readable(picture, 36)}</figure>\n"


def _readable(picture: str, width: int) -> str:
    """A picture that scrolls by itself rather than shrink until nobody can read it."""
    return f"<div class='wide'><div style='min-width: {width}rem'>{picture}</div></div>"


def _places(points: Any, names: Sequence[str]) -> list[tuple[float, float]]:
    """Where each name stands beside its point, so that it covers neither another name nor another point."""
    taken = [(x - 3, y - 3, x + 3, y + 3) for x, y in points]
    offsets = []
    for (x, y), name in zip(points, names, strict=True):
        width = 0.55 * _FONT * len(name)
        candidates = [
            (dx, dy) for dy in (-2.0, 4.0, -8.0, 10.0, -14.0, 16.0, -20.0) for dx in (5.0, -width - 5, -width / 2)
        ]

        own = (x - 3, y - 3, x + 3, y + 3)
        others = [box for box in taken if box != own]
        boxes = {each: _box(x, y, each, width) for each in candidates}
        best = min(candidates, key=lambda each: sum(_overlap(boxes[each], box) for box in others))
        taken.append(boxes[best])
        offsets.append(best)
    return offsets


def _box(x: float, y: float, offset: tuple[float, float], width: float) -> Box:
    """What a name covers, in pixels: left, bottom, right, top."""
    left, bottom = x + _PIXELS * offset[0], y + _PIXELS * offset[1]
    return left, bottom, left + _PIXELS * width, bottom + _PIXELS * _FONT


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def gap(results: Sequence[Result], *, identifier: str) -> str:
    """Returns the accuracy on training and test images of every rung; the line between is the generalisation gap."""

    def draw(axes: Any) -> None:
        for place, result in enumerate(reversed(results)):
            train, test = result["train_accuracy"], result["test_accuracy"]
            axes.plot([test, train], [place, place], "-", color=GREY, linewidth=2)
            axes.plot(train, place, "o", markerfacecolor="none", color=color(result["family"]), markersize=5)
            axes.plot(test, place, "o", color=color(result["family"]), markersize=5)
        axes.set_yticks(range(len(results)), [result["name"].replace("_", " ") for result in reversed(results)])
        axes.set_xlabel("accuracy: filled on test images, hollow on training images")

    height = 0.9 + 0.21 * len(results)
    picture = drawn(draw, label="training and test accuracy of every rung", identifier=identifier, size=(5.2, height))
    caption = "<figcaption><b>The generalisation gap</b></figcaption>"
    return f"<figure style='max-width: 40rem'>{caption}{_readable(picture, 26)}</figure>\n"
