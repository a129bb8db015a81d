"""Few-shot classification: what a few labelled examples of each class are worth on frozen features."""

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from vision.evaluation.base import EvalSet, Evaluator, State, Value
from vision.evaluation.features import Features
from vision.evaluation.outputs import check_labels
from vision.evaluation.stratify import equal
from vision.objectives.base import Objective

BIAS = 100.0  # a constant feature so large that its weight, the bias, is hardly held back


def few_shot(
    eval_set: EvalSet,
    objective: Objective,
    open_split: Callable[[str | None], EvalSet],
    features: Features,
    *,
    shots: tuple[int, ...] = (1, 5, 10),
    method: Literal["ridge", "mean_class"] = "ridge",
    l2: float = 1024.0,
    draws: int = 3,
    output: str = "pre_logits",
    train_split: str | None = None,
    seed: int = 0,
) -> Evaluator:
    """Returns an evaluator that yields ``accuracy_5`` and so on: with so many examples of each class, in closed form.

    Each is a mean over draws of the examples, and ``accuracy_5_std`` the standard deviation of one draw (of two draws
    or more; divisor draws - 1). In a draw, fewer examples are a part of more. A class with fewer gives all it has.

    Args:
      eval_set: what to report on, whole.
      objective: whose ``encode`` gives the features.
      open_split: opens another split without augmentation; None for the training data.
      features: gives the outputs of splits.
      shots: examples of each class.
      method: ``ridge``, see :func:`ridge`, or ``mean_class``, see :func:`mean_class`.
      l2: of ``ridge``; 1024 is big_vision's.
      draws: how often examples are drawn.
      output: which of the model's features, see :func:`vision.evaluation.outputs.named`.
      train_split: where the examples come from; None for the training data.
      seed: of the draws.

    Raises:
      ValueError: an option that cannot be, or images without one label each.
    """
    if not shots or min(shots) < 1 or len(set(shots)) < len(shots):
        raise ValueError(f"shots must be one or several different numbers >= 1, got {shots}")
    if draws < 1:
        raise ValueError(f"draws must be >= 1, got {draws}")
    if not l2 > 0:
        raise ValueError(f"l2 must be > 0, got {l2:g}")
    train_set = open_split(train_split)
    for each in (eval_set, train_set):
        check_labels(each.pipeline.source, "few_shot")
    test_of, train_of = features.of(eval_set, (output,)), features.of(train_set, (output,))
    num_classes = eval_set.pipeline.source.num_classes

    def run(state: State) -> Iterator[tuple[str, Value]]:
        train, test = train_of(state), test_of(state)
        labels, rows = np.asarray(train.labels), train.outputs[output]

        def accuracy(count: int, draw: int) -> float:
            chosen = equal(labels, count, seed=(seed, draw))
            given = rows[chosen], labels[chosen], test.outputs[output]
            scores = ridge(*given, num_classes, l2=l2) if method == "ridge" else mean_class(*given, num_classes)
            return float(np.mean(np.argmax(scores, axis=1) == test.labels))

        for count in shots:
            values = [accuracy(count, draw) for draw in range(draws)]
            yield f"accuracy_{count}", float(np.mean(values))
            if draws > 1:
                yield f"accuracy_{count}_std", float(np.std(values, ddof=1))

    parts = ("", "_std") if draws > 1 else ("",)
    names = tuple(f"accuracy_{count}{part}" for count in shots for part in parts)
    return Evaluator(run, names, eval_set.pipeline.source.class_names)


def ridge(rows: np.ndarray, labels: np.ndarray, queries: np.ndarray, num_classes: int, *, l2: float) -> np.ndarray:
    """Returns scores ``[queries, classes]`` of the linear map that minimises ``|x W - y|^2 + l2 |W|^2``.

    ``y`` is 1 for the class and -1 for the others. Features are standardised by the mean and the standard deviation
    of the given rows, 1e-5 added to it, and a constant feature of 100 stands for the bias: big_vision's few-shot
    evaluation (``evaluators/fewshot_lsr.py``; Kolesnikov et al. 2020, Dosovitskiy et al. 2021).

    Args:
      rows: ``[n, features]``.
      labels: int ``[n]``.
      queries: ``[queries, features]``.
      num_classes: of the result.
      l2: > 0.
    """
    mean, std = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64) + 1e-5
    x, q = (np.pad((each - mean) / std, ((0, 0), (0, 1)), constant_values=BIAS) for each in (rows, queries))
    y = 2.0 * (labels[:, None] == np.arange(num_classes)) - 1.0
    from scipy.linalg import solve  # slow to import, and few runs have such a probe

    if len(x) < x.shape[1]:  # the smaller of two systems with the same solution
        return q @ (x.T @ solve(x @ x.T + l2 * np.eye(len(x)), y, assume_a="pos"))
    return q @ solve(x.T @ x + l2 * np.eye(x.shape[1]), x.T @ y, assume_a="pos")


def mean_class(rows: np.ndarray, labels: np.ndarray, queries: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns the negative squared distances ``[queries, classes]`` of queries from the classes' mean rows.

    All rows and queries are brought to length 1 first (Wang et al. 2019, SimpleShot, L2N); a class without a row is
    infinitely far.

    Args:
      rows: ``[n, features]``.
      labels: int ``[n]``.
      queries: ``[queries, features]``.
      num_classes: of the result.
    """
    x, q = (each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-12) for each in (rows, queries))
    scores = np.full((len(q), num_classes), -np.inf)
    for label in np.unique(labels):
        scores[:, label] = -np.sum((q - x[labels == label].mean(axis=0)) ** 2, axis=1)
    return scores
