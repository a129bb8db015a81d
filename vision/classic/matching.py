"""Whether this very object is in that image, without learning: keypoints, their nearest descriptors, one homography."""

from typing import NamedTuple

import cv2
import numpy as np

from vision.classic.features.images import check_images, grey_levels
from vision.classic.features.sift import root_sift

_SMALLEST = 1e-3  # of the object's area in the scene: a homography onto a point or a line explains nothing


class Match(NamedTuple):
    """What two images have in common.

    Attributes:
      found: whether the object is in the scene: enough inliers, and a homography that keeps it a convex quadrilateral.
      inliers: how many matches the homography explains.
      homography: float64 ``[3, 3]`` from pixels ``(x, y, 1)`` of the object to those of the scene; None without one.
      in_object: places of the keypoints that passed the ratio test, float32 ``[matches, 2]``, x and y in pixels.
      in_scene: those of their partners.
      explained: which of them are inliers, bool ``[matches]``.
    """

    found: bool
    inliers: int
    homography: np.ndarray | None
    in_object: np.ndarray
    in_scene: np.ndarray
    explained: np.ndarray


def match(
    wanted: np.ndarray,
    scene: np.ndarray,
    *,
    ratio: float = 0.8,
    tolerance: float = 3.0,
    least_inliers: int = 10,
    upsample: int = 1,
) -> Match:
    """Looks for one object, flat or far away, in another image.

    Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004: a keypoint's nearest descriptor counts
    where the second nearest is farther by more than 1 / ``ratio`` (section 7.1). RANSAC (Fischler and Bolles 1981) then
    looks for the homography that most matches agree on. Descriptors are RootSIFT; of several keypoints of the object
    with the same partner the nearest counts.

    Args:
      wanted: image of the object alone, uint8 ``[height, width, channels]``.
      scene: the other, of any size.
      ratio: of the ratio test, below 1.
      tolerance: pixels that a match may lie off the homography, in the (enlarged) scene.
      least_inliers: with fewer, the object is not found.
      upsample: how many times larger both are first made; keypoints are few in small images.

    Raises:
      ValueError: the images are not such, or an option is out of range.
    """
    for image in (wanted, scene):
        check_images(image[None], "matching", least=8, window="what can have a keypoint")
    if not 0 < ratio < 1 or not tolerance > 0 or least_inliers < 4 or upsample < 1:
        raise ValueError(
            "matching: ratio must be in (0, 1), tolerance positive, least_inliers at least 4 and upsample at least 1, "
            f"got {ratio:g}, {tolerance:g}, {least_inliers} and {upsample}"
        )
    in_object, in_scene = _partners(_keypoints(wanted, upsample), _keypoints(scene, upsample), ratio)
    homography, explained = None, np.zeros(len(in_object), bool)
    if len(in_object) >= 4:
        homography, mask = cv2.findHomography(in_object, in_scene, cv2.RANSAC, tolerance / upsample)
        explained = explained if homography is None else mask.ravel().astype(bool)
    inliers = int(explained.sum())
    found = homography is not None and inliers >= least_inliers and _is_sound(homography, wanted.shape)
    return Match(found, inliers, homography, in_object, in_scene, explained)


def corners(homography: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns where the corners of an image ``(height, width, ...)`` come to lie, float64 ``[4, 2]``, x and y."""
    height, width = shape[:2]
    box = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float64)
    return cv2.perspectiveTransform(box[None], homography)[0]


def _keypoints(image: np.ndarray, upsample: int) -> tuple[np.ndarray, np.ndarray]:
    """Places, float32 ``[n, 2]`` in pixels of the image as given, and descriptors, float32 ``[n, 128]``."""
    grey = np.rint(grey_levels(image[None])[0]).astype(np.uint8)
    if upsample > 1:
        grey = cv2.resize(grey, None, fx=upsample, fy=upsample, interpolation=cv2.INTER_CUBIC)
    keypoints, descriptors = cv2.SIFT.create().detectAndCompute(grey, None)
    if not keypoints:
        return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32)
    places = np.array([keypoint.pt for keypoint in keypoints], np.float32)
    return (places + 0.5) / upsample - 0.5, root_sift(descriptors)


def _partners(
    wanted: tuple[np.ndarray, np.ndarray], scene: tuple[np.ndarray, np.ndarray], ratio: float
) -> tuple[np.ndarray, np.ndarray]:
    """The places of the keypoints that pass the ratio test, and of their partners, each float32 ``[matches, 2]``."""
    nothing = np.zeros((0, 2), np.float32)
    if not len(wanted[0]) or len(scene[0]) < 2:
        return nothing, nothing
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(wanted[1], scene[1], k=2)
    good = sorted((first for first, second in pairs if first.distance < ratio * second.distance), key=_distance)
    nearest = {each.trainIdx: each for each in reversed(good)}.values()
    if not nearest:
        return nothing, nothing
    return wanted[0][[each.queryIdx for each in nearest]], scene[0][[each.trainIdx for each in nearest]]


def _distance(each: cv2.DMatch) -> float:
    return each.distance


def _is_sound(homography: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether the object, in the scene, is still a convex quadrilateral of the same orientation and of some size."""
    quadrilateral = corners(homography, shape)
    sides = np.roll(quadrilateral, -1, axis=0) - quadrilateral
    following = np.roll(sides, -1, axis=0)
    turns = sides[:, 0] * following[:, 1] - sides[:, 1] * following[:, 0]
    area = cv2.contourArea(quadrilateral.astype(np.float32))
    return bool(np.isfinite(quadrilateral).all() and (turns > 0).all() and area > _SMALLEST * shape[0] * shape[1])
