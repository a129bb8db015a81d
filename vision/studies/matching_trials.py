"""How often keypoints and a homography recognise one object in another view, and see it where another one is."""

import math
from typing import NamedTuple

import cv2
import numpy as np

from vision.classic.matching import Match, corners, match

_OFF = 0.05  # of the object's diagonal: where its corners may lie for a find to be right
_DARKER = 0.5
VIEWS = ("rotated", "scaled", "perspective", "darker")


class Pair(NamedTuple):
    """Two images, uint8 ``[height, width, 3]``, what they have in common, and the true homography if they have one."""

    wanted: np.ndarray
    scene: np.ndarray
    match: Match
    truth: np.ndarray | None

    @property
    def right(self) -> bool:
        """Whether the object is found where it is."""
        if not self.match.found or self.truth is None or self.match.homography is None:
            return False
        shape = self.wanted.shape
        astray = corners(self.match.homography, shape) - corners(self.truth, shape)
        return bool(np.abs(astray).max() <= _OFF * math.hypot(*shape[:2]))


class Rate(NamedTuple):
    """Over some pairs: the share that is found (where there is a truth, in the right place), and mean inliers."""

    found: float
    inliers: float
    pairs: int


def view(name: str, wanted: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns an object in another view, on a grey ground of the same size, and the homography that made it.

    Args:
      name: one of ``VIEWS``: turned by 20 to 70 degrees, half to three quarters as large, seen from the side, or in
        half the light; all are moved.
      wanted: uint8 ``[height, width, channels]``.
      generator: of all draws.
    """
    height, width = wanted.shape[:2]
    middle = np.array([width - 1, height - 1]) / 2
    angle, size, tilt = 0.0, 0.85, np.zeros(2)
    if name == "rotated":
        angle, size = math.radians(generator.uniform(20, 70)) * generator.choice([-1, 1]), 0.75
    elif name == "scaled":
        size = generator.uniform(0.5, 0.75)
    elif name == "perspective":
        tilt = generator.choice([-1, 1], 2) * generator.uniform(0.2, 0.45, 2) / (width, height)
    turn = np.array(
        [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [*tilt, 1]]
    ) @ np.diag([size, size, 1])
    moved = middle + generator.uniform(-0.05, 0.05, 2) * (width, height)
    homography = _shift(*moved) @ turn @ _shift(*-middle)
    scene = cv2.warpPerspective(
        wanted,
        homography,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=[127] * 3,
    )
    if name == "darker":
        scene = np.rint(scene * _DARKER).astype(np.uint8)
    return scene.reshape(wanted.shape), homography


def _shift(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


def same(name: str, wanted: np.ndarray, generator: np.random.Generator, *, upsample: int) -> Pair:
    """Looks for an object in another view of it."""
    scene, homography = view(name, wanted, generator)
    return Pair(wanted, scene, match(wanted, scene, upsample=upsample), homography)


def other(wanted: np.ndarray, scene: np.ndarray, *, upsample: int) -> Pair:
    """Looks for an object in an image of another."""
    return Pair(wanted, scene, match(wanted, scene, upsample=upsample), None)


def rate(pairs: list[Pair]) -> Rate:
    """Returns how many are found."""
    found = [each.match.found if each.truth is None else each.right for each in pairs]
    return Rate(float(np.mean(found)), float(np.mean([each.match.inliers for each in pairs])), len(pairs))


def picture_of(pair: Pair) -> np.ndarray:
    """Returns both images side by side, matches as lines: green where the homography explains them, else orange."""
    scale = max(1, round(220 / pair.wanted.shape[1]))
    images = [_colored(each, scale) for each in (pair.wanted, pair.scene)]
    height = max(each.shape[0] for each in images)
    gap = 8
    sheet = np.full((height, images[0].shape[1] + gap + images[1].shape[1], 3), 128, np.uint8)
    offset = images[0].shape[1] + gap
    sheet[: images[0].shape[0], : images[0].shape[1]] = images[0]
    sheet[: images[1].shape[0], offset:] = images[1]

    def place(point: np.ndarray, shift: float) -> tuple[int, int]:
        return round(float((point[0] + 0.5) * scale + shift)), round(float((point[1] + 0.5) * scale))

    found = pair.match
    for explained in (False, True):
        color = (47, 158, 68) if explained else (232, 89, 12)
        for first, second in zip(
            found.in_object[found.explained == explained], found.in_scene[found.explained == explained], strict=True
        ):
            cv2.line(sheet, place(first, 0.0), place(second, float(offset)), color, 1, cv2.LINE_AA)
    if found.found and found.homography is not None:
        outline = [place(point, float(offset)) for point in corners(found.homography, pair.wanted.shape)]
        cv2.polylines(sheet, [np.array(outline)], True, (47, 158, 68), 2, cv2.LINE_AA)
    return sheet


def _colored(image: np.ndarray, scale: int) -> np.ndarray:
    large = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    return np.broadcast_to(large.reshape(*large.shape[:2], -1), (*large.shape[:2], 3))
