"""SIFT descriptors on a grid or at keypoints (OpenCV)."""

from collections.abc import Callable

import cv2
import numpy as np
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator, TransformerMixin

from vision.classic.features.descriptors import Descriptors, concatenate
from vision.classic.features.images import check_images, grey_levels

_IMAGES = 128  # described by one thread at a time
_WIDTH = 6.0  # a descriptor's window, 4x4 histograms of 3 sigma each, is that many times OpenCV's size of a keypoint


class DenseSift(TransformerMixin, BaseEstimator):
    """SIFT descriptors of upright patches on a regular grid.

    Descriptors of Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004, section 6; on a grid as
    Lazebnik, Schmid and Ponce 2006, section 4: patches of 16x16 pixels every 8.

    Args:
      upsample: how many times larger the images are first made, by cubic interpolation; 32x32 pixels are few for SIFT.
      step: pixels between patches, of the enlarged image.
      patch_size: side of a patch, of the enlarged image.
      root: RootSIFT: descriptors are divided by their sum and the roots taken (Arandjelovic and Zisserman 2012).

    Raises:
      ValueError: an option is not positive, or the enlarged images are smaller than a patch.
    """

    takes, gives = "images", "descriptors"

    def __init__(self, *, upsample: int = 1, step: int = 8, patch_size: int = 16, root: bool = True):
        self.upsample = upsample
        self.step = step
        self.patch_size = patch_size
        self.root = root

    def fit(self, x: np.ndarray, y: np.ndarray | None = None):
        """Checks the options and the images; there is nothing to learn."""
        self._check(x)
        return self

    def transform(self, x: np.ndarray) -> Descriptors:
        """Returns the descriptors of uint8 images ``[n, height, width, channels]``."""
        self._check(x)
        half = self.patch_size / 2
        grid = [
            cv2.KeyPoint(column, row, self.patch_size / _WIDTH, 0.0)
            for row in np.arange(half, x.shape[1] * self.upsample - half + 1, self.step)
            for column in np.arange(half, x.shape[2] * self.upsample - half + 1, self.step)
        ]
        return _in_threads(x, self.upsample, self.root, lambda image: cv2.SIFT.create().compute(image, grid))

    def _check(self, x: np.ndarray) -> None:
        _check_positive("dense_sift", upsample=self.upsample, step=self.step, patch_size=self.patch_size)
        least = -(-self.patch_size // self.upsample)
        window = f"a patch of {self.patch_size} pixels (upsample {self.upsample})"
        check_images(x, "dense_sift", least=least, window=window)


class KeypointSift(TransformerMixin, BaseEstimator):
    """SIFT descriptors where the detector finds keypoints; an image without any has no descriptors.

    Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004, sections 3 to 6.

    Args:
      upsample: how many times larger the images are first made, by cubic interpolation.
      contrast_threshold: of the detector; lower gives more keypoints. OpenCV's own is 0.04.
      root: RootSIFT, see :class:`DenseSift`.

    Raises:
      ValueError: an option is out of range.
    """

    takes, gives = "images", "descriptors"

    def __init__(self, *, upsample: int = 1, contrast_threshold: float = 0.04, root: bool = True):
        self.upsample = upsample
        self.contrast_threshold = contrast_threshold
        self.root = root

    def fit(self, x: np.ndarray, y: np.ndarray | None = None):
        """Checks the options and the images; there is nothing to learn."""
        self._check(x)
        return self

    def transform(self, x: np.ndarray) -> Descriptors:
        """Returns the descriptors of uint8 images ``[n, height, width, channels]``."""
        self._check(x)

        def describe(image: np.ndarray):
            return cv2.SIFT.create(contrastThreshold=self.contrast_threshold).detectAndCompute(image, None)

        return _in_threads(x, self.upsample, self.root, describe)

    def _check(self, x: np.ndarray) -> None:
        _check_positive("keypoint_sift", upsample=self.upsample)
        if not self.contrast_threshold >= 0:
            raise ValueError(f"keypoint_sift: contrast_threshold must not be negative, got {self.contrast_threshold}")
        check_images(x, "keypoint_sift")


def root_sift(descriptors: np.ndarray) -> np.ndarray:
    """Returns the roots of descriptors divided by their sums, float32 ``[n, 128]``: the dot product becomes
    Bhattacharyya's coefficient.
    """
    total = np.maximum(descriptors.sum(axis=1, keepdims=True, dtype=np.float32), 1e-12)
    return np.sqrt(descriptors / total, dtype=np.float32)


def _check_positive(name: str, **options: int) -> None:
    for option, value in options.items():
        if value < 1:
            raise ValueError(f"{name}: {option} must be at least 1, got {value}")


def _in_threads(x: np.ndarray, upsample: int, root: bool, describe: Callable) -> Descriptors:
    """Describes images in threads; OpenCV lets go of Python's lock."""

    def some(images: np.ndarray) -> Descriptors:
        values, places, counts = [np.zeros((0, 128), np.float16 if root else np.uint8)], [np.zeros((0, 2))], []
        for image in np.rint(grey_levels(images)).astype(np.uint8):
            height, width = image.shape[0] * upsample, image.shape[1] * upsample
            larger = image if upsample == 1 else cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
            keypoints, described = describe(larger)
            counts.append(len(keypoints))
            if keypoints:
                values.append(root_sift(described).astype(np.float16) if root else described.astype(np.uint8))
                places.append(np.array([keypoint.pt for keypoint in keypoints]) / (width, height))
        return Descriptors(np.concatenate(values), np.concatenate(places).astype(np.float32), np.array(counts))

    parts = np.array_split(x, -(-len(x) // _IMAGES))
    workers = Parallel(n_jobs=-1 if len(parts) > 1 else 1, prefer="threads")
    return concatenate(workers(delayed(some)(part) for part in parts))
