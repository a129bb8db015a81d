"""Linear regression on one-hot targets and ridge regression, by their closed forms, in bounded memory.

Both solve for centred data, so that the intercept is free; the rows pass by in blocks and in float64.
"""

from collections.abc import Iterator

import numpy as np
import scipy.linalg
from sklearn.base import BaseEstimator, ClassifierMixin

_ROWS = 2048


class LeastSquares(ClassifierMixin, BaseEstimator):
    """``min_W ||Y - X W - b||^2`` for the one-hot targets Y; the class is the largest output.

    Where features are not independent, as with pixels that never change, it is the solution of smallest norm. The
    data go through a QR decomposition, block after block, and never into a product X'X, which would square the
    condition number (Golub and Van Loan 2013, sections 5.3 and 5.5).

    Attributes:
      coef_: W, float64 ``[features, classes]``.
      intercept_: b, float64 ``[classes]``.
      classes_: the classes, ascending.
    """

    def fit(self, x: np.ndarray, y: np.ndarray):
        """Solves for float ``[n, features]`` and classes ``[n]``."""
        features = x.shape[1]
        self.classes_, label = np.unique(y, return_inverse=True)
        mean, shares = _means(x, label)
        triangle = np.zeros((0, features + len(shares)))
        for rows, targets in _centred(x, label, mean, shares, size=max(_ROWS, 2 * features)):
            triangle = np.asarray(np.linalg.qr(np.vstack([triangle, np.hstack([rows, targets])]), mode="r"))
        self.coef_ = np.linalg.lstsq(triangle[:, :features], triangle[:, features:])[0]
        self.intercept_ = shares - mean @ self.coef_
        return self

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        """Returns the outputs ``[n, classes]``."""
        return _outputs(x, self.coef_, self.intercept_)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Returns the class with the largest output, ``[n]``."""
        return self.classes_[np.argmax(self.decision_function(x), axis=1)]


class Ridge(ClassifierMixin, BaseEstimator):
    """``min_W ||Y - X W - b||^2 + alpha ||W||^2`` for the one-hot targets Y; the class is the largest output.

    ``W = (X'X + alpha I)^-1 X'Y`` of centred data, or with fewer examples than features the equal
    ``X' (X X' + alpha I)^-1 Y`` (Murphy 2022, sections 11.3 and 17.3.9): beside the data, memory for a square of
    whichever is fewer.

    Args:
      alpha: weight of the squared norm, as scikit-learn's; the mean over n examples has the weight alpha / n.

    Attributes:
      coef_: W, float64 ``[features, classes]``.
      intercept_: b, float64 ``[classes]``.
      classes_: the classes, ascending.
    """

    def __init__(self, *, alpha: float = 1.0):
        self.alpha = alpha

    def fit(self, x: np.ndarray, y: np.ndarray):
        """Solves for float ``[n, features]`` and classes ``[n]``.

        Raises:
          ValueError: ``alpha`` is not positive, or so small that rounding decides.
        """
        if not self.alpha > 0:
            raise ValueError(f"alpha must be > 0, got {self.alpha:g}; without a penalty it is linear_regression")
        self.classes_, label = np.unique(y, return_inverse=True)
        mean, shares = _means(x, label)
        try:
            if len(x) >= x.shape[1]:
                self.coef_ = self._by_features(x, label, mean, shares)
            else:
                rows, targets = next(_centred(x, label, mean, shares, size=len(x)))
                self.coef_ = rows.T @ _solve(rows @ rows.T, targets, self.alpha)
        except np.linalg.LinAlgError as error:
            raise ValueError(f"alpha = {self.alpha:g} is lost in the rounding of such features; take more") from error
        self.intercept_ = shares - mean @ self.coef_
        return self

    def _by_features(self, x, label, mean, shares) -> np.ndarray:
        features = x.shape[1]
        gram = np.zeros((features, features), order="F")
        moment = np.zeros((features, len(shares)))
        for rows, targets in _centred(x, label, mean, shares, size=_ROWS):
            gram = scipy.linalg.blas.dsyrk(1.0, rows.T, beta=1.0, c=gram, overwrite_c=True)  # the upper half
            moment += rows.T @ targets
        return _solve(gram, moment, self.alpha)

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        """Returns the outputs ``[n, classes]``."""
        return _outputs(x, self.coef_, self.intercept_)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Returns the class with the largest output, ``[n]``."""
        return self.classes_[np.argmax(self.decision_function(x), axis=1)]


def _solve(gram: np.ndarray, right: np.ndarray, alpha: float) -> np.ndarray:
    """Solves ``(gram + alpha I) w = right``; overwrites the matrix, of which it reads the upper half."""
    gram[np.diag_indices_from(gram)] += alpha
    return scipy.linalg.cho_solve(scipy.linalg.cho_factor(gram, lower=False, overwrite_a=True), right)


def _means(x: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x.mean(axis=0, dtype=np.float64), np.bincount(label) / len(label)


def _centred(x, label, mean, shares, *, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields blocks of centred features and centred one-hot targets, in float64."""
    for start in range(0, len(x), size):
        one_hot = label[start : start + size, None] == np.arange(len(shares))
        yield x[start : start + size] - mean, one_hot - shares


def _outputs(x: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
    return x @ coef.astype(x.dtype) + intercept.astype(x.dtype)
