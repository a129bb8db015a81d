"""Evaluators by name."""

from collections.abc import Callable

from vision.evaluation.any_label import any_label
from vision.evaluation.base import Evaluator
from vision.evaluation.classification import classification
from vision.evaluation.knn import knn
from vision.evaluation.multilabel import multilabel
from vision.evaluation.regression import regression
from vision.evaluation.robustness import robustness

EVALUATORS: dict[str, Callable[..., Evaluator]] = {
    "any_label": any_label,
    "classification": classification,
    "knn": knn,
    "multilabel": multilabel,
    "regression": regression,
    "robustness": robustness,
}
