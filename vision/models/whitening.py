"""Filters that whiten small patches of images, made from images and not from labels."""

import numpy as np
from jaxtyping import Float


def whitening_filters(
    images: Float[np.ndarray, "count height width channels"], size: int, *, eps: float
) -> Float[np.ndarray, "size size channels filters"]:
    """Returns ``2 * size**2 * channels`` filters, each principal direction of the patches and its negative.

    A direction v of variance s is divided by ``sqrt(s + eps)``, so that responses to patches like these have a mean
    square of about one and are uncorrelated (Coates and Ng 2012, section 3.1). Moments are taken about zero, not the
    mean, as in the released code of Jordan 2024 (arXiv:2404.00498, section 3.1).

    Args:
      images: normalised.
      size: of a patch, in pixels.
      eps: added to each variance.
    """
    windows = np.lib.stride_tricks.sliding_window_view(images, (size, size), axis=(1, 2))
    second_moment, count = np.zeros((size * size * images.shape[3],) * 2), 0
    for part in windows:  # one image at a time: all patches at once would be size**2 times the images
        patches = np.moveaxis(part, 2, -1).reshape(-1, len(second_moment)).astype(np.float64)
        second_moment += patches.T @ patches
        count += len(patches)
    variances, directions = np.linalg.eigh(second_moment / count)
    scaled = directions / np.sqrt(np.maximum(variances, 0.0) + eps)
    filters = np.concatenate([scaled, -scaled], axis=1).astype(np.float32)
    return filters.reshape(size, size, images.shape[3], -1)
