"""k nearest neighbours with scikit-learn's conventions; the search is :mod:`vision.evaluation.knn_search`."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from vision.evaluation.distances import Metric
from vision.evaluation.knn import Weights, check_weights, class_votes, mean_targets, neighbour_weights
from vision.evaluation.knn_search import check_bank, search


class KNNClassifier(ClassifierMixin, BaseEstimator):
    """The class that most of the nearest training examples have.

    Of classes with equally many votes the one with the lowest number wins, as in scikit-learn.

    Args:
      k: how many neighbours vote.
      metric: ``l1``, ``l2`` or ``cosine``.
      weights: ``uniform``, ``distance`` or ``exponential``, see :func:`vision.evaluation.knn.neighbour_weights`.
      temperature: of exponential weights.
      memory_mib: bound of the search's working memory.

    Attributes:
      bank_: the training examples, float32 ``[n, features]``; not a copy.
      labels_: positions in ``classes_`` of their classes, ``[n]``.
      classes_: the classes, ascending.
    """

    def __init__(
        self,
        *,
        k: int = 5,
        metric: Metric = "l2",
        weights: Weights = "uniform",
        temperature: float = 0.07,
        memory_mib: float = 1024.0,
    ):
        self.k = k
        self.metric = metric
        self.weights = weights
        self.temperature = temperature
        self.memory_mib = memory_mib

    def fit(self, x: np.ndarray, y: np.ndarray):
        """Keeps the examples.

        Raises:
          ValueError: an option that cannot be, more neighbours than examples, or a value that is not finite.
        """
        check_weights(self.weights, self.metric, self.temperature)
        check_bank(x, self.k)
        self.bank_ = x
        self.classes_, self.labels_ = np.unique(y, return_inverse=True)
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Returns each class's share of the votes, float64 ``[n, classes]``."""
        found = search(x, self.bank_, k=self.k, metric=self.metric, memory_mib=self.memory_mib)
        weight = neighbour_weights(found.distance, self.weights, temperature=self.temperature)
        return class_votes(found.rows, weight, self.labels_, len(self.classes_))

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Returns the class with the most votes, ``[n]``."""
        return self.classes_[np.argmax(self.predict_proba(x), axis=1)]


class KNNRegressor(RegressorMixin, BaseEstimator):
    """The (weighted) mean of the targets of the nearest training examples.

    Args:
      k: how many neighbours.
      metric: ``l1``, ``l2`` or ``cosine``.
      weights: ``uniform``, ``distance`` or ``exponential``, see :func:`vision.evaluation.knn.neighbour_weights`.
      temperature: of exponential weights.
      memory_mib: bound of the search's working memory.

    Attributes:
      bank_: the training examples, float32 ``[n, features]``; not a copy.
      targets_: theirs, ``[n]`` or ``[n, outputs]``.
    """

    def __init__(
        self,
        *,
        k: int = 5,
        metric: Metric = "l2",
        weights: Weights = "uniform",
        temperature: float = 0.07,
        memory_mib: float = 1024.0,
    ):
        self.k = k
        self.metric = metric
        self.weights = weights
        self.temperature = temperature
        self.memory_mib = memory_mib

    def fit(self, x: np.ndarray, y: np.ndarray):
        """Keeps the examples; raises what :meth:`KNNClassifier.fit` raises."""
        check_weights(self.weights, self.metric, self.temperature)
        check_bank(x, self.k)
        self.bank_, self.targets_ = x, np.asarray(y)
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Returns the means, float64 ``[n]`` or ``[n, outputs]``."""
        found = search(x, self.bank_, k=self.k, metric=self.metric, memory_mib=self.memory_mib)
        weight = neighbour_weights(found.distance, self.weights, temperature=self.temperature)
        return mean_targets(found.rows, weight, self.targets_)
