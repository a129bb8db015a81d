"""Evaluators by name."""

from collections.abc import Callable

from vision.evaluation.any_label import any_label
from vision.evaluation.base import Evaluator
from vision.evaluation.classification import classification
from vision.evaluation.few_shot import few_shot
from vision.evaluation.knn import knn
from vision.evaluation.linear_probe import linear_probe
from vision.evaluation.multilabel import multilabel
from vision.evaluation.regression import regression
from vision.evaluation.retrieval import retrieval
from vision.evaluation.robustness import robustness

EVALUATORS: dict[str, Callable[..., Evaluator]] = {
    "any_label": any_label,
    "classification": classification,
    "few_shot": few_shot,
    "knn": knn,
    "linear_probe": linear_probe,
    "multilabel": multilabel,
    "regression": regression,
    "retrieval": retrieval,
    "robustness": robustness,
}
