"""Evaluators by name."""

from collections.abc import Callable

from vision.evaluation.any_label import any_label
from vision.evaluation.base import Evaluator
from vision.evaluation.classification import classification
from vision.evaluation.multilabel import multilabel
from vision.evaluation.regression import regression

EVALUATORS: dict[str, Callable[..., Evaluator]] = {
    "any_label": any_label,
    "classification": classification,
    "multilabel": multilabel,
    "regression": regression,
}
