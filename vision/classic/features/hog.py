"""Histograms of oriented gradients."""

from typing import Literal

import numpy as np
from joblib import Parallel, delayed
from skimage.feature import hog
from sklearn.base import BaseEstimator, TransformerMixin

from vision.classic.features.images import check_images, grey_levels

_IMAGES = 256  # described by one thread at a time


class Hog(TransformerMixin, BaseEstimator):
    """Histograms of gradient orientations over cells, normalised over overlapping blocks of cells (scikit-image).

    Dalal and Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR 2005, section 6: central
    differences, unsigned orientations weighted by magnitude, L2-Hys normalisation (L2, clipped at 0.2, L2 again).
    scikit-image gives each pixel's vote to one cell and one orientation, where the paper interpolates.

    Args:
      orientations: bins over 180 degrees.
      cell_size: side of a cell in pixels; what is left over at the right and the bottom belongs to no cell.
      block_size: side of a block in cells.
      gradient: ``grey``, or ``largest``: of the colour channel whose gradient is largest at the pixel.

    Raises:
      ValueError: an option is not positive, or the images are smaller than a block.
    """

    takes, gives = "images", "features"

    def __init__(
        self,
        *,
        orientations: int = 9,
        cell_size: int = 8,
        block_size: int = 2,
        gradient: Literal["grey", "largest"] = "grey",
    ):
        self.orientations = orientations
        self.cell_size = cell_size
        self.block_size = block_size
        self.gradient = gradient

    def fit(self, x: np.ndarray, y: np.ndarray | None = None):
        """Checks the options and the images; there is nothing to learn."""
        self._check(x)
        return self

    def transform(self, x: np.ndarray) -> np.ndarray:
        """Returns float32 ``[n, rows of blocks * columns of blocks * block_size ** 2 * orientations]``.

        Args:
          x: uint8 ``[n, height, width, channels]``.
        """
        self._check(x)
        levels = grey_levels(x) if self.gradient == "grey" or x.shape[-1] == 1 else x.astype(np.float32)
        parts = np.array_split(levels, -(-len(x) // _IMAGES))
        # Processes would gain more from many cores, but take seconds to start, as long as thousands of images.
        workers = Parallel(n_jobs=-1 if len(parts) > 1 else 1, prefer="threads")
        return np.concatenate(workers(delayed(self._describe)(part) for part in parts))

    def _describe(self, levels: np.ndarray) -> np.ndarray:
        """The features of float images ``[n, height, width]`` or ``[n, height, width, 3]``."""
        described = [
            hog(
                image,
                orientations=self.orientations,
                pixels_per_cell=(self.cell_size, self.cell_size),
                cells_per_block=(self.block_size, self.block_size),
                block_norm="L2-Hys",
                channel_axis=-1 if levels.ndim == 4 else None,
            )
            for image in levels
        ]
        return np.asarray(described, np.float32)

    def _check(self, x: np.ndarray) -> None:
        for name in ("orientations", "cell_size", "block_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"hog: {name} must be at least 1, got {getattr(self, name)}")
        least = self.cell_size * self.block_size
        check_images(x, "hog", least=least, window=f"a block of {self.block_size} cells of {self.cell_size} pixels")
