"""One matrix of scores, whatever an estimator offers."""

from typing import Any, Literal

import numpy as np

Kind = Literal["probability", "margin", "votes"]


def scores(estimator: Any, x: np.ndarray, num_classes: int) -> tuple[np.ndarray, Kind]:
    """Returns a score of every class, the larger the likelier, and what it is.

    ``probability`` is what ``predict_proba`` gives, ``margin`` what ``decision_function`` gives (with two classes
    the second has the margin, the first its negative), ``votes`` a one at the predicted class where an estimator
    says no more than that. A class that the estimator has never seen gets 0, or the lowest margin of each row.

    Args:
      estimator: fitted, with ``classes_``.
      x: float32 ``[n, features]``.
      num_classes: of the data.

    Returns:
      float64 ``[n, num_classes]`` and the kind.
    """
    if not hasattr(estimator, "predict_proba") and not hasattr(estimator, "decision_function"):
        return np.eye(num_classes)[estimator.predict(x)], "votes"
    kind: Kind = "probability" if hasattr(estimator, "predict_proba") else "margin"
    given = estimator.predict_proba(x) if kind == "probability" else estimator.decision_function(x)
    if given.ndim == 1:
        given = np.stack([-given, given], axis=1)
    if kind == "probability":
        result = np.zeros((len(x), num_classes))
    else:
        result = np.repeat(given.min(axis=1, keepdims=True).astype(np.float64), num_classes, axis=1)
    result[:, estimator.classes_] = given
    return result, kind
