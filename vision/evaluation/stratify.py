"""Parts of labelled examples in which every class has its share."""

from collections.abc import Sequence

import numpy as np


def proportional(labels: np.ndarray, count: int, *, seed: int | Sequence[int], at_least: int = 0) -> np.ndarray:
    """Returns the positions of ``count`` examples, ascending, drawn at random so that classes keep their shares.

    A class gets its share rounded down, and what is left over goes to the largest remainders.

    Args:
      labels: int ``[n]``.
      count: in [0, n].
      seed: of the draw.
      at_least: of each class, where it has so many; then ``count`` may be exceeded.
    """
    rng = np.random.default_rng(seed)
    _, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    exact = sizes * (count / max(len(labels), 1))
    shares = np.floor(exact + 1e-9).astype(int)
    order = np.argsort(-(exact - shares), kind="stable")
    shares[order[: count - shares.sum()]] += 1
    return _drawn(inverse, np.minimum(np.maximum(shares, at_least), sizes), rng)


def equal(labels: np.ndarray, each: int, *, seed: int | Sequence[int]) -> np.ndarray:
    """Returns the positions of ``each`` examples of every class, ascending, drawn at random; all where there are fewer.

    Args:
      labels: int ``[n]``.
      each: how many of a class.
      seed: of the draw.
    """
    _, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return _drawn(inverse, np.minimum(each, sizes), np.random.default_rng(seed))


def folded(labels: np.ndarray, folds: int, *, seed: int | Sequence[int]) -> np.ndarray:
    """Returns the fold of each example, int ``[n]``, drawn at random so that classes keep their shares.

    The folds' sizes differ by one at most, and so do a class's numbers in them.

    Args:
      labels: int ``[n]``.
      folds: how many, in [1, n].
      seed: of the draw.
    """
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    # Dealt out like cards, class after class: where one class ends in the round, the next goes on.
    fold_of = np.empty(len(labels), int)
    fold_of[by_class] = np.arange(len(labels)) % folds
    return fold_of


def _drawn(inverse: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    members = [rng.permutation(np.flatnonzero(inverse == group))[:count] for group, count in enumerate(counts)]
    return np.sort(np.concatenate([*members, np.empty(0, int)]).astype(int))
