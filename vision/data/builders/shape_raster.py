"""Pictures of scenes, in integer arithmetic throughout, so that every machine gets the same bits."""

import numpy as np
from jaxtyping import Bool, Int32, UInt8

from vision.data.builders.shape_scenes import CELL, MOST_OBJECTS, SHAPES, UNITS, Scenes

PIXELS = 64
SAMPLES = 4  # in a pixel, each way
_PATCH = 22  # pixels: one cell and the half pixels on both sides of it
_CHUNK = 256  # objects at once: their samples fit the cache
# Directions from the center to the tips of a five-pointed star, and how far its edges are from the center, x 1000.
_TIPS = ((0, -1000), (951, -309), (588, 809), (-588, 809), (-951, -309))
_EDGE = 309


def render(scenes: Scenes) -> UInt8[np.ndarray, "scene 64 64 3"]:
    """Draws each object over its background, antialiased with 4 x 4 samples a pixel.

    A pixel of which k of 16 samples lie inside the object is ``(k object + (16 - k) below + 8) // 16``.
    """
    pictures = np.broadcast_to(scenes.background_rgb[:, None, None], (len(scenes.num_objects), PIXELS, PIXELS, 3))
    pictures = np.ascontiguousarray(pictures)
    for number in range(MOST_OBJECTS):
        for shape in range(len(SHAPES)):
            here = np.flatnonzero((scenes.num_objects > number) & (scenes.shape[:, number] == shape))
            for start in range(0, len(here), _CHUNK):
                _paint(pictures, scenes, here[start : start + _CHUNK], number, shape)
    return pictures


def _paint(pictures: np.ndarray, scenes: Scenes, here: np.ndarray, number: int, shape: int) -> None:
    """Draws object ``number``, of one shape, into the pictures ``here``, in place."""
    corner = np.stack(np.divmod(scenes.cell[here, number], 3), -1) * (CELL // UNITS)
    middle = (scenes.center[here, number] - UNITS * corner).astype(np.int32)
    samples = np.arange(_PATCH * SAMPLES, dtype=np.int32) * (UNITS // SAMPLES) + UNITS // SAMPLES // 2
    down = (samples - middle[:, :1])[:, :, None]
    right = (samples - middle[:, 1:])[:, None, :]
    radius = scenes.radius[here, number].astype(np.int32)[:, None, None]
    covered = inside(SHAPES[shape], down, right, radius)
    covered = covered.reshape(len(here), _PATCH, SAMPLES, _PATCH, SAMPLES).sum((2, 4), dtype=np.int32)[..., None]

    pixels = np.arange(_PATCH)
    place = here[:, None, None], (corner[:, :1] + pixels)[:, :, None], (corner[:, 1:] + pixels)[:, None, :]
    color = scenes.rgb[here, number].astype(np.int32)[:, None, None]
    whole = SAMPLES * SAMPLES
    pictures[place] = (covered * color + (whole - covered) * pictures[place] + whole // 2) // whole


def inside(
    shape: str,
    down: Int32[np.ndarray, "object height 1"],
    right: Int32[np.ndarray, "object 1 width"],
    radius: Int32[np.ndarray, "object 1 1"],
) -> Bool[np.ndarray, "object height width"]:
    """Tells which points lie inside a shape.

    Args:
      shape: one of ``SHAPES``.
      down: rows of the points, counted from the center, in the unit of ``radius``.
      right: their columns.
      radius: half the height of the shape's box, below 2**11.

    Raises:
      ValueError: no such shape.
    """
    squared = down * down + right * right
    if shape == "circle":
        return squared <= radius * radius
    if shape == "square":
        return 8 * np.maximum(abs(down), abs(right)) <= 7 * radius
    if shape == "triangle":  # apex at -r, base at 3/4 r, 0.95 r to either side
        return (4 * down <= 3 * radius) & (35 * abs(right) <= 19 * (down + radius))
    if shape == "star":  # a tip is beyond exactly one of the five edges' lines, the middle beyond none
        return sum((x * right + y * down > _EDGE * radius).astype(np.int32) for x, y in _TIPS) <= 1
    if shape == "cross":
        return (np.maximum(abs(down), abs(right)) <= radius) & (3 * np.minimum(abs(down), abs(right)) <= radius)
    if shape == "ring":  # the hole's radius is 0.55 r
        return (squared <= radius * radius) & (10 * squared >= 3 * radius * radius)
    if shape == "diamond":  # 3/4 r to either side
        return 4 * abs(right) + 3 * abs(down) <= 3 * radius
    if shape == "moon":  # without the disk of radius 0.85 r about a point r/2 to the right
        bitten = (2 * right - radius) ** 2 + 4 * down * down
        return (squared <= radius * radius) & (100 * bitten >= 289 * radius * radius)
    raise ValueError(f"unknown shape {shape!r}; there are {', '.join(SHAPES)}")
