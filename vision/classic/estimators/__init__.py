"""Estimators by name.

Each is called with keyword options, and ``seed`` where it draws anything, and has scikit-learn's conventions:
``fit(x, y)`` of float32 ``[n, features]`` and int ``[n]``, ``predict(x)``, and ``predict_proba(x)`` or
``decision_function(x)`` where there is more to say than a class.
"""

from collections.abc import Callable
from typing import Any

from vision.classic.estimators.exact_boosting import ExactGradientBoosting
from vision.classic.estimators.least_squares import LeastSquares, Ridge
from vision.classic.estimators.linear import linear_svm, logistic_regression, softmax_regression
from vision.classic.estimators.neighbours import KNNClassifier
from vision.classic.estimators.prior import mean_class
from vision.classic.estimators.support_vectors import kernel_svm
from vision.classic.estimators.trees import decision_tree, gradient_boosting, random_forest

ESTIMATORS: dict[str, Callable[..., Any]] = {
    "decision_tree": decision_tree,
    "exact_gradient_boosting": ExactGradientBoosting,
    "gradient_boosting": gradient_boosting,
    "kernel_svm": kernel_svm,
    "knn": KNNClassifier,
    "linear_regression": LeastSquares,
    "linear_svm": linear_svm,
    "logistic_regression": logistic_regression,
    "mean_class": mean_class,
    "random_forest": random_forest,
    "ridge": Ridge,
    "softmax_regression": softmax_regression,
}
