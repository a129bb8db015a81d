"""Image retrieval: how far ahead of all others the images of the query's own class come."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from vision.evaluation.base import EvalSet, Evaluator, State, Value
from vision.evaluation.features import Features
from vision.evaluation.knn import among_themselves
from vision.evaluation.knn_search import check_finite, search
from vision.evaluation.outputs import check_labels
from vision.objectives.base import Objective

_BLOCK_BYTES = 2**25  # of the similarities that one thread holds


def retrieval(
    eval_set: EvalSet,
    objective: Objective,
    open_split: Callable[[str | None], EvalSet] | None = None,
    features: Features | None = None,
    *,
    k: tuple[int, ...] = (1, 5, 10),
    output: str = "pre_logits",
    bank_split: str | None = None,
) -> Evaluator:
    """Returns an evaluator that ranks images by the cosine of their features with the query's.

    An image is relevant where it has the query's class. Over the queries that anything is relevant to it yields the
    means of

    - ``mean_average_precision``: of the precisions at each relevant image's place in the ranking of all,
      ``1 / R sum_r p(r)``, where of equally near images all count as before it (scikit-learn's
      ``average_precision_score``);
    - ``precision_at_5`` and so on: the share of the k nearest that is relevant;
    - ``recall_at_5``: the share of all relevant images that is among the k nearest;
    - ``hit_at_5``: whether any of the k nearest is relevant, which metric learning reports as Recall@k;

    and ``queries``, how many there are.

    Args:
      eval_set: the queries; without ``bank_split``, every one is held against all others of the split.
      objective: whose ``encode`` gives the features.
      open_split: opens another split without augmentation.
      features: gives the outputs of splits.
      k: one or several numbers of nearest images.
      output: which of the model's features, see :func:`vision.evaluation.outputs.named`.
      bank_split: what is ranked, in place of the others of the split.

    Raises:
      ValueError: an option that cannot be, or images without one label each.
    """
    if not k or min(k) < 1 or len(set(k)) < len(k):
        raise ValueError(f"k must be one or several different numbers >= 1, got {k}")
    if bank_split is not None and open_split is None:
        raise ValueError("bank_split: there is no other split here")
    bank_set = None if bank_split is None or open_split is None else open_split(bank_split)
    for each in (eval_set, bank_set or eval_set):
        check_labels(each.pipeline.source, "retrieval")
    size = len((bank_set or eval_set).pipeline.source) - (bank_set is None)
    if max(k) > size:
        raise ValueError(f"k must be in [1, {size}], the size of the bank, got {max(k)}")
    features = Features(objective) if features is None else features
    queries_of = features.of(eval_set, (output,))
    bank_of = None if bank_set is None else features.of(bank_set, (output,))

    def run(state: State) -> Iterator[tuple[str, Value]]:
        queries = queries_of(state)
        bank = None if bank_of is None else bank_of(state)
        rows, labels = queries.outputs[output], np.asarray(queries.labels)
        bank_rows, bank_labels = (rows, labels) if bank is None else (bank.outputs[output], np.asarray(bank.labels))
        found = (
            among_themselves(rows, k=max(k), metric="cosine")
            if bank is None
            else search(rows, bank_rows, k=max(k), metric="cosine")
        )
        relevant = np.bincount(bank_labels, minlength=int(max(labels.max(), bank_labels.max())) + 1)[labels]
        relevant = relevant - (bank is None)
        counted = relevant > 0
        if not counted.any():
            raise ValueError("retrieval: no image has another of its class to be found")
        precision = average_precision(rows, labels, bank_rows, bank_labels, itself=bank is None)
        yield "mean_average_precision", float(np.mean(precision[counted]))
        right = bank_labels[found.rows] == labels[:, None]
        for count in k:
            hits = right[counted, :count].sum(axis=1)
            yield f"precision_at_{count}", float(np.mean(hits / count))
            yield f"recall_at_{count}", float(np.mean(hits / relevant[counted]))
            yield f"hit_at_{count}", float(np.mean(hits > 0))
        yield "queries", float(counted.sum())

    at = tuple(f"{name}_at_{count}" for count in k for name in ("precision", "recall", "hit"))
    names = ("mean_average_precision", *at, "queries")
    return Evaluator(run, names, eval_set.pipeline.source.class_names)


def average_precision(
    queries: np.ndarray, labels: np.ndarray, bank: np.ndarray, bank_labels: np.ndarray, *, itself: bool
) -> np.ndarray:
    """Returns the average precision of each query's ranking, float64 ``[queries]``; NaN where nothing is relevant.

    Nothing is sorted together with what it is: the precision at a relevant image follows from how many images, and
    how many relevant ones, are at least as near.

    Args:
      queries: ``[queries, features]``.
      labels: int ``[queries]``.
      bank: ``[n, features]``.
      bank_labels: int ``[n]``.
      itself: the bank is the queries, and each leaves itself out.

    Raises:
      ValueError: a feature is not finite.
    """
    check_finite(queries, "the queries")
    check_finite(bank, "the bank")
    q, b = (each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-12) for each in (queries, bank))
    columns = np.ascontiguousarray(b.T)
    members = {label: np.flatnonzero(bank_labels == label) for label in np.unique(labels)}
    result = np.full(len(queries), np.nan)
    size = max(_BLOCK_BYTES // (4 * len(bank)), 1)

    def of_block(start: int) -> None:
        for query, similar in enumerate(q[start : start + size] @ columns, start=start):
            own = similar[members[labels[query]]]
            if itself:
                own = own[members[labels[query]] != query]
                similar = np.delete(similar, query)
            if len(own):
                near, own = np.sort(similar), np.sort(own)
                before = len(near) - np.searchsorted(near, own)
                relevant_before = len(own) - np.searchsorted(own, own)
                result[query] = np.mean(relevant_before / before)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(of_block, range(0, len(queries), size)))
    return result
