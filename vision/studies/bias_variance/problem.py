"""Regression whose truth and noise are known, and many training sets drawn from it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Resamples(NamedTuple):
    """Training sets and what is asked of the fits.

    Attributes:
      x: ``[resamples, n, dimensions]``, training inputs.
      y: ``[resamples, n]``, noisy training observations.
      points: ``[m, dimensions]``, inputs that are asked about.
      truth: ``[m]``, the function there.
      observed: ``[resamples, m]``, noisy observations there that no fit sees.
    """

    x: np.ndarray
    y: np.ndarray
    points: np.ndarray
    truth: np.ndarray
    observed: np.ndarray


@dataclass(frozen=True)
class Problem:
    """``y = function(x) + e`` with Gaussian ``e``.

    Attributes:
      function: ``[n, dimensions] -> [n]``.
      sigma: standard deviation of ``e``.
      dimensions: of the input, each in [-1, 1].
      design: with ``fixed``, all training sets have the same evenly spaced inputs (of one dimension) and are asked
        about there, where theory has closed forms; with ``random``, inputs are drawn evenly from the cube.
    """

    function: Callable[[np.ndarray], np.ndarray]
    sigma: float
    dimensions: int
    design: str

    def draw(self, *, resamples: int, size: int, points: int, seed: int) -> Resamples:
        """Returns ``resamples`` training sets of ``size`` examples; ``points`` counts for a random design only."""
        random = np.random.default_rng(seed)
        if self.design == "fixed":
            asked = np.linspace(-1.0, 1.0, size)[:, None]
            x = np.broadcast_to(asked, (resamples, size, 1))
        else:
            asked = random.uniform(-1.0, 1.0, (points, self.dimensions))
            x = random.uniform(-1.0, 1.0, (resamples, size, self.dimensions))
        truth = self.function(asked)
        clean = self.function(x.reshape(-1, self.dimensions)).reshape(resamples, size)
        y = clean + self.sigma * random.standard_normal(clean.shape)
        observed = truth + self.sigma * random.standard_normal((resamples, len(truth)))
        return Resamples(x, y, asked, truth, observed)


def wave(x: np.ndarray) -> np.ndarray:
    """One period of a sine over [-1, 1] in the first dimension and a half of a cosine in the others, ``[n]``."""
    return np.sin(np.pi * x[:, 0]) + np.cos(np.pi * x[:, 1:] / 2).sum(axis=1)
