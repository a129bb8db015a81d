"""What nearest neighbours say: votes over classes, means of targets, and the evaluator of features made of them."""

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from vision.evaluation.base import EvalSet, Evaluator, State, Value
from vision.evaluation.distances import Metric
from vision.evaluation.features import Features
from vision.evaluation.knn_search import Neighbours, search
from vision.evaluation.outputs import check_labels
from vision.objectives.base import Objective

Weights = Literal["uniform", "distance", "exponential"]


def neighbour_weights(distance: np.ndarray, weights: Weights, *, temperature: float = 0.07) -> np.ndarray:
    """Returns what each neighbour counts, float64 ``[queries, k]``; a row sums to 1.

    ``distance`` is 1 / d, as in scikit-learn: where neighbours are at distance 0, they alone count, equally.
    ``exponential`` is exp(cosine / temperature) (Wu et al. 2018, section 3.4; Caron et al. 2021 with 0.07).

    Args:
      distance: ``[queries, k]``, for ``exponential`` of the metric ``cosine``.
      weights: the rule.
      temperature: of ``exponential``.
    """
    if weights == "uniform":
        count = np.ones(distance.shape)
    elif weights == "distance":
        at_zero = distance == 0
        count = np.where(at_zero.any(axis=1, keepdims=True), at_zero, 1 / np.where(at_zero, 1.0, distance))
    else:  # relative to the nearest, which keeps the largest at 1 however low the temperature
        further = distance.astype(np.float64) - distance.min(axis=1, keepdims=True)
        count = np.exp(-further / temperature)
    return count / count.sum(axis=1, keepdims=True, dtype=np.float64)


def check_weights(weights: Weights, metric: Metric, temperature: float) -> None:
    """Raises a ValueError for a rule that does not go with the metric, or no temperature."""
    if weights == "exponential" and metric != "cosine":
        raise ValueError(f"weights 'exponential' are of the metric 'cosine', got {metric!r}")
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature:g}")


def class_votes(index: np.ndarray, weight: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns each class's share of the votes, float64 ``[queries, classes]``.

    The predicted class is the argmax: of classes with equally many votes the one with the lowest number, as in
    scikit-learn.

    Args:
      index: rows of the bank, ``[queries, k]``.
      weight: of each, ``[queries, k]``, summing to 1.
      labels: int ``[n]`` of the bank.
      num_classes: of the result.
    """
    queries = len(index)
    place = np.arange(queries)[:, None] * num_classes + labels[index]
    votes = np.bincount(place.ravel(), weight.ravel(), minlength=queries * num_classes)
    return votes.reshape(queries, num_classes)


def mean_targets(index: np.ndarray, weight: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns the weighted mean of the neighbours' targets, float64 ``[queries]`` or ``[queries, outputs]``."""
    return np.einsum("qk,qk...->q...", weight, targets[index].astype(np.float64))


def knn(
    eval_set: EvalSet,
    objective: Objective,
    open_split: Callable[[str | None], EvalSet] | None = None,
    features: Features | None = None,
    *,
    k: int | tuple[int, ...] = 20,
    metric: Metric = "cosine",
    weights: Weights = "exponential",
    temperature: float = 0.07,
    output: str = "pre_logits",
    bank_split: str | None = None,
    memory_mib: float = 1024.0,
) -> Evaluator:
    """Returns an evaluator of features by their nearest neighbours: no head is trained, nothing is tuned.

    It yields ``accuracy``, or for several k ``accuracy_k10`` and so on. The defaults are those of self-supervised
    learning (Caron et al. 2021, appendix F.1). Without other examples to search, every example of the split
    is held against all others of the split.

    Args:
      eval_set: the queries.
      objective: whose ``encode`` gives the features.
      open_split: opens another split of the data without augmentation; None for the training data.
      features: gives the outputs of splits.
      k: how many neighbours vote, or several such numbers.
      metric: ``l1``, ``l2`` or ``cosine``.
      weights: ``uniform``, ``distance`` or ``exponential``, see :func:`neighbour_weights`.
      temperature: of exponential weights.
      output: which of the model's features, see :func:`vision.evaluation.outputs.named`.
      bank_split: where the neighbours come from; None for the training data.
      memory_mib: see :func:`vision.evaluation.knn_search.search`.

    Raises:
      ValueError: an option that cannot be, or images with several labels at once.
    """
    ks = (k,) if isinstance(k, int) else k
    check_weights(weights, metric, temperature)
    if not ks or min(ks) < 1 or len(set(ks)) < len(ks):
        raise ValueError(f"k must be one or several different numbers >= 1, got {k}")
    if bank_split is not None and open_split is None:
        raise ValueError("bank_split: there is no other split here")
    bank_set = None if open_split is None else open_split(bank_split)
    for each in (eval_set, bank_set or eval_set):
        check_labels(each.pipeline.source, "knn")
    size = len((bank_set or eval_set).pipeline.source) - (bank_set is None)
    if max(ks) > size:
        raise ValueError(f"k must be in [1, {size}], the size of the bank, got {max(ks)}")
    names = ("accuracy",) if len(ks) == 1 else tuple(f"accuracy_k{each}" for each in ks)
    source = eval_set.pipeline.source
    features = Features(objective) if features is None else features
    queries_of = features.of(eval_set, (output,))
    bank_of = None if bank_set is None else features.of(bank_set, (output,))

    def run(state: State) -> Iterator[tuple[str, Value]]:
        queries = queries_of(state)
        bank = queries if bank_of is None else bank_of(state)
        rows, labels, bank_labels = queries.outputs[output], np.asarray(queries.labels), np.asarray(bank.labels)
        if bank_of is None:
            found = among_themselves(rows, k=max(ks), metric=metric, memory_mib=memory_mib)
        else:
            found = search(rows, bank.outputs[output], k=max(ks), metric=metric, memory_mib=memory_mib)
        for name, count in zip(names, ks, strict=True):
            weight = neighbour_weights(found.distance[:, :count], weights, temperature=temperature)
            votes = class_votes(found.rows[:, :count], weight, bank_labels, source.num_classes)
            yield name, float(np.mean(np.argmax(votes, axis=1) == labels))

    return Evaluator(run, names, source.class_names)


def among_themselves(rows: np.ndarray, *, k: int, metric: Metric, memory_mib: float = 1024.0) -> Neighbours:
    """Returns the nearest of each row among the others; see :func:`vision.evaluation.knn_search.search`."""
    found = search(rows, rows, k=k + 1, metric=metric, memory_mib=memory_mib)
    other = found.rows != np.arange(len(rows))[:, None]
    other[other.all(axis=1), -1] = False  # where equal rows have pushed the row itself out
    return Neighbours(found.distance[other].reshape(-1, k), found.rows[other].reshape(-1, k))
