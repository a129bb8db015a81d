"""First-layer filters as images."""

import numpy as np

from vision.analysis.patch_pca import components_of

COMPONENTS = 28


def convolution_filters(kernel: np.ndarray) -> np.ndarray:
    """Returns ``[filters, height, width, channels]`` of a kernel ``[height, width, channels, filters]``."""
    return np.moveaxis(np.asarray(kernel, np.float64), -1, 0)


def dense_filters(kernel: np.ndarray, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Returns the weights ``[pixels, units]`` of a layer that sees all pixels as ``[units, *image_shape]``."""
    return np.asarray(kernel, np.float64).T.reshape(-1, *image_shape)


def patch_components(kernel: np.ndarray, patch_size: int) -> np.ndarray:
    """Returns the first 28 principal components of the filters of a patch embedding.

    That of Dosovitskiy et al. 2021, figure 7 (left): plausible basis functions of the structure within each patch.

    Args:
      kernel: ``[pixels, width]``, the pixels of a patch in the order rows, columns, channels.
      patch_size: side of a patch.

    Returns:
      ``[components, patch_size, patch_size, channels]``, with the signs of
      :func:`vision.analysis.patch_pca.components_of`.
    """
    fitted = components_of(np.asarray(kernel).T, COMPONENTS)
    return fitted.components_.reshape(len(fitted.components_), patch_size, patch_size, -1)


def as_pixels(filters: np.ndarray) -> np.ndarray:
    """Returns weights ``[filters, height, width, channels]`` as uint8: 0 is grey, each filter's largest 0 or 255."""
    largest = np.abs(filters).max(axis=(1, 2, 3), keepdims=True)
    scaled = np.divide(filters, largest, out=np.zeros_like(filters), where=largest > 0)
    return np.rint(127.5 + 127.5 * scaled).astype(np.uint8)
