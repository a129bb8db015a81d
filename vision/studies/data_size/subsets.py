"""Smaller training sets: every class alike, each inside the next larger one."""

from collections.abc import Sequence

import numpy as np

from vision.errors import UserError


def nested(labels: np.ndarray, sizes: Sequence[int], *, seed: int) -> dict[int, np.ndarray]:
    """Returns the positions of the examples of each size, ascending.

    The examples of each class are shuffled, and then the classes take turns; the first ``size`` in that order are
    the subset. So no two classes differ by more than one example, as long as the smaller has any left.

    Args:
      labels: class of each training example, int ``[n]``.
      sizes: how many examples.
      seed: of the shuffles.

    Raises:
      UserError: a size is less than the number of classes, or more than there are examples.
    """
    classes = np.unique(labels)
    for size in sizes:
        if size < len(classes):
            raise UserError(f"--sizes: {size} examples are less than one for each of {len(classes)} classes")
        if size > len(labels):
            raise UserError(f"--sizes: {size} examples are more than the {len(labels)} there are to train on")
    generator = np.random.default_rng(seed)
    turn, tie = np.zeros(len(labels)), generator.permutation(len(labels))
    for each in classes:
        members = np.flatnonzero(labels == each)
        turn[generator.permutation(members)] = np.arange(len(members))
    order = np.lexsort((tie, turn))
    return {size: np.sort(order[:size]) for size in sizes}
