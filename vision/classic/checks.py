"""What must hold of data before anything is fitted to them; each failure is one line."""

from collections.abc import Sequence

import numpy as np

from vision.evaluation.knn_search import check_finite

_NAMED = 5


def check_labels(labels: np.ndarray, num_classes: int, class_names: Sequence[str] = ()) -> None:
    """Raises a ValueError where there is but one class, or a class has no example.

    Args:
      labels: int ``[n]``.
      num_classes: that there should be.
      class_names: their names, where known.
    """
    names = list(class_names) if len(class_names) == num_classes else [str(each) for each in range(num_classes)]
    present = np.unique(labels)
    if len(present) == 1:
        raise ValueError(f"all {len(labels):,} examples are of one class, {names[present[0]]}: nothing to tell apart")
    absent = np.setdiff1d(np.arange(num_classes), present)
    if len(absent):
        shown = ", ".join(names[each] for each in absent[:_NAMED]) + (", ..." if len(absent) > _NAMED else "")
        raise ValueError(
            f"{len(absent)} of {num_classes} classes have no example among {len(labels):,} ({shown}); "
            "take more of the split"
        )


def check_features(x: np.ndarray) -> None:
    """Raises a ValueError where features are none, or not finite.

    Args:
      x: float ``[n, features]``.
    """
    if x.ndim != 2 or not x.size:
        raise ValueError(f"features are an array [n, features] with something in it, got shape {x.shape}")
    check_finite(x, "the features")
