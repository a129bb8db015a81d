"""Expected squared error as squared bias plus variance plus noise."""

import math
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class Decomposition:
    """The parts of the expected squared error of a learner at some inputs, averaged over the inputs.

    Attributes:
      bias2: ``E_x (E_D f_D(x) - f(x))^2``, freed of what a finite number of resamples adds; may be just below 0.
      variance: ``E_x Var_D f_D(x)``.
      noise: variance of the observations around ``f``.
      train_error: mean squared error on the training observations.
      test_error: mean squared error on observations that no fit has seen.
      tolerance: standard error of ``test_error - (bias2 + variance + noise)``.
    """

    bias2: float
    variance: float
    noise: float
    train_error: float
    test_error: float
    tolerance: float

    @property
    def total(self) -> float:
        """The sum of the parts."""
        return self.bias2 + self.variance + self.noise

    def as_dict(self) -> dict[str, float]:
        """Returns the parts, their sum and the errors by name."""
        return {**asdict(self), "total": self.total}


def decompose(
    predictions: np.ndarray, truth: np.ndarray, observed: np.ndarray, *, noise: float, train_error: float
) -> Decomposition:
    """Splits the squared error of many fits (Geman, Bienenstock and Doursat 1992, section 2.2).

    With R fits the plain estimate of the squared bias is too large by Var / R; that share is taken off, and the
    variance divides by R - 1. The sum of both is then exactly the mean of ``(f_D(x) - f(x))^2``, so all that remains
    between the sum of the parts and ``test_error`` is the chance of the noise of the test observations.

    Args:
      predictions: ``[resamples, points]`` or ``[resamples, points, outputs]``, a fit's answers in each row; squares
        are summed over the outputs.
      truth: ``[points]`` or ``[points, outputs]``, the function without noise.
      observed: of the shape of ``predictions``, fresh noisy observations at the points for each fit.
      noise: known variance of the observations, summed over the outputs; 0 where ``observed`` is the truth.
      train_error: mean squared error of the fits on their own training observations.

    Raises:
      ValueError: fewer than two resamples.
    """
    resamples, points = predictions.shape[:2]
    if resamples < 2:
        raise ValueError(f"a variance needs at least 2 resamples, got {resamples}")
    predictions, truth, observed = (np.asarray(each, np.float64) for each in (predictions, truth, observed))
    variance = float(predictions.var(axis=0, ddof=1).sum() / points)
    bias2 = float(np.square(predictions.mean(axis=0) - truth).sum() / points) - variance / resamples
    distance = bias2 + variance
    test_error = float(np.square(observed - predictions).sum() / (resamples * points))
    # (f + e - f_D)^2 - (f - f_D)^2 - noise = (e^2 - noise) + 2 e (f - f_D), of Gaussian e apart from f_D.
    tolerance = math.sqrt((2 * noise**2 + 4 * noise * distance) / (resamples * points))
    return Decomposition(bias2, variance, noise, train_error, test_error, tolerance)
