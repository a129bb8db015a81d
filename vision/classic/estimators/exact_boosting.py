"""Gradient boosting over all values of the features, which takes hours: it can keep its state and go on from there."""

import hashlib
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import GradientBoostingClassifier

from vision.classic import persist
from vision.errors import UserError

_ROUNDS_AT_ONCE = 5


class ExactGradientBoosting(ClassifierMixin, BaseEstimator):
    """Gradient boosting of classification trees (Friedman 2001), by scikit-learn.

    A fit that is interrupted and begun again with the same ``state`` ends where an uninterrupted one ends. One with
    more rounds goes on from one with fewer.

    Args:
      num_rounds: how many; in each one tree a class (one in all for two classes).
      learning_rate: shrinks each tree.
      max_depth: of a tree.
      seed: of the order in which features are tried.
      state: file that is written after every 5 rounds and that a fit goes on from; None for none.

    Attributes:
      model_: scikit-learn's.
      classes_: the classes, ascending.
    """

    def __init__(
        self,
        *,
        num_rounds: int = 100,
        learning_rate: float = 0.1,
        max_depth: int = 3,
        seed: int = 0,
        state: str | None = None,
    ):
        self.num_rounds = num_rounds
        self.learning_rate = learning_rate
        self.max_depth = max_depth
        self.seed = seed
        self.state = state

    def fit(self, x: np.ndarray, y: np.ndarray):
        """Fits to float32 ``[n, features]`` and classes ``[n]``, or goes on fitting.

        Raises:
          ValueError: less than one round.
          UserError: the state is of other data or options, has more rounds already, or cannot be read or written.
        """
        if self.num_rounds < 1:
            raise ValueError(f"num_rounds must be >= 1, got {self.num_rounds}")
        key = self._key(x, y)
        model = self._resumed(key) or GradientBoostingClassifier(
            n_estimators=0,
            learning_rate=self.learning_rate,
            max_depth=self.max_depth,
            random_state=self.seed,
            warm_start=True,
        )
        done = model.n_estimators
        if done > self.num_rounds:
            raise UserError(f"{self.state}: has {done} rounds already, asked for are {self.num_rounds}")
        while done < self.num_rounds:
            done = min(done + _ROUNDS_AT_ONCE, self.num_rounds)
            model.set_params(n_estimators=done).fit(x, y)
            self._keep(key, model)
        self.model_, self.classes_ = model, model.classes_
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Returns probabilities ``[n, classes]``."""
        return self.model_.predict_proba(x)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Returns the most probable class, ``[n]``."""
        return self.model_.predict(x)

    def _key(self, x: np.ndarray, y: np.ndarray) -> str:
        options = f"{self.learning_rate} {self.max_depth} {self.seed} {x.shape} {x.dtype}"
        digest = hashlib.sha256(options.encode())
        for array in (x, y):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def _resumed(self, key: str) -> GradientBoostingClassifier | None:
        if self.state is None or not Path(self.state).exists():
            return None
        kept = persist.read(Path(self.state))
        if kept.get("key") != key:
            raise UserError(f"{self.state}: is of other data or options; give another state, or remove it")
        return kept["model"]

    def _keep(self, key: str, model: GradientBoostingClassifier) -> None:
        if self.state is None:
            return
        path = Path(self.state)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            persist.write(path, {"key": key, "model": model})
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
