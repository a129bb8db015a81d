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
    """Returns test accuracy over a cost, on a logarithmic axis, a point with its name for each rung.

    Args:
      results: of the rungs.
      quantity: the entry of a result that costs.
      axis: what that is, with its unit.
      identifier: a word that no other picture of the page has.
    """

    def draw(axes: Any) -> None:
        for result in results:
            x, y = max(result[quantity], 1e-3), result["test_accuracy"]
            axes.plot(x, y, "o", color=color(result["family"]), markersize=5)
            axes.annotate(
                result["name"].replace("_", " "),
                (x, y),
                xytext=(3, 3),
                textcoords="offset points",
                fontsize=6.5,
                color=INK,
            )
        axes.set_xscale("log")
        axes.margins(x=0.12)
        axes.set_xlabel(axis)
        axes.set_ylabel("test accuracy")

    caption = f"<b>Test accuracy against {page.escape(axis)}</b>"
    picture = drawn(draw, label=f"test accuracy against {axis}", identifier=identifier, size=(5.2, 4.2))
    return f"<figure><figcaption>{caption}</figcaption>{picture}</figure>\n"


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
    return f"<figure><figcaption><b>The generalisation gap</b></figcaption>{picture}</figure>\n"
