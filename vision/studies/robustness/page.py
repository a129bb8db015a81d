"""The page: accuracy against strength, a panel for each corruption, and what the images look like."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vision.analysis import page
from vision.analysis.charts import Line, figure, grid, legend
from vision.analysis.drawing import GREY, drawn
from vision.data import corrupt
from vision.data.corrupt.severity import SEVERITIES
from vision.studies.ladder.examples import image

_STYLE = """<style>
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(13rem, 100%), 1fr)); gap: 0.8rem 1.2rem; }
.seen td, .seen th { padding: 0.2rem 0.5rem 0.2rem 0; vertical-align: middle; }
.seen img { width: 3.2rem; height: 3.2rem; object-fit: contain; image-rendering: pixelated; background: var(--box); }
</style>"""
_SHOWN = 2


def render(result: Mapping[str, Any], images: np.ndarray, *, command: str) -> str:
    """Returns the whole page.

    Args:
      result: of :func:`vision.studies.robustness.measure.measured`.
      images: the test images, uint8 ``[n, height, width, channels]``.
      command: that was typed.
    """
    names = list(result["runs"][0]["corruptions"])
    title = f"What each run withstands on {result['data']}"
    intro = (
        f"{result['examples']:,} images, corrupted in the same way for every run. Networks of the ladder are trained "
        "on images shifted by a pixel or more, estimators on the images as they are. "
        f"Chance is {result['chance']:.3f}, the dotted line; strength 0 is the image as it is."
    )
    body = [
        _STYLE,
        f"<h1>{page.escape(title)}</h1>\n<p class='soft'>{page.escape(intro)}</p>\n",
        page.section("Accuracy against strength", _panels(result, names)),
        page.section("Accuracy, mean over strengths", _table(result, names)),
        page.section("What the images look like", _examples(images, names, result["strengths"])),
        page.section("What the strengths are", _severities(names)),
        page.section("Command", f"<pre>{page.escape(command)}</pre>\n"),
    ]
    return page.document(title, "".join(body))


def _lines(result: Mapping[str, Any]) -> list[Line]:
    """A line without points for each run: its colour and dashes are those of all panels."""
    return [Line(run["name"], (), (), place, dashed=place >= 8) for place, run in enumerate(result["runs"])]


def _panels(result: Mapping[str, Any], names: Sequence[str]) -> str:
    lines = _lines(result)
    strengths = [0, *result["strengths"]]

    def panel(name: str) -> str:
        def draw(axes: Any) -> None:
            for line, run in zip(lines, result["runs"], strict=True):
                values = [run["accuracy"], *run["corruptions"][name]]
                dashes = "--" if line.dashed else "-"
                axes.plot(strengths, values, dashes, color=line.color, linewidth=1.5, marker="o", markersize=3)
            axes.axhline(result["chance"], color=GREY, linestyle=":", linewidth=1.2)
            axes.set_ylim(0.0, 1.02)
            axes.set_xticks(strengths)
            axes.set_xlabel("strength")

        label = f"accuracy against strength of {name} for {', '.join(line.label for line in lines)}"
        return figure(f"<b>{page.escape(name)}</b>", drawn(draw, label=label, identifier=name, size=(2.9, 2.2)))

    keys = legend([(line.label, line.color, line.dashed) for line in lines])
    panels = "".join(panel(name) for name in names)
    return f"<figure><figcaption>{keys}</figcaption><div class='panels'>{panels}</div></figure>\n"


def _table(result: Mapping[str, Any], names: Sequence[str]) -> str:
    runs = result["runs"]
    rows = [["model", *(run["model"] for run in runs)], ["as they are", *(f"{run['accuracy']:.3f}" for run in runs)]]
    for name in names:
        rows.append([name, *(f"{np.mean(run['corruptions'][name]):.3f}" for run in runs)])
    rows.append(["all corruptions", *(f"{run['mean_accuracy']:.3f}" for run in runs)])
    rows.append(["share that is kept", *(f"{100 * run['kept']:.0f}%" for run in runs)])
    return page.table(["", *(run["name"] for run in runs)], rows, kind="numbers")


def _examples(images: np.ndarray, names: Sequence[str], strengths: Sequence[int]) -> str:
    """The same images through all strengths; the pieces of clutter come from others of the split."""
    shown = images[: corrupt.OTHERS]
    tables = []
    for index in range(min(_SHOWN, len(shown))):
        rows = []
        for name in names:
            levels = [shown[index], *(corrupt.corrupted(name, shown, strength)[index] for strength in strengths)]
            cells = "".join(
                f"<td>{image(pixels, f'{name} at strength {strength}')}</td>"
                for strength, pixels in zip([0, *strengths], levels, strict=True)
            )
            rows.append(f"<tr><th scope='row'>{page.escape(name)}</th>{cells}</tr>\n")
        head = "".join(f"<th scope='col'>{strength}</th>" for strength in [0, *strengths])
        top = f"<thead><tr><th scope='col'>strength</th>{head}</tr></thead>"
        tables.append(f"<div class='wide'><table class='seen'>{top}<tbody>{''.join(rows)}</tbody></table></div>\n")
    return grid(tables)


def _severities(names: Sequence[str]) -> str:
    rows = []
    for name in names:
        values = ", ".join(f"{value:g}" for value in SEVERITIES[name].values)
        rows.append([name, SEVERITIES[name].unit, values, SEVERITIES[name].reason])
    return page.table(["corruption", "measured as", "strength 1 to 5", "why"], rows)
