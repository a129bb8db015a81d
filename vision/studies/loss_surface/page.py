"""The page: the surfaces on one scale, cuts through them, and what the table says of each."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vision.analysis import page
from vision.analysis.charts import figure, grid
from vision.studies.loss_surface import picture

_STATISTICS = {
    "run": "Batch normalisation uses the running statistics of each run, whatever the point.",
    "batch": "Batch normalisation uses the statistics of each batch of examples at each point.",
}


def render(
    result: Mapping[str, Any], distances: np.ndarray, found: list[dict[str, np.ndarray]], *, command: str
) -> str:
    """Returns the whole page.

    Args:
      result: ``split``, ``examples``, ``grid`` and ``runs`` with a ``name``, ``model`` and ``summary`` each.
      distances: of the points along a direction.
      found: ``loss`` and ``error`` of each run.
      command: that was typed.
    """
    names = [run["name"] for run in result["runs"]]
    losses = [each["loss"] for each in found]
    measured = result["grid"]
    length = (
        "whose every filter is as long as the network's own (Li et al. 2018)"
        if measured["normalised"]
        else "as they are drawn, not normalised: networks with larger weights look flatter"
    )
    many = "two random directions" if measured["dimensions"] == 2 else "a random direction"
    said = (
        f"Loss around each network along {many} {length}; biases and normalisation stay. Colours and axes are the same "
        f"for all networks. {result['examples']:,} examples of the {result['split']} split. "
        f"{_STATISTICS[measured['statistics']]}"
    )
    body = f"<h1>Loss surfaces</h1>\n<p class='soft'>{page.escape(said)}</p>\n"
    if measured["dimensions"] == 2:
        label = f"contours of the loss around {', '.join(names)}"
        low, *_, high = picture.levels_of(losses)
        caption = f"<b>loss</b>, contours from {page.number(low)} to {page.number(high)}, evenly in the logarithm"
        svg = picture.contours(names, distances, losses, label=label)
        body += page.section("Contours", figure(caption, svg))
    cuts = [
        picture.profiles(names, distances, [picture.cut(each[what]) for each in found], what=what)
        for what in ("loss", "error")
    ]
    body += page.section("Through the network", grid(cuts))
    body += page.section("Numbers", _table(result))
    body += page.section("Command", f"<pre>{page.escape(command)}</pre>\n")
    return page.document("Loss surfaces", body)


def _table(result: Mapping[str, Any]) -> str:
    head = ["run", "model", "loss", "error", "lowest loss", "share within 1 of its loss"]
    keys = ("loss", "error", "lowest_loss", "within_one")
    rows = [[run["name"], run["model"], *(page.number(run["summary"][key]) for key in keys)] for run in result["runs"]]
    return page.table(head, rows, kind="numbers")
