"""Durations are written one way: exactly one of ``steps``, ``epochs`` or ``examples``."""

from collections.abc import Mapping
from typing import Any

from vision.config.loading import DURATIONS
from vision.errors import ConfigError

Duration = Mapping[str, int | float]


def steps_of(duration: Any, path: str, *, batch_size: int, num_examples: int) -> int:
    """Returns a duration in train steps, rounded to the nearest, at least one for a positive duration.

    Args:
      duration: one key of ``steps``, ``epochs`` (passes over the training set; may be fractional), ``examples``.
      path: where it stands in the config, for messages.
      batch_size: examples a step.
      num_examples: examples an epoch.

    Raises:
      ConfigError: not exactly one key, an unknown key, or a value that is no non-negative number.
    """
    if not isinstance(duration, Mapping) or len(duration) != 1 or next(iter(duration)) not in DURATIONS:
        raise ConfigError(f"{path}: write exactly one of {', '.join(DURATIONS)}, got {duration!r}")
    ((unit, amount),) = duration.items()
    if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 <= amount < float("inf"):
        raise ConfigError(f"{path}.{unit}: expected a number >= 0, got {amount!r}")
    if unit == "steps" and amount != int(amount):
        raise ConfigError(f"{path}.steps: expected a whole number, got {amount!r}")
    per_unit = {"steps": 1.0, "epochs": num_examples / batch_size, "examples": 1 / batch_size}[unit]
    return max(round(amount * per_unit), 1) if amount else 0
