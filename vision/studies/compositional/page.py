"""The page: all numbers over the runs, and the grid of combinations with those that were never seen outlined."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vision.analysis import page
from vision.data.builders.shape_scenes import CLASSES, COLORS, SHAPES
from vision.studies.compositional.measure import SEEN, UNSEEN, K

_STYLE = """<style>
.combinations table { border-collapse: separate; border-spacing: 3px; }
.combinations td, .combinations th { padding: 0.25rem; border: 0; text-align: center; vertical-align: middle;
  font-size: 0.85rem; }
.combinations td { min-width: 3rem; color: #111; }
.combinations td.unseen { outline: 3px solid var(--ink); font-weight: 700; }
</style>"""
_NAMES = {
    "heldout_accuracy": "held-out combinations among themselves",
    "seen_accuracy": "seen combinations among all 64",
    "unseen_accuracy": "held-out combinations among all 64",
    "harmonic_mean": "harmonic mean of these two",
}


def render(result: Mapping[str, Any], *, command: str) -> str:
    """Returns the whole page.

    Args:
      result: ``data``, ``examples``, ``heldout``, ``captions``, ``chance``, ``runs`` and ``summary``.
      command: that was typed.
    """
    runs = result["runs"]
    title = f"Words understood together: {result['data']}"
    intro = (
        f"{len(result['heldout'])} of {len(CLASSES)} combinations of color and shape were in no training picture. "
        f"{result['examples']:,} pictures of seen and as many of held-out combinations; "
        f"{result['captions'][SEEN]:,} and {result['captions'][UNSEEN]:,} different captions compete. A caption counts "
        "for every picture that it is true of, whichever it was written for."
    )
    body = [
        _STYLE,
        f"<h1>{page.escape(title)}</h1>\n<p class='soft'>{page.escape(intro)}</p>\n",
        page.section("Accuracy and retrieval", _table(result)),
        page.section("Accuracy of each combination among all 64", _grid(result)),
        page.section("Runs", page.table(["run", "model"], [[run["workdir"], run["model"]] for run in runs])),
        page.section("Command", f"<pre>{page.escape(command)}</pre>\n"),
    ]
    return page.document(title, "".join(body))


def spread(values: Mapping[str, float | None]) -> str:
    """Returns a mean with its standard deviation, where there are several runs."""
    mean, std = values["mean"], values["std"]
    return f"{mean:.3f}" if std is None else f"{mean:.3f} ± {std:.3f}"


def named(metric: str) -> str:
    """Returns what a metric is in words."""
    if metric in _NAMES:
        return _NAMES[metric]
    split, _, rest = metric.partition("_")
    direction, _, k = rest.rpartition("_at_")
    pictures = "pictures of seen combinations" if split == SEEN else "pictures of held-out combinations"
    return f"{pictures}, {direction.replace('_', ' ')} R@{k}"


def _table(result: Mapping[str, Any]) -> str:
    runs, many = result["runs"], len(result["runs"]) > 1
    head = ["", "mean ± std" if many else "value", "chance", *((run["name"] for run in runs) if many else ())]
    kept = [name for name in result["summary"] if name in _NAMES or name.endswith(tuple(f"_at_{k}" for k in K))]
    rows = []
    for name in kept:
        each = [f"{run['metrics'][name]:.3f}" for run in runs] if many else []
        rows.append([named(name), spread(result["summary"][name]), f"{result['chance'][name]:.4f}", *each])
    return page.table(head, rows, kind="numbers")


def _grid(result: Mapping[str, Any]) -> str:
    """Rows are colors, columns shapes; the mean over the runs."""
    heldout = set(result["heldout"])
    rows = []
    for row, color in enumerate(COLORS):
        cells = []
        for column, shape in enumerate(SHAPES):
            place = row * len(SHAPES) + column
            values = [run["per_class"][place] for run in result["runs"] if run["per_class"][place] is not None]
            unseen = " class='unseen'" if CLASSES[place] in heldout else ""
            name = page.escape(f"{color} {shape}{', never seen' if unseen else ''}")
            if not values:
                cells.append(f"<td{unseen} title='{name}' style='background: var(--box); color: inherit'>-</td>")
                continue
            mean = float(np.mean(values))
            cells.append(f"<td{unseen} title='{name}' style='background: {_color(mean)}'>{100 * mean:.0f}%</td>")
        rows.append(f"<tr><th scope='row'>{page.escape(color)}</th>{''.join(cells)}</tr>\n")
    head = "".join(f"<th scope='col'>{page.escape(shape)}</th>" for shape in SHAPES)
    return (
        "<p class='soft'>Outlined: combinations that were in no training picture. The mean over the runs.</p>\n"
        f"<div class='wide combinations'><table><thead><tr><td></td>{head}</tr></thead>\n"
        f"<tbody>{''.join(rows)}</tbody></table></div>\n"
    )


def _color(share: float) -> str:
    """From orange for 0 over pale for a half to blue for 1; black text is readable on all of them."""
    wrong, middle, right = np.array([[244, 140, 70], [245, 240, 225], [120, 180, 245]])
    ends = (wrong, middle) if share < 0.5 else (middle, right)
    part = 2 * share - (share >= 0.5)
    return f"rgb({', '.join(str(round(float(each))) for each in (1 - part) * ends[0] + part * ends[1])})"
