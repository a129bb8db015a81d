"""Raw pixels as features."""

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from vision.classic.features.images import check_images, grey_levels


class Pixels(TransformerMixin, BaseEstimator):
    """Pixels divided by 255, one feature each.

    Args:
      grey: whether colours are first made grey.
    """

    takes, gives = "images", "features"

    def __init__(self, *, grey: bool = False):
        self.grey = grey

    def fit(self, x: np.ndarray, y: np.ndarray | None = None):
        """Checks the images; there is nothing to learn."""
        check_images(x, "pixels")
        return self

    def transform(self, x: np.ndarray) -> np.ndarray:
        """Returns float32 ``[n, height * width * channels]`` of uint8 images ``[n, height, width, channels]``."""
        check_images(x, "pixels")
        levels = grey_levels(x) if self.grey else x
        return levels.reshape(len(x), -1) / np.float32(255)
