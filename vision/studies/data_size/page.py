"""The page: test accuracy against the number of training examples, a line for each network."""

from collections.abc import Mapping
from typing import Any

from vision.analysis import page
from vision.analysis.charts import figure, legend
from vision.analysis.drawing import GREY, PALETTE, drawn

TITLES = {"cnn": "CNN (LeNet-5)", "vit": "Vision transformer", "mixer": "MLP-Mixer", "mlp": "Multilayer perceptron"}
Rows = list[Mapping[str, Any]]


def render(result: Mapping[str, Any], *, command: str) -> str:
    """Returns the whole page.

    Args:
      result: of :func:`vision.studies.data_size.study.study`.
      command: that was typed.
    """
    title = f"Who needs more data, on {result['dataset']}"
    intro = (
        f"Every network is trained for {result['steps']:,} steps, without augmentation, on training sets in which the "
        f"classes are balanced and each of which holds the smaller ones, and tested on {result['test_examples']:,} "
        f"images. Chance is {result['chance']:.3f}, the dotted line."
    )
    if result["seeds"] > 1:
        intro += (
            f" Means of {result['seeds']} seeds, each with its own training sets; the bars are standard deviations."
        )
    body = [
        f"<h1>{page.escape(title)}</h1>\n<p class='soft'>{page.escape(intro)}</p>\n",
        page.section("Test accuracy against training examples", _picture(result)),
        page.section("Numbers", _table(result)),
        page.section("Command", f"<pre>{page.escape(command)}</pre>\n"),
    ]
    return page.document(title, "".join(body))


def by_rung(result: Mapping[str, Any]) -> dict[str, Rows]:
    """Returns the rows of each network, from the smallest training set on."""
    found: dict[str, Rows] = {}
    for row in result["rows"]:
        found.setdefault(row["rung"], []).append(row)
    return found


def _picture(result: Mapping[str, Any]) -> str:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    lines = by_rung(result)
    colors = dict(zip(TITLES, PALETTE, strict=False))

    def draw(axes: Any) -> None:
        for name, rows in lines.items():
            values, spreads = [row["accuracy"] for row in rows], [row["sd"] or 0.0 for row in rows]
            style: dict[str, Any] = {"color": colors[name], "linewidth": 1.5, "marker": "o", "markersize": 3}
            axes.errorbar(result["sizes"], values, yerr=spreads, capsize=2, **style)
        axes.axhline(result["chance"], color=GREY, linestyle=":", linewidth=1.2)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(result["sizes"]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_xlabel("training examples (logarithmic)")
        axes.set_ylabel("test accuracy")

    keys = legend([(TITLES[name], colors[name], False) for name in lines])
    label = f"test accuracy against training examples for {', '.join(TITLES[name] for name in lines)}"
    return figure(keys, drawn(draw, label=label, identifier="size", size=(6.4, 3.8)))


def _table(result: Mapping[str, Any]) -> str:
    rows = []
    for name, found in by_rung(result).items():
        cells = [f"{row['accuracy']:.3f}" + (f" ± {row['sd']:.3f}" if row["sd"] is not None else "") for row in found]
        rows.append([TITLES[name], *cells, f"{found[-1]['accuracy'] - found[0]['accuracy']:+.3f}"])
    return page.table(["network", *(f"{size:,}" for size in result["sizes"]), "first to last"], rows)
