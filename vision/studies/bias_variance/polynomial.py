"""Least squares with polynomials, in closed form."""

import numpy as np
from numpy.polynomial import legendre


def fit(x: np.ndarray, y: np.ndarray, points: np.ndarray, *, knob: int) -> tuple[np.ndarray, np.ndarray]:
    """Fits polynomials of degree ``knob`` by ordinary least squares.

    The basis is Legendre's, which spans the same functions as the powers and keeps the equations well conditioned.

    Args:
      x: ``[resamples, n, 1]``, in [-1, 1].
      y: ``[resamples, n]``.
      points: ``[m, 1]``.
      knob: the degree.

    Returns:
      Predictions at the points ``[resamples, m]`` and at the training inputs ``[resamples, n]``.
    """
    design = legendre.legvander(x[..., 0], knob)
    weights = np.linalg.pinv(design) @ y[..., None]
    at_points = legendre.legvander(points[:, 0], knob) @ weights
    return at_points[..., 0], (design @ weights)[..., 0]


def variance(*, sigma: float, size: int, knob: int) -> float:
    """Returns ``sigma^2 p / n`` for the ``p = knob + 1`` coefficients: the mean variance at fixed training inputs.

    The trace of the hat matrix is p (Hastie, Tibshirani and Friedman 2009, equation 7.12).
    """
    return sigma**2 * (knob + 1) / size
