"""Bias and variance of classification trees on real handwritten digits."""

from collections.abc import Callable
from typing import Any

import numpy as np

from vision.studies.bias_variance import images, trees
from vision.studies.bias_variance.decomposition import Decomposition, decompose

DEPTHS = (1, 2, 3, 4, 5, 6, 8, 10, 14)
SIZE = 200
CLASSES = 10
ABOUT = (
    "Classification trees on 200 of the 1,437 training digits, drawn anew for each fit; error on the 360 test digits. "
    "The error is the squared distance between the predicted probabilities and the one-hot label, summed over the "
    "classes (the Brier score), for which bias and variance add up as in regression; the noise of the labels is not "
    "known and counts as bias."
)


def measure(
    depth: int, pixels: np.ndarray, labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray, *, rows: np.ndarray
) -> Decomposition:
    """Returns the decomposition at one depth.

    Args:
      depth: of the trees.
      pixels: ``[n, pixels]``.
      labels: ``[n]``.
      test: ``[m, pixels]``.
      test_labels: ``[m]``.
      rows: ``[resamples, size]``, the positions of each training set.
    """
    at_test, at_training = trees.probabilities(pixels[rows], labels[rows], test, knob=depth, num_classes=CLASSES)
    truth = np.eye(CLASSES)[test_labels]
    own = np.square(at_training - np.eye(CLASSES)[labels[rows]]).sum(axis=-1)
    return decompose(at_test, truth, np.broadcast_to(truth, at_test.shape), noise=0.0, train_error=float(own.mean()))


def run(*, resamples: int, seed: int, note: Callable[[str], None]) -> dict[str, Any]:
    """Returns the description and a row for each depth; see :func:`vision.studies.bias_variance.families.run`."""
    train, labels = images.read("digits", "train")
    test, test_labels = images.read("digits", "test")
    random = np.random.default_rng(seed)
    positions = np.stack([random.choice(len(train), SIZE, replace=False) for _ in range(resamples)])
    rows = []
    for depth in DEPTHS:
        found = measure(depth, train, labels, test, test_labels, rows=positions)
        rows.append({"knob": depth, **found.as_dict()})
        note(f"digits_tree: depth {depth}: test error {found.test_error:.3f}")
    return {"knob": "depth", "about": ABOUT, "size": SIZE, "noise": 0.0, "interpolates_at": None, "rows": rows}
