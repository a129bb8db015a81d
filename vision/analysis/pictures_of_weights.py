"""Pictures of weights, which need no images: positions, token mixing, first-layer filters."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vision.analysis import gallery
from vision.analysis.gallery import Picture
from vision.analysis.heat import enlarged, mosaic, signed_heat
from vision.analysis.position_similarity import position_similarity, shown_places
from vision.analysis.token_mixing import paired_order, unit_maps

_LEAST_SIDE = 512
_MOST_PLACES = 14
_MOST_FILTERS = 96
_MOST_UNITS = 384


def positions(folder: Path, embedding: np.ndarray, *, kind: str) -> Picture:
    """Writes ``positions.png``: for each place of the grid the map of cosines with all others.

    Args:
      folder: where the file goes.
      embedding: ``[rows, columns, width]``.
      kind: of positions, for people.
    """
    similarity = position_similarity(embedding)
    rows, columns = (shown_places(side, _MOST_PLACES) for side in similarity.shape[:2])
    shown = similarity[rows][:, columns]
    tiles = signed_heat(shown.reshape(-1, *shown.shape[2:]))
    picture = mosaic(tiles, len(columns))
    path = gallery.save_pixels(folder / "positions.png", enlarged(picture, _LEAST_SIDE))
    grid = "x".join(map(str, similarity.shape[:2]))
    some = "" if shown.shape == similarity.shape else f", of which {len(rows)}x{len(columns)} are shown"
    said = (
        f"{kind} positions of {grid} patches{some}: each tile stands where its patch does and has the cosine of that "
        "position with every other, from -1 (blue) over 0 (white) to 1 (red)."
    )
    return Picture("Similarity of positions", said, gallery.whole(picture, said), (path,))


def token_mixing(folder: Path, kernels: Mapping[str, np.ndarray], grid: tuple[int, int]) -> Picture:
    """Writes ``mixing_<block>.png``: the weights of each hidden unit over the patches.

    Args:
      folder: where the files go.
      kernels: first token-mixing matrices ``[patches, units]`` by block.
      grid: rows and columns of patches.
    """
    body, paths = "", []
    for block, kernel in kernels.items():
        maps = unit_maps(kernel, grid)
        maps = maps[paired_order(maps)][:_MOST_UNITS]
        largest = np.abs(maps).max(axis=(1, 2), keepdims=True)
        tiles = signed_heat(np.divide(maps, largest, out=np.zeros_like(maps), where=largest > 0))
        picture = mosaic(tiles, _even_columns(len(tiles)))
        paths.append(gallery.save_pixels(folder / f"mixing_{block}.png", enlarged(picture, _LEAST_SIDE)))
        units = (
            f"{len(maps)} of {kernel.shape[1]} hidden units" if len(maps) < kernel.shape[1] else f"{len(maps)} units"
        )
        body += gallery.chart(gallery.whole(picture, f"token mixing of {block}"), f"<b>{block}</b>: {units}")
    said = (
        "Weights of the hidden units of token-mixing MLPs, one tile for each unit with one weight for each patch, red "
        "above 0 and blue below. Neighbours (first and second, third and fourth, ...) are pairs of the most opposite "
        "units; pairs of low spatial frequency come first."
    )
    return Picture("Token mixing", said, body, tuple(paths))


def filters(folder: Path, pixels: np.ndarray, *, what: str) -> Picture:
    """Writes ``filters.png``: first-layer filters as small images.

    Args:
      folder: where the file goes.
      pixels: uint8 ``[filters, height, width, 1 or 3]``.
      what: they are, for people.
    """
    shown = pixels[:_MOST_FILTERS]
    picture = mosaic(shown, _even_columns(len(shown)))
    path = gallery.save_pixels(folder / "filters.png", enlarged(picture, _LEAST_SIDE))
    some = f" The first {len(shown)} of {len(pixels)} are shown." if len(shown) < len(pixels) else ""
    said = f"{what}; grey is 0, each is scaled to its own largest weight.{some}"
    return Picture("First layer", said, gallery.whole(picture, said), (path,), {"filters": len(pixels)})


def _even_columns(count: int) -> int:
    """About twice as many columns as rows; an even number, so that pairs stay side by side."""
    return min(2 * math.ceil(math.sqrt(2 * count) / 2), count + count % 2)
