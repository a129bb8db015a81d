"""Kernel support vector machines: scikit-learn's, and the kernel of histograms."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.svm import SVC

from vision.evaluation.distances import l1_distances

_ROWS = 512  # of a block of the kernel matrix, which is to stay in a core's cache


def kernel_svm(
    *,
    c: float = 1.0,
    kernel: Literal["rbf", "poly", "intersection"] = "rbf",
    gamma: float | Literal["scale"] = "scale",
    degree: int = 3,
    offset: float = 0.0,
    cache_mib: float = 1000.0,
) -> SVC:
    """Returns a support vector machine with a kernel; several classes vote in pairs.

    Args:
      c: weight of the examples.
      kernel: ``rbf`` is exp(-gamma |a - b|^2), ``poly`` (gamma a.b + offset)^degree, ``intersection``
        see :func:`histogram_intersection`.
      gamma: of rbf and poly; ``scale`` is 1 / (features * variance of all features).
      degree: of poly.
      offset: of poly.
      cache_mib: memory for columns of the kernel matrix, in MiB.
    """
    chosen = histogram_intersection if kernel == "intersection" else kernel
    return SVC(C=c, kernel=chosen, gamma=gamma, degree=degree, coef0=offset, cache_size=cache_mib)


def histogram_intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns ``sum_j min(a_j, b_j)`` of all pairs, float64 ``[m, n]``.

    The kernel of bags of words and spatial pyramids (Lazebnik, Schmid and Ponce 2006, equation 1). As
    ``min(a, b) = (a + b - |a - b|) / 2``, it is a matter of L1 distances.

    Args:
      a: ``[m, features]``, none negative.
      b: ``[n, features]``, likewise.
    """
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    result = np.empty((len(a), len(b)))
    for start in range(0, len(a), _ROWS):
        for column in range(0, len(b), _ROWS):
            block = _intersections(jnp.asarray(a[start : start + _ROWS]), jnp.asarray(b[column : column + _ROWS]))
            result[start : start + _ROWS, column : column + _ROWS] = block
    return result


@jax.jit
def _intersections(a, b):
    return (jnp.sum(a, axis=1)[:, None] + jnp.sum(b, axis=1)[None, :] - l1_distances(a, b)) / 2
