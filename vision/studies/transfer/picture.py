"""The pictures: accuracy against labels, and what is learned by heart, for a page and as a file."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vision.analysis.charts import figure, legend
from vision.analysis.drawing import GREY, PALETTE, drawn
from vision.errors import UserError
from vision.studies.transfer.methods import METHODS

Result = Mapping[str, Any]
TITLES = {each.name: each.title for each in METHODS}
COLORS = dict(zip(TITLES, PALETTE, strict=False))


def accuracy(result: Result) -> str:
    """Returns test accuracy against the number of labels, a line for each method."""
    label = "test accuracy against the number of labels"
    return figure(_keys(result), drawn(lambda axes: _accuracy(axes, result), label=label, identifier="accuracy"))


def gap(result: Result) -> str:
    """Returns the training accuracy minus the test accuracy, likewise."""
    label = "training minus test accuracy against the number of labels"
    return figure(_keys(result), drawn(lambda axes: _gap(axes, result), label=label, identifier="gap"))


def save(path: Path, result: Result) -> Path:
    """Writes both as one PNG and returns its path.

    Raises:
      UserError: it cannot be written.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", {"font.size": 9}]):
        whole = Figure(figsize=(9.6, 4.2), layout="constrained", dpi=150)
        left, right = whole.subplots(1, 2)
        for axes, draw in ((left, _accuracy), (right, _gap)):
            draw(axes, result)
            axes.grid(color=GREY, alpha=0.25, linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
        left.legend(frameon=False)
        left.set_title(f"{result['model']}, transferred to {result['dataset']}")
        right.set_title("What is learned by heart")
        written = io.BytesIO()
        whole.savefig(written, format="png")
    try:
        path.write_bytes(written.getvalue())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def lines(result: Result) -> dict[str, list[Mapping[str, Any]]]:
    """Returns the rows of each method, from the fewest labels on."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for name in TITLES:
        rows = [row for row in result["rows"] if row["method"] == name]
        if rows:
            found[name] = sorted(rows, key=lambda row: row["labels"])
    return found


def _keys(result: Result) -> str:
    return legend([(TITLES[name], COLORS[name], False) for name in lines(result)])


def _accuracy(axes: Any, result: Result) -> None:
    _draw(axes, result, "test_accuracy", "test_accuracy_sd")
    axes.axhline(result["chance"], color=GREY, linestyle=":", linewidth=1.2)
    axes.set_ylabel("test accuracy")


def _gap(axes: Any, result: Result) -> None:
    _draw(axes, result, "gap", "gap_sd")
    axes.axhline(0.0, color=GREY, linewidth=0.8)
    axes.set_ylabel("training minus test accuracy")


def _draw(axes: Any, result: Result, value: str, spread: str) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    for name, rows in lines(result).items():
        style: dict[str, Any] = {"color": COLORS[name], "linewidth": 1.5, "marker": "o", "markersize": 3}
        spreads: Sequence[float] = [row[spread] or 0.0 for row in rows]
        labels = [row["labels"] for row in rows]
        axes.errorbar(labels, [row[value] for row in rows], yerr=spreads, capsize=2, label=TITLES[name], **style)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([share["labels"] for share in result["shares"]]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda labels, _: f"{labels:,.0f}"))
    axes.set_xlabel("labels (logarithmic)")
