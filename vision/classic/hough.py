"""Lines and circles found without learning: edge pixels vote for the shapes they may lie on (OpenCV)."""

import math
from typing import NamedTuple

import cv2
import numpy as np

from vision.classic.features.images import check_images, grey_levels

_EDGES = (50, 150)  # Canny's thresholds, of gradients of grey levels
_APART = (5.0, math.radians(5))  # pixels and angle within which peaks are of one line: a stroke has two edges
_ALONG = 3.5  # pixels from a line or circle that its edges may lie
_STEP = (1.0, math.radians(0.5))  # of the accumulator


class Line(NamedTuple):
    """The points ``x cos(angle) + y sin(angle) = distance``, in pixels from the top left; angle in [0, pi)."""

    distance: float
    angle: float


class Circle(NamedTuple):
    """Center and radius in pixels; the middle of the top left pixel is (0, 0)."""

    x: float
    y: float
    radius: float


def find_lines(image: np.ndarray, *, support: float = 0.4) -> list[Line]:
    """Finds straight lines, the best supported first.

    Duda and Hart, "Use of the Hough Transformation to Detect Lines and Curves in Pictures", CACM 1972: each edge pixel
    votes for all lines through it, by angle and distance from the origin. The line with most votes is fitted to the
    pixels along it, these are taken away, and the others vote again.

    Args:
      image: uint8 ``[height, width, channels]``.
      support: edge pixels on a line, as a share of the shorter side.

    Raises:
      ValueError: the image is not such, or ``support`` is not positive.
    """
    check_images(image[None], "hough", least=8, window="what can show a line")
    if not support > 0:
        raise ValueError(f"hough: support must be positive, got {support:g}")
    edges = cv2.Canny(_grey(image), *_EDGES)
    least = max(1, round(support * min(image.shape[:2])))
    lines: list[Line] = []
    while (peaks := cv2.HoughLinesWithAccumulator(edges, *_STEP, least)) is not None:
        rows, columns = np.nonzero(edges)
        line = _best_line(peaks.reshape(-1, 3).astype(np.float64))
        along = _from_line(line, columns, rows) <= _ALONG
        if along.sum() < least:
            break
        lines.append(_fitted_line(np.stack([columns, rows], axis=1)[along].astype(np.float64)))
        edges[rows[along], columns[along]] = 0
    return lines


def find_circles(
    image: np.ndarray, *, perfectness: float = 0.9, radii: tuple[float, float] = (4.0, 100.0)
) -> list[Circle]:
    """Finds circles, drawn or filled, the best supported first.

    Yuen, Princen, Illingworth and Kittler, "Comparative study of Hough Transform methods for circle finding", Image
    and Vision Computing 1990: edge pixels vote for centers along their gradients, then for a radius.

    Args:
      image: uint8 ``[height, width, channels]``.
      perfectness: how round a circle must be, up to 1.
      radii: the smallest and the largest, in pixels.

    Raises:
      ValueError: the image is not such, or an option is out of range.
    """
    check_images(image[None], "hough", least=8, window="what can show a circle")
    if not 0 < perfectness <= 1 or not 0 < radii[0] <= radii[1]:
        got = f"{perfectness:g} and {radii}"
        raise ValueError(f"hough: perfectness must be in (0, 1] and radii ascending and positive, got {got}")
    grey = _grey(image)
    found = cv2.HoughCircles(
        grey,
        cv2.HOUGH_GRADIENT_ALT,
        dp=1.5,
        minDist=radii[0],
        param1=300,  # upper threshold of the edges, of Scharr's gradients
        param2=perfectness,
        minRadius=math.floor(radii[0]),
        maxRadius=math.ceil(radii[1]),
    )
    rows, columns = np.nonzero(cv2.Canny(grey, *_EDGES))
    edges = np.stack([columns, rows], axis=1).astype(np.float64)
    return [] if found is None else [_refined(Circle(*each), edges) for each in found.reshape(-1, 3).tolist()]


def _best_line(peaks: np.ndarray) -> Line:
    """The mean of the strongest peak ``(distance, angle, votes)`` and those near it, weighted by votes."""
    turns = np.round((peaks[:, 1] - peaks[0, 1]) / math.pi)  # a half turn changes the sign of the distance
    distance = peaks[:, 0] * np.where(turns % 2 == 0, 1, -1)
    angle = peaks[:, 1] - turns * math.pi
    near = (abs(distance - distance[0]) <= _APART[0]) & (abs(angle - angle[0]) <= _APART[1])
    return Line(*(float(np.average(each[near], weights=peaks[near, 2])) for each in (distance, angle)))


def _from_line(line: Line, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return abs(x * math.cos(line.angle) + y * math.sin(line.angle) - line.distance)


def _fitted_line(points: np.ndarray) -> Line:
    """The line from which points ``[n, 2]`` have the least squared distance."""
    middle = points.mean(0)
    normal = np.linalg.svd(points - middle, full_matrices=False)[2][1]
    angle = math.atan2(normal[1], normal[0])
    distance = float(middle @ normal)
    return Line(distance, angle) if 0 <= angle < math.pi else Line(-distance, angle % math.pi)


def _refined(circle: Circle, edges: np.ndarray) -> Circle:
    """The circle that fits the edge pixels along another best: least squares of ``x^2 + y^2 = 2ax + 2by + c``.

    OpenCV's centers are whole pixels and a half.
    """
    for _ in range(2):
        points = edges - circle[:2]
        along = points[abs(np.hypot(*points.T) - circle.radius) <= _ALONG]
        if len(along) < 8:
            return circle
        matrix = np.column_stack([2 * along, np.ones(len(along))])
        (x, y, constant), *_ = np.linalg.lstsq(matrix, np.square(along).sum(1), rcond=None)
        circle = Circle(circle.x + float(x), circle.y + float(y), math.sqrt(max(constant + x * x + y * y, 0.0)))
    return circle


def _grey(image: np.ndarray) -> np.ndarray:
    return np.rint(grey_levels(image[None])[0]).astype(np.uint8)
