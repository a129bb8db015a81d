"""Charts of what a network computes: embeddings on a plane, attention distance by layer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vision.analysis import charts, gallery, page
from vision.analysis.drawing import GREY, INK, PALETTE, drawn
from vision.analysis.gallery import Picture

_MARKERS = "os^Dv"
MOST_CLASSES = len(PALETTE) * len(_MARKERS)
_LEGEND_ROWS, _LONGEST = 20, 16
_SIZE = (5.6, 4.4)
_SIZE_OF_LAYERS = (5.6, 3.0)


def embedding(
    folder: Path,
    points: np.ndarray,
    labels: np.ndarray | None,
    class_names: Sequence[str],
    *,
    where: str,
    numbers: dict[str, float],
) -> Picture:
    """Writes ``tsne.png``: points on a plane, each class in a colour and a shape of its own.

    Args:
      folder: where the file goes.
      points: ``[n, 2]``.
      labels: int ``[n]``, or None.
      class_names: of all classes.
      where: whose embeddings these are, for people.
      numbers: what was measured.
    """
    shown = [] if labels is None else np.unique(labels).tolist()
    told_apart = 0 < len(shown) <= MOST_CLASSES

    def draw(axes: Any) -> None:
        axes.set_axis_off()
        axes.set_aspect("equal", adjustable="datalim")
        if not told_apart:
            axes.scatter(*points.T, s=8, color=GREY, linewidths=0)
            return
        for place, label in enumerate(shown):
            axes.scatter(*points[labels == label].T, s=9, linewidths=0, **_look(place))
        names = [page.readable(class_names[label])[:_LONGEST] for label in shown]
        legend = axes.legend(axes.collections, names, ncols=-(-len(shown) // _LEGEND_ROWS), **_LEGEND)
        for text in legend.get_texts():
            text.set_color(INK)
            text.set_parse_math(False)

    path = gallery.save_chart(folder / "tsne.png", draw, size=_SIZE)
    said = f"Embeddings (pre_logits) of {where} on a plane by t-SNE over cosines, always with the same seed."
    if labels is not None and not told_apart:
        said += f" {len(shown)} classes are too many for colours; up to {MOST_CLASSES} are told apart."
    if "label_agreement" in numbers:
        said += (
            f" Of the 10 nearest neighbours of an example {numbers['label_agreement']:.1%} have its label by the "
            f"cosine of embeddings, and {numbers['label_agreement_on_plane']:.1%} on the plane."
        )
    svg = drawn(draw, label="embeddings on a plane", identifier="tsne", size=_SIZE)
    return Picture("Embeddings", said, gallery.chart(svg, "<b>t-SNE</b>"), (path,), numbers)


_LEGEND: dict[str, Any] = {
    "loc": "center left",
    "bbox_to_anchor": (1.0, 0.5),
    "frameon": False,
    "fontsize": 8,
    "borderaxespad": 0.0,
}


def _look(place: int) -> dict[str, str]:
    return {"color": PALETTE[place % len(PALETTE)], "marker": _MARKERS[place // len(PALETTE)]}


def attention_distance(folder: Path, distances: np.ndarray, *, patch_size: int, images: int) -> Picture:
    """Writes ``distance.png``: mean attention distance of each head, layer by layer.

    Args:
      folder: where the file goes.
      distances: in pixels, ``[layers, heads]``.
      patch_size: side of a patch.
      images: over how many it is the mean.
    """
    layers = range(len(distances))

    def draw(axes: Any) -> None:
        for head, column in enumerate(distances.T):
            axes.scatter(layers, column, s=14, linewidths=0, color=PALETTE[head % len(PALETTE)])
        axes.plot(layers, distances.mean(axis=1), color=GREY, linewidth=1)
        axes.set_ylim(bottom=0)
        axes.set_xticks(list(layers)[:: max(1, len(distances) // 12)])
        axes.set_xlabel("block")
        axes.set_ylabel("pixels")

    path = gallery.save_chart(folder / "distance.png", draw, size=_SIZE_OF_LAYERS)
    said = (
        f"How far attention reaches from a patch to patches, in pixels of the {images} images as the model sees them "
        f"(a patch has {patch_size}): a dot for each head, the line is their mean."
    )
    svg = drawn(draw, label="mean attention distance by block", identifier="distance", size=_SIZE_OF_LAYERS)
    rows = [[f"block {layer}", *map(page.number, row)] for layer, row in enumerate(distances.tolist())]
    table = charts.numbers(["", *(f"head {head}" for head in range(distances.shape[1]))], rows)
    body = gallery.chart(svg, "<b>mean attention distance</b>") + page.folded("Numbers", table)
    return Picture("Attention distance", said, body, (path,), {"pixels": distances.tolist()})
