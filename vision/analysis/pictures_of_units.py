"""Pictures of what units respond to: the strongest examples of feature maps, the pixels that a class's score needs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vision.analysis import contact_sheet, gallery, page
from vision.analysis.filters import as_pixels
from vision.analysis.gallery import Picture, Tile
from vision.analysis.heat import as_colour, over_image

_TILE = 96
RULES = {
    "guided": "guided backpropagation",
    "deconvnet": "the rule of deconvolutional networks",
    "gradient": "the gradient",
}


class MapRow(NamedTuple):
    """One feature map.

    Attributes:
      number: of the map.
      crops: what its strongest units see, uint8 ``[height, width, channels]`` each.
      projections: what of it excites them, float, of the same sizes.
      values: of the responses.
    """

    number: int
    crops: Sequence[np.ndarray]
    projections: Sequence[np.ndarray]
    values: Sequence[float]


def activations(
    folder: Path,
    layers: Mapping[str, Sequence[MapRow]],
    said: Mapping[str, str],
    *,
    where: str,
    numbers: dict[str, Any],
) -> Picture:
    """Writes ``activations_<feature>.png``: for each map the crops of its strongest examples, below what excites it.

    Args:
      folder: where the files go.
      layers: rows of maps by feature.
      said: of each feature, for people.
      where: the examples are of, for people.
      numbers: what was measured.
    """
    body, paths = "", []
    for name, maps in layers.items():
        rows, shown = [], ""
        for each in maps:
            crops = [
                Tile(crop, f"map {each.number}: {value:.3g}" if not position else f"{value:.3g}")
                for position, (crop, value) in enumerate(zip(each.crops, each.values, strict=True))
            ]
            projected = [Tile(as_pixels(grey[None])[0], "what drives it") for grey in each.projections]
            rows += [crops, projected]
            shown += gallery.strip(crops) + gallery.strip(projected)
        paths.append(_sheet(folder / f"activations_{name}.png", rows))
        body += f"<h3>{page.escape(name)}</h3><p class='soft'>{page.escape(said[name])}</p>\n{shown}"
    text = (
        f"The examples that excite a map most, each with its strongest unit, of {where}: cut out to the pixels that "
        "the unit can depend on, and below, for the same pixels, which of them drive it (grey is 0, each scaled to its "
        "own largest value)."
    )
    return Picture("Strongest activations", text, body, tuple(paths), numbers)


def saliency(
    folder: Path,
    rows: Sequence[Sequence[tuple[np.ndarray, np.ndarray | None, str]]],
    by_class: Sequence[Sequence[tuple[np.ndarray, np.ndarray | None, str]]],
    *,
    said: str,
    said_by_class: str,
    numbers: dict[str, Any],
) -> Picture:
    """Writes ``saliency.png`` and, where there are classes, ``saliency_classes.png``.

    Args:
      folder: where the files go.
      rows: for each image its tiles: uint8 pixels, a map over them or None, and a caption.
      by_class: likewise for each class of the data.
      said: of the first, for people.
      said_by_class: of the second.
      numbers: what was measured.
    """
    paths, body = [], ""
    for name, text, tables in (("saliency", "", rows), ("saliency_classes", said_by_class, by_class)):
        if not tables:
            continue
        tiles = [
            [Tile(image if heat is None else over_image(image, heat), caption) for image, heat, caption in row]
            for row in tables
        ]
        paths.append(_sheet(folder / f"{name}.png", tiles))
        body += f"<h3>Classes of the data</h3><p class='soft'>{page.escape(text)}</p>\n" if text else ""
        body += "".join(map(gallery.strip, tiles))
    return Picture("Saliency of classes", said, body, tuple(paths), numbers)


def _sheet(path: Path, rows: Sequence[Sequence[Tile]]) -> Path:
    pixels = [[as_colour(tile.pixels) for tile in row] for row in rows]
    contact_sheet.save(path, pixels, [[tile.caption for tile in row] for row in rows], tile=_TILE)
    return path
