"""How much an estimator keeps to predict with: the counterpart of a network's parameters."""

from typing import Any

import numpy as np


def parameter_count(*parts: Any) -> int:
    """Returns how many numbers the fitted parts hold: arrays of attributes that end in ``_``, and nodes of trees.

    A nearest-neighbour estimator holds its whole training set, a support vector machine its support vectors, a tree
    a feature, a threshold and a value for each node.

    Args:
      *parts: fitted estimators and transformers, scikit-learn's or with its conventions.
    """
    return sum(_count(part, set()) for part in parts)


def _count(part: Any, seen: set[int]) -> int:
    if id(part) in seen:
        return 0
    seen.add(id(part))
    if isinstance(part, np.ndarray):
        return sum(_count(each, seen) for each in part.flat) if part.dtype == object else part.size
    if hasattr(part, "node_count"):  # a tree of scikit-learn
        return 2 * part.node_count + part.value.size
    if isinstance(getattr(part, "nodes", None), np.ndarray):  # one of its histogram boosting
        return 3 * len(part.nodes)
    if isinstance(part, list | tuple):
        return sum(_count(each, seen) for each in part)
    if type(part).__module__.split(".")[0] == "scipy":
        return int(part.nnz)
    if hasattr(part, "shape") and hasattr(part, "dtype"):
        return int(np.size(part))
    if not hasattr(part, "__dict__"):
        return 0
    learned = {name: value for name, value in vars(part).items() if name.endswith("_") or name == "_predictors"}
    return sum(_count(value, seen) for name, value in learned.items() if name not in _NOT_NEEDED)


# Attributes that tell of the fit, or that others repeat.
_NOT_NEEDED = (
    *("classes_", "n_iter_", "feature_importances_", "train_score_", "validation_score_", "oob_score_", "counts_"),
    *(
        "support_",
        "n_samples_seen_",
        "class_weight_",
        "labels_",
        "inertia_",
        "estimators_samples_",
        "feature_names_in_",
    ),
)
