"""Numbers as colours: maps over an image, cosines, one picture out of many tiles."""

import math

import numpy as np

_MAP_OPACITY = 0.65


def spread(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns a map ``[rows, columns, ...]`` as large as an image; each pixel has the value of its patch."""
    rows, columns = (np.arange(side) * cells // side for side, cells in zip(size, values.shape[:2], strict=True))
    return values[rows][:, columns]


def heat(values: np.ndarray) -> np.ndarray:
    """Returns values from 0 (dark) to 1 (bright) as uint8 colours of matplotlib's viridis, ``[..., 3]``."""
    from matplotlib import colormaps

    return colormaps["viridis"](np.clip(values, 0, 1), bytes=True)[..., :3]


def signed_heat(values: np.ndarray) -> np.ndarray:
    """Returns values from -1 (blue) over 0 (white) to 1 (red) as uint8 colours, ``[..., 3]``."""
    from matplotlib import colormaps

    return colormaps["RdBu_r"](np.clip((np.asarray(values) + 1) / 2, 0, 1), bytes=True)[..., :3]


def as_colour(pixels: np.ndarray) -> np.ndarray:
    """Returns uint8 ``[height, width, 1 or 3]`` as ``[height, width, 3]``."""
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def over_image(pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns an image under a map that is brightest where its values are largest.

    Args:
      pixels: uint8 ``[height, width, 1 or 3]``.
      values: ``[rows, columns]``, not negative; scaled so that the largest is 1.
    """
    scaled = values / values.max() if values.max() > 0 else np.zeros_like(values)
    colors = spread(heat(scaled), (pixels.shape[0], pixels.shape[1]))
    grey = pixels.mean(axis=-1, keepdims=True)
    return np.rint(_MAP_OPACITY * colors + (1 - _MAP_OPACITY) * grey).astype(np.uint8)


def masked(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Returns an image, black where the mask ``[rows, columns]`` of its patches is False."""
    inside = spread(mask, (pixels.shape[0], pixels.shape[1]))
    return np.where(inside[..., None], as_colour(pixels), 0).astype(np.uint8)


def mosaic(tiles: np.ndarray, columns: int, *, gap: int = 1) -> np.ndarray:
    """Returns uint8 tiles ``[n, height, width, 1 or 3]`` as one picture, row by row on white."""
    count, height, width, _ = tiles.shape
    rows = math.ceil(count / columns)
    sheet = np.full((gap + rows * (height + gap), gap + columns * (width + gap), 3), 255, np.uint8)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        top, left = gap + row * (height + gap), gap + column * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def enlarged(pixels: np.ndarray, at_least: int) -> np.ndarray:
    """Returns a picture whose pixels are squares, so that its longer side has ``at_least`` pixels or more."""
    factor = max(1, math.ceil(at_least / max(pixels.shape[:2])))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)
