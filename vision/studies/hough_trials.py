"""How often the Hough transform finds drawn lines and circles: clean, drawn by a shaky hand, among clutter."""

import math
from typing import NamedTuple

import cv2
import numpy as np

from vision.classic.hough import Circle, Line, find_circles, find_lines
from vision.data.builders.shape_raster import render
from vision.data.builders.shape_scenes import SHAPES, UNITS, draw

LOOKS = ("clean", "hand-drawn", "clutter")
SIDE = 128
_DRAWN = 3  # lines or circles in a picture
_OFF = (4.0, math.radians(3))  # pixels and angle that a find may be off to count
_RADII = (10.0, 24.0)
_SHAKE = 0.15  # of the radius of a hand-drawn circle; a line strays by as much of the largest circle
_BLOBS = 60  # behind, and as many before
_ENLARGED = 4  # shapes are 10 to 20 pixels wide


class Scene(NamedTuple):
    """A picture uint8 ``[128, 128, 3]`` with what was drawn and what was found."""

    picture: np.ndarray
    drawn: list[Line] | list[Circle]
    found: list[Line] | list[Circle]

    @property
    def hits(self) -> int:
        """How many of what was drawn were found."""
        return sum(any(_same(each, other) for other in self.found) for each in self.drawn)

    @property
    def false(self) -> int:
        """How many were found that were not drawn."""
        return sum(not any(_same(each, other) for other in self.drawn) for each in self.found)


def scene(kind: str, look: str, generator: np.random.Generator) -> Scene:
    """Draws three lines or circles at random and looks for them.

    Args:
      kind: ``lines`` or ``circles``.
      look: one of ``LOOKS``; clutter is filled blobs behind and before clean lines or circles.
      generator: of all draws.
    """
    picture = np.full((SIDE, SIDE, 3), 255, np.uint8)
    blobs = _BLOBS if look == "clutter" else 0
    _blobs(picture, blobs, generator)
    shake = _SHAKE if look == "hand-drawn" else 0.0
    if kind == "lines":
        lines = _apart([_random_line(generator) for _ in range(40)])
        for line in lines:
            _stroke(picture, _points_of_line(line, shake * _RADII[1], generator))
        _blobs(picture, blobs, generator)
        return Scene(picture, lines, find_lines(picture))
    circles = _apart([_random_circle(generator) for _ in range(40)])
    for circle in circles:
        _stroke(picture, _points_of_circle(circle, shake, generator))
    _blobs(picture, blobs, generator)
    return Scene(picture, circles, find_circles(picture, radii=(6.0, 40.0)))


def rates(count: int, seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """Returns, by kind and look, the share ``found`` and how many are ``false`` in a picture, of ``count`` pictures."""
    result: dict[str, dict[str, dict[str, float]]] = {}
    for kind in ("lines", "circles"):
        result[kind] = {}
        for look in LOOKS:
            generator = np.random.default_rng([seed, LOOKS.index(look)])
            scenes = [scene(kind, look, generator) for _ in range(count)]
            found = sum(each.hits for each in scenes) / sum(len(each.drawn) for each in scenes)
            result[kind][look] = {"found": found, "false": sum(each.false for each in scenes) / count}
    return result


def circles_among_shapes(count: int) -> dict[str, float]:
    """Returns, for each of the captioned shapes, how often a circle is seen where one stands alone.

    Args:
      count: scenes that are looked through; about a third have a single object.
    """
    scenes = draw("train", count)
    alone = np.flatnonzero(scenes.num_objects == 1)
    pictures = render(scenes)
    seen: dict[str, list[bool]] = {name: [] for name in SHAPES}
    for index in alone:
        row, column = (scenes.center[index, 0] / UNITS + 0.5) * _ENLARGED - 0.5
        large = cv2.resize(pictures[index], None, fx=_ENLARGED, fy=_ENLARGED, interpolation=cv2.INTER_CUBIC)
        radius = scenes.radius[index, 0] / UNITS * _ENLARGED
        circles = find_circles(large, radii=(0.4 * radius, 1.3 * radius))
        near = [math.hypot(each.x - column, each.y - row) <= 0.5 * radius for each in circles]
        seen[SHAPES[scenes.shape[index, 0]]].append(any(near))
    return {name: float(np.mean(each)) for name, each in seen.items() if each}


def picture_of(shown: Scene) -> np.ndarray:
    """Returns the picture, twice as large, with what was found drawn over it in colour."""
    large = cv2.resize(shown.picture, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    for each in shown.found:
        color = (47, 158, 68) if any(_same(each, other) for other in shown.drawn) else (232, 89, 12)
        if isinstance(each, Circle):
            place = (round((each.x + 0.5) * 2 * 16), round((each.y + 0.5) * 2 * 16))
            cv2.circle(large, place, round(each.radius * 2 * 16), color, 2, cv2.LINE_AA, 4)
        else:
            ends = _points_of_line(each, 0.0, np.random.default_rng(0))[[0, -1]]
            first, last = np.rint((ends + 0.5) * 2 * 16).astype(int).tolist()
            cv2.line(large, first, last, color, 2, cv2.LINE_AA, 4)
    return large


def _same(one: Line | Circle, other: Line | Circle) -> bool:
    if isinstance(one, Circle) and isinstance(other, Circle):
        return math.dist(one[:2], other[:2]) <= _OFF[0] and abs(one.radius - other.radius) <= _OFF[0]
    turns = round((one[1] - other[1]) / math.pi)  # angles just below pi are near those just above 0
    angle, distance = one[1] - turns * math.pi, one[0] * (-1) ** turns
    return abs(angle - other[1]) <= _OFF[1] and abs(distance - other[0]) <= _OFF[0]


def _apart(candidates: list) -> list:
    """The first three that differ by far from each other: circles do not touch, lines are no near parallels."""
    chosen: list = []
    for each in candidates:
        if isinstance(each, Circle):
            good = all(math.dist(each[:2], other[:2]) > each.radius + other.radius + 4 for other in chosen)
        else:
            good = all(abs(math.sin(each.angle - other.angle)) > math.sin(math.radians(20)) for other in chosen)
        if good and len(chosen) < _DRAWN:
            chosen.append(each)
    return chosen


def _random_line(generator: np.random.Generator) -> Line:
    angle = generator.uniform(0, math.pi)
    x, y = generator.uniform(SIDE / 4, 3 * SIDE / 4, 2)
    return Line(float(x * math.cos(angle) + y * math.sin(angle)), float(angle))


def _random_circle(generator: np.random.Generator) -> Circle:
    radius = generator.uniform(*_RADII)
    x, y = generator.uniform(radius + 4, SIDE - radius - 4, 2)
    return Circle(float(x), float(y), float(radius))


def _points_of_line(line: Line, shake: float, generator: np.random.Generator) -> np.ndarray:
    """Points ``[200, 2]`` along a line across the picture, straying from it by waves of ``shake`` pixels each."""
    normal = np.array([math.cos(line.angle), math.sin(line.angle)])
    along = np.linspace(-1.5 * SIDE, 1.5 * SIDE, 200)
    middle = line.distance * normal + np.array([-normal[1], normal[0]]) * (
        (SIDE / 2) * (normal[0] - normal[1])  # the foot of the picture's middle
    )
    astray = _waves(along / SIDE, shake, generator)
    return middle + along[:, None] * np.array([-normal[1], normal[0]]) + astray[:, None] * normal


def _points_of_circle(circle: Circle, shake: float, generator: np.random.Generator) -> np.ndarray:
    """Points ``[200, 2]`` around a circle, whose radius wavers by waves of the share ``shake`` each."""
    turn = np.linspace(0, 1, 200)
    radius = circle.radius * (1 + _waves(turn, shake, generator))
    return np.stack([circle.x + radius * np.cos(2 * np.pi * turn), circle.y + radius * np.sin(2 * np.pi * turn)], 1)


def _waves(position: np.ndarray, size: float, generator: np.random.Generator) -> np.ndarray:
    """Three waves of 2 to 4 periods per unit, of random phase."""
    return sum(
        (size / 2 * np.sin(2 * np.pi * (periods * position + generator.uniform())) for periods in (2, 3, 4)),
        np.zeros_like(position),
    )


def _stroke(picture: np.ndarray, points: np.ndarray) -> None:
    """Draws a pen's stroke through points, in place."""
    cv2.polylines(picture, [np.rint(points * 16).astype(np.int32)], False, (40, 40, 60), 2, cv2.LINE_AA, 4)


def _blobs(picture: np.ndarray, count: int, generator: np.random.Generator) -> None:
    """Fills the picture with polygons in the pen's ink and in paler ones, in place."""
    for _ in range(count):
        middle, size = generator.uniform(0, SIDE, 2), generator.uniform(3, 9)
        turn = np.sort(generator.uniform(0, 2 * np.pi, 7))
        reach = size * generator.uniform(0.4, 1.0, 7)
        points = middle + reach[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1)
        ink = generator.uniform(0, 200)
        cv2.fillPoly(picture, [np.rint(points * 16).astype(np.int32)], (ink, ink, ink + 20), cv2.LINE_AA, 4)
