"""What a fit would take, estimated before it begins: memory from shapes, time from small fits.

Few examples are fitted, twice as many, and so on for about a second; the time of all follows by the growth that the
estimator is known to have. An estimate is good to a factor of two or so.
"""

import math
import os
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone

from vision.errors import UserError

_SMALL = 1_000_000  # numbers in the data below which any fit takes minutes at most
_FIRST, _PILOT_SECONDS = 500, 1.0
_GIBIBYTE = 2**30


class TooCostly(UserError):
    """A fit would take more memory or time than it may."""


class Growth(NamedTuple):
    """How the time of a fit grows.

    Attributes:
      lowest: power of the number of examples, at least; in between it is measured.
      highest: at most.
      rounds: the option that the time is proportional to, where there is one.
      pilot_rounds: its value in small fits.
    """

    lowest: float
    highest: float
    rounds: str | None = None
    pilot_rounds: int = 0


_GROWTH = {
    "decision_tree": Growth(1.0, 1.3),  # n log n
    "exact_gradient_boosting": Growth(1.0, 1.3, "num_rounds", 1),
    "gradient_boosting": Growth(1.0, 1.0, "max_iter", 2),
    "kernel_svm": Growth(2.0, 3.0),  # Bottou and Lin 2007, section 4
    "linear_regression": Growth(1.0, 1.0),
    "linear_svm": Growth(1.0, 1.0, "max_iterations", 4),
    "logistic_regression": Growth(1.0, 1.0, "max_iterations", 4),
    "random_forest": Growth(1.0, 1.3, "n_estimators", os.cpu_count() or 1),
    "ridge": Growth(1.0, 1.0),
    "softmax_regression": Growth(1.0, 1.0, "max_iterations", 4),
}


def check_cost(name: str, estimator: Any, x: np.ndarray, y: np.ndarray, *, memory_gib: float, minutes: float) -> None:
    """Raises TooCostly with an estimate and the key to go on, where a fit would exceed a limit.

    Args:
      name: of one of :data:`vision.classic.estimators.ESTIMATORS`.
      estimator: with the options to be used, not fitted.
      x: float32 ``[n, features]``.
      y: int ``[n]``.
      memory_gib: limit of the memory for the data and the fit.
      minutes: limit of its time.
    """
    what = f"config.estimator: {name} on {len(x):,} examples of {x.shape[1]:,} features would"
    cure = "or take fewer examples, as --config.data.split=train[:10%], or fewer features"
    needed = memory_bytes(name, estimator, len(x), x.shape[1], len(np.unique(y))) / _GIBIBYTE
    if needed > memory_gib:
        raise TooCostly(
            f"{what} take about {needed:.2g} GiB of memory, the limit is {memory_gib:g}; "
            f"to go on, --config.limits.memory_gib={_rounded_up(1.2 * needed)}, {cure}"
        )
    estimate = fit_minutes(name, estimator, x, y)
    if estimate > minutes:
        raise TooCostly(
            f"{what} take about {_duration(estimate)}, the limit is {minutes:g} minutes; "
            f"to go on, --config.limits.minutes={_rounded_up(2 * estimate)}, {cure}"
        )


def memory_bytes(name: str, estimator: Any, examples: int, features: int, classes: int) -> float:
    """Returns what the data and a fit take at their peak, roughly."""
    data = 4.0 * examples * features
    beyond: dict[str, Callable[[], float]] = {
        "decision_tree": lambda: 40.0 * examples,
        "exact_gradient_boosting": lambda: 8.0 * examples * (5 * classes + 10),
        "gradient_boosting": lambda: examples * (features + 24.0 * classes),
        "kernel_svm": lambda: _kernel_bytes(estimator, examples, features),
        "knn": lambda: estimator.memory_mib * 2**20,
        "linear_regression": lambda: 8.0 * 2 * (max(2048, 2 * features) + features) * (features + classes),
        "mean_class": lambda: 0.0,
        "random_forest": lambda: estimator.n_estimators * examples / 2 * (64.0 + 8.0 * classes),  # nodes
        "ridge": lambda: 8.0 * min(examples, features) ** 2 + 16.0 * features * min(examples, 2048),
    }
    linear = 8.0 * examples * 5 * classes + 8.0 * 50 * features * classes
    return data + (beyond[name]() if name in beyond else linear)


def _kernel_bytes(estimator: Any, examples: int, features: int) -> float:
    """libsvm has a copy in float64 and its cache; a kernel of our own comes as a whole matrix, which it copies."""
    if callable(estimator.kernel):
        return 16.0 * examples**2 + 4.0 * examples * features
    return 8.0 * examples * features + estimator.cache_size * 2**20


def fit_minutes(name: str, estimator: Any, x: np.ndarray, y: np.ndarray) -> float:
    """Returns how long a fit takes; 0 where that is no question: for small data, and where fitting is keeping."""
    growth = _GROWTH.get(name)
    if growth is None or x.size <= _SMALL:
        return 0.0
    order = np.random.default_rng(0).permutation(len(x))
    pilot, factor = clone(estimator), 1.0
    if growth.rounds is not None:
        wanted = getattr(estimator, growth.rounds)
        rounds = min(growth.pilot_rounds, wanted)
        pilot, factor = pilot.set_params(**{growth.rounds: rounds}), wanted / rounds
    if name == "exact_gradient_boosting":
        pilot.set_params(state=None)
    size, before, taken = _FIRST // 2, 0.0, 0.0
    _seconds_of(pilot, x[order[:size]], y[order[:size]])  # whatever happens once only: compiling, threads
    while (taken < _PILOT_SECONDS or not before) and (4 * size <= len(x) or not taken):
        size, before = 2 * size, taken
        part = np.sort(order[:size])
        taken = _seconds_of(pilot, x[part], y[part])
    power = math.log2(taken / before) if before else (growth.lowest + growth.highest) / 2
    power = min(max(power, growth.lowest), growth.highest)
    return factor * taken * (len(x) / size) ** power / 60


def _seconds_of(estimator: Any, x: np.ndarray, y: np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a small fit need not converge
        began = time.perf_counter()
        clone(estimator).fit(x, y)
        return time.perf_counter() - began


def _duration(minutes: float) -> str:
    return f"{minutes / 60:.2g} hours" if minutes >= 90 else f"{minutes:.2g} minutes"


def _rounded_up(value: float) -> str:
    """Two digits."""
    digits = 1 - math.floor(math.log10(value))
    return f"{math.ceil(value * 10**digits) / 10**digits:g}"
