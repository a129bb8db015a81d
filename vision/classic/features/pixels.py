"""Raw pixels as features, or features that a network made."""

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from vision.classic.features.images import check_images, grey_levels


class Pixels(TransformerMixin, BaseEstimator):
    """Pixels divided by 255, one feature each; float32 are no pixels but features already, and stay as they are.

    Args:
      grey: whether colours are first made grey.
    """

    takes, gives = "images", "features"

    def __init__(self, *, grey: bool = False):
        self.grey = grey

    def fit(self, x: np.ndarray, y: np.ndarray | None = None):
        """Checks the images; there is nothing to learn."""
        _check(x)
        return self

    def transform(self, x: np.ndarray) -> np.ndarray:
        """Returns float32 ``[n, height * width * channels]`` of images ``[n, height, width, channels]``."""
        _check(x, grey=self.grey)
        if x.dtype == np.float32:
            return x.reshape(len(x), -1)
        levels = grey_levels(x) if self.grey else x
        return levels.reshape(len(x), -1) / np.float32(255)


def _check(x: np.ndarray, *, grey: bool = False) -> None:
    """Floats with the channels of a picture are taken for a picture on another scale, and refused as one."""
    features = x.dtype == np.float32 and x.ndim == 4 and (x.shape[1:3] == (1, 1) or x.shape[3] not in (1, 3))
    if not features or np.isnan(x).any():
        check_images(x, "pixels")
    elif grey:
        raise ValueError("pixels: grey is for colours, and these are features")
