"""Evaluators by name."""

from collections.abc import Callable

from vision.evaluation.any_label import any_label
from vision.evaluation.base import Evaluator
from vision.evaluation.caption_retrieval import caption_retrieval
from vision.evaluation.classification import classification
from vision.evaluation.few_shot import few_shot
from vision.evaluation.knn import knn
from vision.evaluation.linear_probe import linear_probe
from vision.evaluation.logistic_probe import logistic_probe
from vision.evaluation.multilabel import multilabel
from vision.evaluation.perplexity import perplexity
from vision.evaluation.regression import regression
from vision.evaluation.retrieval import retrieval
from vision.evaluation.robustness import robustness
from vision.evaluation.zero_shot import zero_shot

# These judge the model's output as scores of classes or as numbers.
OF_SCORES = frozenset({"any_label", "classification", "multilabel", "regression", "robustness"})
EVALUATORS: dict[str, Callable[..., Evaluator]] = {
    "any_label": any_label,
    "caption_retrieval": caption_retrieval,
    "classification": classification,
    "few_shot": few_shot,
    "knn": knn,
    "linear_probe": linear_probe,
    "logistic_probe": logistic_probe,
    "multilabel": multilabel,
    "perplexity": perplexity,
    "regression": regression,
    "retrieval": retrieval,
    "robustness": robustness,
    "zero_shot": zero_shot,
}
