"""What is in each picture of the captioned shapes: words, combinations held out, and the draws of a scene."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "diamond", "moon")
COLORS = {
    "red": (220, 30, 35),
    "green": (30, 150, 50),
    "blue": (40, 90, 235),
    "yellow": (245, 220, 35),
    "orange": (245, 135, 20),
    "purple": (135, 45, 165),
    "cyan": (45, 205, 215),
    "pink": (245, 125, 190),
}
BACKGROUNDS = {
    "white": (243, 243, 243),
    "black": (13, 13, 13),
    "gray": (120, 122, 125),
    "beige": (222, 205, 170),
    "navy": (18, 24, 80),
}
SIZES = ("small", "large")
CELLS = ("top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right")
CLASSES = tuple(f"{color} {shape}" for color in COLORS for shape in SHAPES)
# Every color and every shape is held out in exactly one combination, so a model knows both words from the others.
HELDOUT = tuple(color * len(SHAPES) + (3 * color + 1) % len(SHAPES) for color in range(len(COLORS)))
# Three of every color and three of every shape, those of HELDOUT among them: a word is known from five combinations.
HELDOUT_24 = tuple(
    sorted(color * len(SHAPES) + (3 * color + each) % len(SHAPES) for color in range(len(COLORS)) for each in (1, 3, 6))
)
SPLITS = {"train": 20_000, "val": 2_000, "test": 2_000, "heldout": 2_000}

MOST_OBJECTS = 3
COLOR_JITTER = 6  # levels either way, in each channel
UNITS = 8  # of length in a pixel: all geometry is in whole eighths
CELL = 21 * UNITS  # side of a cell of the 3x3 grid
FIRST_CENTER = 11 * UNITS  # of the leftmost and the topmost cells; the grid is centered in 64 pixels
RADII = ((40, 52), (68, 80))  # eighths of a pixel, both ends included, by size

_DRAWS = 32  # raw draws of one scene


@dataclass(frozen=True)
class Scenes:
    """Scenes in columns. Objects from ``num_objects`` on are drawn up but not in the picture.

    Attributes:
      num_objects: 1 to 3.
      background: position in ``BACKGROUNDS``.
      background_rgb: its levels, jitter included.
      color: position in ``COLORS`` of each object; the first object is the main one.
      shape: position in ``SHAPES``.
      size: position in ``SIZES``.
      cell: position in ``CELLS``.
      center: row and column of the middle, in eighths of a pixel from the top left corner.
      radius: in eighths of a pixel; every shape lies within that distance of its center, sideways and up and down.
      rgb: levels of each object, jitter included.
      partner: which of the other objects the relation is about.
      sideways: whether the relation is left/right, where above/below would hold too.
    """

    num_objects: Int64[np.ndarray, " scene"]
    background: Int64[np.ndarray, " scene"]
    background_rgb: UInt8[np.ndarray, "scene 3"]
    color: Int64[np.ndarray, "scene 3"]
    shape: Int64[np.ndarray, "scene 3"]
    size: Int64[np.ndarray, "scene 3"]
    cell: Int64[np.ndarray, "scene 3"]
    center: Int64[np.ndarray, "scene 3 2"]
    radius: Int64[np.ndarray, "scene 3"]
    rgb: UInt8[np.ndarray, "scene 3 3"]
    partner: Int64[np.ndarray, " scene"]
    sideways: Int64[np.ndarray, " scene"]


@dataclass(frozen=True)
class Recipe:
    """What tells one data set of shapes from another.

    Attributes:
      heldout: the classes whose combination of color and shape the split ``heldout`` has alone.
      key: of all draws; another one gives other scenes.
    """

    heldout: tuple[int, ...]
    key: int


SHAPES_8 = Recipe(HELDOUT, key=20240)
SHAPES_24 = Recipe(HELDOUT_24, key=20241)


def draw(split: str, count: int, recipe: Recipe = SHAPES_8) -> Scenes:
    """Returns the first ``count`` scenes of a split; scene i is the same for every count.

    All randomness is raw 64-bit draws of Philox, whose stream NumPy keeps fixed for good (NEP 19), brought to
    ``0 .. n - 1`` by multiplying the upper half with n and dropping 32 bits: the same integers everywhere.
    """
    generator = np.random.Philox(key=np.array([recipe.key, list(SPLITS).index(split)], np.uint64))
    raw = (generator.random_raw(count * _DRAWS).reshape(count, _DRAWS) >> np.uint64(32)).astype(np.int64)
    columns = iter(raw.T)

    def below(limit: int | np.ndarray) -> np.ndarray:
        return next(columns) * limit >> 32

    num_objects = 1 + below(MOST_OBJECTS)
    background = below(len(BACKGROUNDS))
    held_out = split == "heldout"
    combinations = np.array([each for each in range(len(CLASSES)) if (each in recipe.heldout) == held_out])
    combination = combinations[_distinct(below, len(combinations))]
    cell = _distinct(below, len(CELLS))
    color, shape = np.divmod(combination, len(SHAPES))

    # The main object is the largest, so a picture of several has one answer to "which class".
    single_size = below(len(SIZES))
    size = np.zeros((count, MOST_OBJECTS), np.int64)
    size[:, 0] = np.where(num_objects == 1, single_size, 1)
    lowest, highest = np.array(RADII).T
    spread = int(highest[0] - lowest[0]) + 1
    radius = lowest[size] + np.stack([below(spread) for _ in range(MOST_OBJECTS)], 1)

    # Anywhere inside its cell: objects of two cells never overlap.
    room = CELL // 2 - radius
    row_and_column = np.stack(np.divmod(cell, 3), -1)
    jitter = [[below(2 * room[:, each] + 1) - room[:, each] for _ in range(2)] for each in range(MOST_OBJECTS)]
    center = FIRST_CENTER + CELL * row_and_column + np.array(jitter).transpose(2, 0, 1)

    tint = np.stack([below(2 * COLOR_JITTER + 1) for _ in range(3 + 3 * MOST_OBJECTS)], 1) - COLOR_JITTER
    background_rgb = np.array(list(BACKGROUNDS.values()))[background] + tint[:, :3]
    rgb = np.array(list(COLORS.values()))[color] + tint[:, 3:].reshape(count, MOST_OBJECTS, 3)
    return Scenes(
        num_objects=num_objects,
        background=background,
        background_rgb=background_rgb.astype(np.uint8),
        color=color,
        shape=shape,
        size=size,
        cell=cell,
        center=center,
        radius=radius,
        rgb=rgb.astype(np.uint8),
        partner=1 + below(np.maximum(num_objects - 1, 1)),
        sideways=below(2),
    )


def _distinct(below, limit: int) -> Int64[np.ndarray, "scene 3"]:
    """Draws different numbers below ``limit`` for the objects of each scene, every choice equally likely."""
    chosen: list[np.ndarray] = []
    for _ in range(MOST_OBJECTS):
        value = below(limit - len(chosen))
        for taken in np.sort(np.array(chosen), axis=0) if chosen else ():
            value = value + (value >= taken)
        chosen.append(value)
    return np.stack(chosen, 1)
