"""Features brought to mean zero and one common spread."""

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.preprocessing import StandardScaler

_ROWS = 2048  # at once: variances of a whole matrix would take copies of it


class Standardize(TransformerMixin, BaseEstimator):
    """Subtracts the mean of each feature and divides by its standard deviation; a constant feature becomes zero.

    Args:
      scale: standard deviation of the result.
      variance_floor: added to each variance, so that features that hardly vary are not blown up. Coates, Ng and Lee
        add 0.01 for their features.

    Attributes:
      mean_: float32 ``[features]``.
      factor_: what differences from the mean are multiplied by, float32 ``[features]``.

    Raises:
      ValueError: the scale is not positive, the floor is negative, or a feature is not finite.
    """

    takes, gives = "features", "features"

    def __init__(self, *, scale: float = 1.0, variance_floor: float = 0.0):
        self.scale = scale
        self.variance_floor = variance_floor

    def fit(self, x: np.ndarray, y: np.ndarray | None = None):
        """Learns means and standard deviations of float features ``[n, features]``."""
        if not self.scale > 0 or not self.variance_floor >= 0:
            got = f"scale {self.scale:g} and variance_floor {self.variance_floor:g}"
            raise ValueError(f"standardize: scale must be positive and variance_floor not negative, got {got}")
        scaler = StandardScaler()
        for start in range(0, len(x), _ROWS):
            rows = x[start : start + _ROWS]
            if not np.isfinite(rows).all():
                raise ValueError(f"standardize: a feature is NaN or infinite in example {_first_broken(rows) + start}")
            scaler.partial_fit(rows)
        constant = scaler.scale_ != np.sqrt(scaler.var_)  # what scikit-learn takes for constant has the scale 1
        deviation = np.sqrt(np.where(constant, 1.0, scaler.var_ + self.variance_floor))
        self.mean_ = scaler.mean_.astype(np.float32)
        self.factor_ = (self.scale / deviation).astype(np.float32)
        return self

    def transform(self, x: np.ndarray) -> np.ndarray:
        """Returns float32 ``[n, features]``."""
        if x.shape[1:] != self.mean_.shape:
            raise ValueError(f"standardize: learned {len(self.mean_)} features, got {x.shape[-1]}")
        result = np.subtract(x, self.mean_, dtype=np.float32)
        result *= self.factor_
        return result


def _first_broken(rows: np.ndarray) -> int:
    return int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
