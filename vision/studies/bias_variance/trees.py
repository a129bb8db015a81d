"""Decision trees of a given depth, for regression and for classes."""

import numpy as np
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor


def fit(x: np.ndarray, y: np.ndarray, points: np.ndarray, *, knob: int) -> tuple[np.ndarray, np.ndarray]:
    """Fits regression trees of depth ``knob`` at most, 0 being the mean (Breiman et al. 1984, scikit-learn's CART).

    Args:
      x: ``[resamples, n, dimensions]``.
      y: ``[resamples, n]``.
      points: ``[m, dimensions]``.
      knob: the depth.

    Returns:
      Predictions at the points ``[resamples, m]`` and at the training inputs ``[resamples, n]``.
    """
    at_points, at_training = [], []
    for inputs, outputs in zip(x, y, strict=True):
        if knob == 0:
            at_points.append(np.full(len(points), outputs.mean()))
            at_training.append(np.full(len(inputs), outputs.mean()))
            continue
        tree = DecisionTreeRegressor(max_depth=knob, random_state=0).fit(inputs, outputs)
        at_points.append(tree.predict(points))
        at_training.append(tree.predict(inputs))
    return np.stack(at_points), np.stack(at_training)


def probabilities(
    x: np.ndarray, labels: np.ndarray, points: np.ndarray, *, knob: int, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fits classification trees of depth ``knob`` at most, and returns the class shares of their leaves.

    Args:
      x: ``[resamples, n, dimensions]``.
      labels: ``[resamples, n]``, classes.
      points: ``[m, dimensions]``.
      knob: the depth, at least 1.
      num_classes: columns of the answer; a class that a training set lacks has probability 0.

    Returns:
      Probabilities at the points ``[resamples, m, num_classes]`` and at the training inputs.
    """

    def answer(tree: DecisionTreeClassifier, inputs: np.ndarray) -> np.ndarray:
        shares = np.zeros((len(inputs), num_classes))
        shares[:, tree.classes_] = tree.predict_proba(inputs)
        return shares

    trees = [
        DecisionTreeClassifier(max_depth=knob, random_state=0).fit(inputs, classes)
        for inputs, classes in zip(x, labels, strict=True)
    ]
    at_training = [answer(tree, inputs) for tree, inputs in zip(trees, x, strict=True)]
    return np.stack([answer(tree, points) for tree in trees]), np.stack(at_training)
