"""Softmax and logistic regression and the linear support vector machine, by L-BFGS over all examples.

One smooth convex function each, of outputs ``X W + b``; two matrix products for each evaluation. X is read in
float32 as it is, and centred without a copy: W acts on ``x - mean``, which leaves the minimum where it is and makes
the way to it many times shorter.
"""

import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
import scipy.optimize
from scipy.special import expit, log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.metaestimators import available_if

Loss = Literal["softmax", "logistic", "squared_hinge"]


def softmax_regression(*, l2: float = 1e-3, max_iterations: int = 500, tolerance: float = 1e-4) -> "LinearClassifier":
    """Returns softmax regression: ``mean cross-entropy + l2 ||W||^2``, as the objective ``classify`` has it.

    scikit-learn's ``C`` is ``1 / (2 n l2)``.

    Args:
      l2: weight of the squared norm; the intercept is free.
      max_iterations: after which it stops with a warning.
      tolerance: the largest entry of the gradient at which it stops, as scikit-learn's ``tol``.
    """
    return LinearClassifier(loss="softmax", l2=l2, max_iterations=max_iterations, tolerance=tolerance)


def logistic_regression(*, l2: float = 1e-3, max_iterations: int = 500, tolerance: float = 1e-4) -> "LinearClassifier":
    """Returns binary logistic regression: ``mean log(1 + exp(-y f(x))) + l2 ||w||^2`` for two classes, y = -1 and 1.

    Args:
      l2: weight of the squared norm; the intercept is free.
      max_iterations: after which it stops with a warning.
      tolerance: the largest entry of the gradient at which it stops, as scikit-learn's ``tol``.
    """
    return LinearClassifier(loss="logistic", l2=l2, max_iterations=max_iterations, tolerance=tolerance)


def linear_svm(*, c: float = 1.0, max_iterations: int = 500, tolerance: float = 1e-4) -> "LinearClassifier":
    """Returns one support vector machine for each class against the rest, with the squared hinge.

    ``||w||^2 / 2 + c sum max(0, 1 - y f(x))^2`` with y = -1 or 1, the primal of Fan et al. 2008 (LIBLINEAR),
    section 2; but its intercept is free.

    Args:
      c: weight of the examples.
      max_iterations: after which it stops with a warning.
      tolerance: the largest entry of the gradient (of the function divided by c n) at which it stops.
    """
    return LinearClassifier(loss="squared_hinge", c=c, max_iterations=max_iterations, tolerance=tolerance)


class LinearClassifier(ClassifierMixin, BaseEstimator):
    """``min_W mean_i loss(x_i W + b, y_i) + l2 ||W||^2``.

    Args:
      loss: ``softmax`` cross-entropy, ``logistic`` for two classes, or ``squared_hinge`` for each class.
      l2: weight of the squared norm of W; None where ``c`` is given.
      c: the same as ``l2 = 1 / (2 c n)``.
      max_iterations: after which it stops with a warning.
      tolerance: the largest entry of the gradient at which it stops, as scikit-learn's ``tol``.

    Attributes:
      coef_: W, float32 ``[features, outputs]``.
      intercept_: b, float32 ``[outputs]``.
      classes_: the classes, ascending.
      n_iter_: iterations taken.
    """

    def __init__(
        self,
        *,
        loss: Loss,
        l2: float | None = None,
        c: float | None = None,
        max_iterations: int = 500,
        tolerance: float = 1e-4,
    ):
        self.loss = loss
        self.l2 = l2
        self.c = c
        self.max_iterations = max_iterations
        self.tolerance = tolerance

    def fit(self, x: np.ndarray, y: np.ndarray):
        """Minimises for float32 ``[n, features]`` and classes ``[n]``.

        Raises:
          ValueError: an option out of range, or for ``logistic`` other than two classes.
        """
        self.classes_, label = np.unique(y, return_inverse=True)
        if self.loss == "logistic" and len(self.classes_) != 2:
            raise ValueError(f"logistic_regression tells two classes apart, got {len(self.classes_)}")
        l2 = self._l2(len(x))
        outputs = 1 if self.loss == "logistic" else len(self.classes_)
        mean = x.mean(axis=0, dtype=np.float64).astype(np.float32)
        loss = _LOSSES[self.loss]

        def function(parameters: np.ndarray) -> tuple[float, np.ndarray]:
            weight, bias = _split(parameters, outputs)
            narrow = weight.astype(np.float32)
            value, slope = loss((x @ narrow).astype(np.float64) + (bias - mean @ narrow), label)
            total = slope.sum(axis=0)
            down = (x.T @ slope.astype(np.float32)).astype(np.float64) - np.outer(mean, total) + 2 * l2 * weight
            return value + l2 * float(np.sum(weight**2)), np.vstack([down, total]).ravel()

        found = scipy.optimize.minimize(
            function,
            np.zeros((x.shape[1] + 1) * outputs),
            jac=True,
            method="L-BFGS-B",
            options={
                "maxiter": self.max_iterations,
                "maxfun": 2 * self.max_iterations,
                "maxcor": 20,
                "gtol": self.tolerance,
                "ftol": 1e-12,
            },
        )
        if found.nit >= self.max_iterations:
            text = f"{self.loss}: not at its minimum after {found.nit} iterations (max_iterations)"
            warnings.warn(text, ConvergenceWarning, stacklevel=2)
        weight, bias = _split(found.x, outputs)
        self.n_iter_ = found.nit
        self.coef_ = weight.astype(np.float32)
        self.intercept_ = (bias - mean @ weight).astype(np.float32)
        return self

    def _l2(self, examples: int) -> float:
        if self.c is not None:
            if not self.c > 0:
                raise ValueError(f"c must be > 0, got {self.c:g}")
            return 1 / (2 * self.c * examples)
        if self.l2 is None or not self.l2 >= 0:
            raise ValueError(f"l2 must be >= 0, got {self.l2}")
        return self.l2

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        """Returns the outputs ``[n, classes]``, for ``logistic`` that of the second class, ``[n]``."""
        outputs = x @ self.coef_ + self.intercept_
        return outputs[:, 0] if self.loss == "logistic" else outputs

    @available_if(lambda self: self.loss != "squared_hinge")
    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Returns probabilities ``[n, classes]``."""
        outputs = self.decision_function(x)
        if self.loss == "softmax":
            return softmax(outputs, axis=1)
        return np.stack([expit(-outputs), expit(outputs)], axis=1)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Returns the most probable class, ``[n]``."""
        outputs = self.decision_function(x)
        return self.classes_[(outputs > 0).astype(int) if outputs.ndim == 1 else np.argmax(outputs, axis=1)]


def _split(parameters: np.ndarray, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    table = parameters.reshape(-1, outputs)
    return table[:-1], table[-1]


def _softmax_loss(outputs: np.ndarray, label: np.ndarray) -> tuple[float, np.ndarray]:
    examples = np.arange(len(label))
    slope = log_softmax(outputs, axis=1)
    value = -float(np.mean(slope[examples, label]))
    np.exp(slope, out=slope)
    slope[examples, label] -= 1
    return value, slope / len(label)


def _logistic_loss(outputs: np.ndarray, label: np.ndarray) -> tuple[float, np.ndarray]:
    sign = 2.0 * label[:, None] - 1
    value = float(np.mean(np.logaddexp(0, -sign * outputs)))
    return value, -sign * expit(-sign * outputs) / len(label)


def _squared_hinge_loss(outputs: np.ndarray, label: np.ndarray) -> tuple[float, np.ndarray]:
    sign = np.where(label[:, None] == np.arange(outputs.shape[1]), 1.0, -1.0)
    short = np.maximum(0, 1 - sign * outputs)
    return float(np.sum(short**2) / len(label)), -2 * sign * short / len(label)


_LOSSES: dict[str, Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]] = {
    "softmax": _softmax_loss,
    "logistic": _logistic_loss,
    "squared_hinge": _squared_hinge_loss,
}
