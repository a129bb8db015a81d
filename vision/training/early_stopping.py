"""When to stop before the end: a metric that has not become better for so many evaluations."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Mode = Literal["max", "min"]


def mode_of(metric: str, mode: Mode | None) -> Mode:
    """Returns whether more or less of a metric is better: as said, else less of what ends in loss or error."""
    return mode or ("min" if metric.endswith(("loss", "error")) else "max")


def early_stopping(*, metric: str, patience: int, min_delta: float = 0.0, mode: Mode | None = None) -> None:
    """The section of a config: stop when a metric has stopped improving, and end on its best state.

    Prechelt 1998, "Early stopping, but when?", criterion UP, counted from the best value so far.

    Args:
      metric: ``eval/metric``, such as ``val/loss``; it is computed as often as ``evals.<eval>.every`` says.
      patience: evaluations in a row without an improvement after which training stops.
      min_delta: what counts as an improvement: better than the last one by more than this.
      mode: see :func:`mode_of`.

    Raises:
      ValueError: ``patience`` below 1, or ``min_delta`` that is negative or not finite.
    """
    if patience < 1:
        raise ValueError(f"patience must be >= 1, got {patience}")
    if not 0.0 <= min_delta < math.inf:
        raise ValueError(f"min_delta must be a number >= 0, got {min_delta}")


@dataclass(frozen=True)
class Patience:
    """What is known after an evaluation; a checkpoint keeps it, so that a resumed run stops where it would have.

    Attributes:
      step: of the newest evaluation; 0 before the first.
      best_step: of the evaluation with the best value, of equal ones the latest, whose checkpoint is kept.
      best: that value; None before the first.
      reference: the value of the last improvement, from which the next one is measured.
      stale: evaluations since then.
    """

    step: int = 0
    best_step: int = 0
    best: float | None = None
    reference: float | None = None
    stale: int = 0

    @classmethod
    def read(cls, record: Mapping[str, Any] | None) -> "Patience":
        """Returns what :meth:`record` gave; the beginning for None."""
        return cls(**(record or {}))

    def record(self) -> dict[str, Any]:
        """Returns a form that JSON keeps exactly."""
        return asdict(self)

    def after(self, step: int, value: float, section: Mapping[str, Any]) -> "Patience":
        """Returns what is known after an evaluation; the same one a second time, or an earlier one, changes nothing.

        Args:
          step: of the evaluated state.
          value: of the metric.
          section: resolved, see :func:`early_stopping`.
        """
        if step <= self.step:
            return self
        sign = 1.0 if section["mode"] == "max" else -1.0
        if math.isnan(value):
            value = -sign * math.inf  # worse than any number
        improved = self.reference is None or sign * (value - self.reference) > section["min_delta"]
        is_best = self.best is None or sign * value >= sign * self.best
        return Patience(
            step=step,
            best_step=step if is_best else self.best_step,
            best=value if is_best else self.best,
            reference=value if improved else self.reference,
            stale=0 if improved else self.stale + 1,
        )

    def ended(self, section: Mapping[str, Any] | None) -> bool:
        """Whether training stops here; without a section it never does."""
        return section is not None and self.stale >= section["patience"]
