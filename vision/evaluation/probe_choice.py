"""How a linear probe chooses among its classifiers: by examples held out once, or each in its turn."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from vision.evaluation.probe_training import Scores
from vision.evaluation.stratify import equal, proportional

VALIDATION_FRACTION = 0.1


def check_training(learning_rates: Sequence[float], *, steps: int, train_batch_size: int) -> None:
    """Raises a ValueError for options of the training that cannot be."""
    if not learning_rates or min(learning_rates) <= 0 or len(set(learning_rates)) < len(learning_rates):
        raise ValueError(f"learning_rates must be different numbers > 0, got {learning_rates}")
    if steps < 1 or train_batch_size < 1:
        raise ValueError(f"steps and train_batch_size must be >= 1, got {steps} and {train_batch_size}")


def how_many_labelled(
    examples: int, num_classes: int, *, label_fraction: float | None, examples_per_class: int | None
) -> int:
    """Returns how many labels may be used at most.

    Raises:
      ValueError: an option that cannot be.
    """
    if label_fraction is not None and examples_per_class is not None:
        raise ValueError("label_fraction and examples_per_class exclude each other")
    if label_fraction is not None and not 0.0 < label_fraction <= 1.0:
        raise ValueError(f"label_fraction must be in (0, 1], got {label_fraction:g}")
    if examples_per_class is not None and examples_per_class < 1:
        raise ValueError(f"examples_per_class must be >= 1, got {examples_per_class}")
    if label_fraction is not None:
        return max(round(label_fraction * examples), 1)
    return examples if examples_per_class is None else min(examples_per_class * num_classes, examples)


def labelled_rows(
    labels: np.ndarray, *, label_fraction: float | None, examples_per_class: int | None, seed: Sequence[int]
) -> np.ndarray:
    """Returns the rows whose labels may be used, ascending."""
    if label_fraction is not None:
        return proportional(labels, max(round(label_fraction * len(labels)), 1), seed=seed, at_least=1)
    return np.arange(len(labels)) if examples_per_class is None else equal(labels, examples_per_class, seed=seed)


def share_held_out(
    labelled: int,
    classifiers: int,
    *,
    validation_fraction: float | None,
    validation_split: str | None,
    folds: int | None,
) -> float:
    """Returns the share of the labelled examples that no training sees, to choose by; 0 where it is done otherwise.

    Args:
      labelled: how many there are.
      classifiers: to choose among.
      validation_fraction: see :func:`vision.evaluation.linear_probe.linear_probe`.
      validation_split: likewise.
      folds: likewise.

    Raises:
      ValueError: an option that cannot be, options that exclude each other, or nothing left to choose by.
    """
    if folds is not None:
        if validation_fraction is not None or validation_split is not None:
            other = "validation_fraction" if validation_split is None else "validation_split"
            raise ValueError(f"folds and {other} exclude each other: every labelled example is held out once")
        if not 2 <= folds <= labelled:
            raise ValueError(f"folds must be in [2, {labelled}], the number of labelled examples, got {folds}")
        return 0.0
    fraction = VALIDATION_FRACTION if validation_fraction is None else validation_fraction
    if not 0.0 <= fraction < 1.0:
        raise ValueError(f"validation_fraction must be in [0, 1), got {fraction:g}")
    some = round(fraction * labelled) > 0
    if classifiers > 1 and validation_split is None and not some:
        raise ValueError(
            f"validation_fraction {fraction:g} of {labelled} examples leaves none to choose one of "
            f"{classifiers} classifiers by; set it, folds or validation_split, or one learning rate, blocks and "
            "average_pool"
        )
    return fraction if some and validation_split is None else 0.0


def parts(fold_of: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields what to train on and what to hold out, positions, for every fold."""
    for fold in range(int(fold_of.max()) + 1):
        yield np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)


def cross_validated(
    fit: Callable[[np.ndarray], Any], scores_of: Callable[[Any, np.ndarray], Scores], fold_of: np.ndarray
) -> Scores:
    """Returns the scores of every classifier over all examples, each scored when it was held out.

    Args:
      fit: positions to classifiers trained on them.
      scores_of: of these classifiers on other positions.
      fold_of: the fold of each example, int ``[n]``.
    """
    found = [(len(held), scores_of(fit(kept), held)) for kept, held in parts(fold_of)]
    accuracy, loss = (
        sum(count * getattr(scores, name) for count, scores in found) / len(fold_of) for name in Scores._fields
    )
    return Scores(accuracy, loss)


def best(scores: Scores, grid: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Returns the most accurate of the grid, of equal ones that with the least loss; what is not finite is last."""
    loss = np.where(np.isfinite(scores.loss), scores.loss, np.inf)
    return min(grid, key=lambda one: (-scores.accuracy[one], loss[one]))
