"""How distances concentrate as dimensions grow: the curse of dimensionality, and how images escape it."""

import numpy as np
from scipy.spatial.distance import cdist


def relative_contrast(points: np.ndarray, queries: np.ndarray) -> float:
    """Returns the mean over queries of ``(D_max - D_min) / D_min``, with Euclidean distances to the points.

    Where it goes to 0 the nearest neighbour is hardly nearer than any other point (Beyer et al. 1999, theorem 1;
    Aggarwal, Hinneburg and Keim 2001, section 2). A query that is one of the points has no such ratio and is left out.

    Args:
      points: ``[n, dimensions]``.
      queries: ``[m, dimensions]``.

    Raises:
      ValueError: every query is one of the points.
    """
    distances = cdist(queries, points)
    nearest, farthest = distances.min(axis=1), distances.max(axis=1)
    apart = nearest > 0
    if not apart.any():
        raise ValueError("every query is one of the points, at distance 0")
    return float(((farthest[apart] - nearest[apart]) / nearest[apart]).mean())


def of_noise(dimensions: int, *, points: int, queries: int, seed: int) -> float:
    """Returns the contrast of points drawn evenly from the unit cube."""
    random = np.random.default_rng(seed)
    return relative_contrast(random.random((points, dimensions)), random.random((queries, dimensions)))
