"""How many dimensions the set that data lie on has, whatever the dimension of the space around it."""

import numpy as np
from sklearn.neighbors import NearestNeighbors


def neighbour_distances(points: np.ndarray, *, k: int) -> np.ndarray:
    """Returns the distances of each point to its ``k`` nearest others, ascending, ``[n, k]``; repeats are left out.

    Args:
      points: ``[n, dimensions]``; of equal points one is kept, as a distance of 0 has no logarithm.
      k: number of neighbours.

    Raises:
      ValueError: there are not more than ``k`` different points.
    """
    points = np.unique(points, axis=0)
    if len(points) <= k:
        raise ValueError(f"{k} neighbours need more than {k} different points, there are {len(points)}")
    return NearestNeighbors(n_neighbors=k).fit(points).kneighbors()[0]


def maximum_likelihood(distances: np.ndarray, *, smallest_k: int = 10, largest_k: int = 20) -> float:
    """Returns the dimension by maximum likelihood (Levina and Bickel 2004, equations 8 and 9).

    ``m_k(x) = [1 / (k - 2) sum_j<k log(T_k / T_j)]^-1``, averaged over the points and then over k; the division by
    k - 2 instead of k - 1 is what the paper names as free of bias (section 3.1).

    Args:
      distances: ``[n, at least largest_k]`` to the nearest others, ascending.
      smallest_k: the smallest number of neighbours, at least 3.
      largest_k: the largest.

    Raises:
      ValueError: there are not so many neighbours.
    """
    if not 3 <= smallest_k <= largest_k <= distances.shape[1]:
        raise ValueError(f"k from {smallest_k} to {largest_k} must lie between 3 and {distances.shape[1]}")
    logs = np.log(distances)
    estimates = []
    for k in range(smallest_k, largest_k + 1):
        sums = ((k - 1) * logs[:, k - 1] - logs[:, : k - 1].sum(axis=1)) / (k - 2)
        estimates.append(float((1.0 / sums).mean()))
    return float(np.mean(estimates))


def two_nearest(distances: np.ndarray, *, discarded: float = 0.1) -> float:
    """Returns the dimension from the ratio of the two nearest distances, TwoNN (Facco et al. 2017, equation 7).

    The slope, through the origin, of ``-log(1 - F(mu))`` over ``log mu`` with the empirical distribution F of
    ``mu = r_2 / r_1``. It does not change with the density, as long as that is even over two neighbours.

    Args:
      distances: ``[n, at least 2]`` to the nearest others, ascending.
      discarded: share of the largest ratios left out, as in the paper.
    """
    ratios = np.sort(distances[:, 1] / distances[:, 0])
    kept = int(len(ratios) * (1.0 - discarded))
    x = np.log(ratios[:kept])
    y = -np.log1p(-np.arange(1, kept + 1) / len(ratios))
    return float(x @ y / (x @ x))
