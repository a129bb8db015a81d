"""Patch features as colours: their first three principal components over several images."""

from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA


class Colors(NamedTuple):
    """Colours of patches.

    Attributes:
      rgb: ``[images, rows, columns, 3]`` from 0 to 1, the first component red; black where there is no colour.
      explained: share of the variance of each component.
    """

    rgb: np.ndarray
    explained: tuple[float, ...]


def components_of(rows: np.ndarray, count: int) -> PCA:
    """Returns the principal components of rows ``[n, features]``, in float64.

    Components have a sign of their own: in each, the loading that is largest in magnitude is positive, which is
    scikit-learn's convention (``svd_flip`` by rows of ``V``). So the same features always get the same colours.
    """
    solver = "full" if len(rows) <= rows.shape[1] else "covariance_eigh"
    with np.errstate(invalid="ignore"):  # shares of a variance of 0
        return PCA(min(count, *rows.shape), svd_solver=solver).fit(np.asarray(rows, np.float64))


def patch_colors(features: np.ndarray, mask: np.ndarray | None = None) -> Colors:
    """Returns patches coloured by their first three components over all images together (DINOv2, figure 1).

    Each component is scaled to reach from 0 to 1; one that there is not, or that does not vary, is 0.5.

    Args:
      features: ``[images, rows, columns, width]``.
      mask: bool ``[images, rows, columns]``: only these patches count and are coloured.

    Raises:
      ValueError: fewer than two patches.
    """
    mask = np.ones(features.shape[:3], bool) if mask is None else mask
    rows = features[mask]
    if len(rows) < 2:
        raise ValueError(f"principal components need two patches at least, there are {len(rows)}")
    fitted = components_of(rows, 3)
    scores = fitted.transform(np.asarray(rows, np.float64))
    low, high = scores.min(axis=0), scores.max(axis=0)
    # What rounding alone makes of equal rows is no component.
    varies = high - low > 1e-9 * max(1.0, float(np.abs(rows).max()))
    scaled = np.where(varies, (scores - low) / np.where(varies, high - low, 1.0), 0.5)
    rgb = np.zeros((*features.shape[:3], 3))
    colors = np.full((len(rows), 3), 0.5)
    colors[:, : scaled.shape[1]] = scaled
    rgb[mask] = colors
    explained = np.nan_to_num(fitted.explained_variance_ratio_)
    return Colors(rgb, tuple(float(share) for share in explained))


def foreground(features: np.ndarray, threshold: float = 0.0) -> np.ndarray:
    """Returns the patches of the foreground by their first component (Oquab et al. 2024, DINOv2, section 7.5).

    The paper keeps the patches above a threshold. Which side is above is a matter of sign: here the background is
    the side on which most patches at the border of their image lie.

    Args:
      features: ``[images, rows, columns, width]``.
      threshold: on the component, in its standard deviations; the larger, the fewer patches.

    Returns:
      bool ``[images, rows, columns]``.
    """
    fitted = components_of(features.reshape(-1, features.shape[-1]), 1)
    scores = fitted.transform(np.asarray(features, np.float64).reshape(-1, features.shape[-1]))
    first = scores.reshape(features.shape[:3])
    border = np.zeros(first.shape[1:], bool)
    border[[0, -1]] = border[:, [0, -1]] = True
    sign = -1.0 if np.mean(first[:, border] > 0) > 0.5 else 1.0
    return sign * first > threshold * first.std()
