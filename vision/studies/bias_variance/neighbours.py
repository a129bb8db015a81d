"""Regression by the mean of the k nearest neighbours."""

import numpy as np


def fit(x: np.ndarray, y: np.ndarray, points: np.ndarray, *, knob: int) -> tuple[np.ndarray, np.ndarray]:
    """Answers with the mean of the ``knob`` nearest observations (L2; of equally near ones, the first).

    Args:
      x: ``[resamples, n, dimensions]``.
      y: ``[resamples, n]``.
      points: ``[m, dimensions]``.
      knob: the number of neighbours k.

    Returns:
      Predictions at the points ``[resamples, m]`` and at the training inputs ``[resamples, n]``.

    Raises:
      ValueError: k is larger than the training set.
    """
    if not 1 <= knob <= x.shape[1]:
        raise ValueError(f"k must be from 1 to the {x.shape[1]} training examples, got {knob}")

    def answer(inputs: np.ndarray, outputs: np.ndarray, asked: np.ndarray) -> np.ndarray:
        distances = np.square(asked[:, None] - inputs[None]).sum(axis=-1)
        return outputs[np.argsort(distances, axis=1, kind="stable")[:, :knob]].mean(axis=1)

    pairs = list(zip(x, y, strict=True))
    return np.stack([answer(*pair, points) for pair in pairs]), np.stack([answer(*pair, pair[0]) for pair in pairs])


def variance(*, sigma: float, size: int, knob: int) -> float:
    """Returns ``sigma^2 / k``: the variance at fixed inputs (Hastie, Tibshirani and Friedman 2009, equation 7.10)."""
    return sigma**2 / knob
