"""From the metrics of steps, still on the device, to the lines of metrics.jsonl."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from vision.errors import TrainingFailed

Sums = dict[str, tuple[float, float]]
TOTALS = ("skipped_steps",)  # of these a line has the sum, of all others the mean


class Line(NamedTuple):
    """The metrics of the steps since the line before."""

    step: int
    values: dict[str, float]


class Meter:
    """Collects ``(sum, count)`` metrics without waiting for the device, and averages them line by line.

    Sums are kept in float64 and in the order of steps, so an open window that a checkpoint held and a later
    process took up again ends at the same bits.
    """

    def __init__(self, window: Mapping[str, Sequence[float]], *, step: int, batch_size: int):
        """Takes up an open window of sums (empty at the start) at a step."""
        self._window: Sums = {name: (float(total), float(count)) for name, (total, count) in window.items()}
        self._batch_size = batch_size
        self._open: list[tuple[int, Any]] = []
        self._due: list[tuple[int, list[tuple[int, Any]]]] = []
        self._clock, self._clock_step = time.monotonic(), step

    def add(self, first_step: int, metrics: Any) -> None:
        """Takes the metrics of one step, or of a stack of steps beginning after ``first_step``, on the device."""
        self._open.append((first_step, metrics))

    def end_line(self, step: int) -> None:
        """Ends a line at ``step``; it can be read from now on, best after the next dispatch."""
        self._due.append((step, self._open))
        self._open = []

    def lines(self) -> Iterator[Line]:
        """Yields the lines that have ended.

        Raises:
          TrainingFailed: the loss, the gradient or the new parameters of a step are not finite.
        """
        due, self._due = self._due, []
        for step, parts in due:
            self._fetch(parts)
            values = {
                f"train/{name}": total if name in TOTALS else total / count
                for name, (total, count) in sorted(self._window.items())
                if count
            }
            now = time.monotonic()
            rate = (step - self._clock_step) * self._batch_size / max(now - self._clock, 1e-9)
            self._clock, self._clock_step, self._window = now, step, {}
            yield Line(step, values | {"speed/examples_per_second": rate})

    def leave_out(self, seconds: float) -> None:
        """Leaves time that was not spent on training, such as an evaluation's, out of the measured speed."""
        self._clock += seconds

    def open_window(self) -> dict[str, list[float]]:
        """Fetches what no line has yet, and returns its sums in a form that JSON keeps exactly.

        Raises:
          TrainingFailed: the loss, the gradient or the new parameters of a step are not finite.
        """
        parts, self._open = self._open, []
        self._fetch(parts)
        return {name: list(pair) for name, pair in self._window.items()}

    def _fetch(self, parts: list[tuple[int, Any]]) -> None:
        fetched = jax.device_get([metrics for _, metrics in parts])
        for (first_step, _), metrics in zip(parts, fetched, strict=True):
            for name in ("loss", "gradient_norm", "parameter_norm"):
                bad = np.flatnonzero(~np.isfinite(np.atleast_1d(metrics[name][0])))
                if bad.size:
                    what = name.replace("_", " ")
                    raise TrainingFailed(f"the {what} of step {first_step + int(bad[0]) + 1} is not finite")
            for name, (totals, counts) in metrics.items():
                total, count = self._window.get(name, (0.0, 0.0))
                for t, c in zip(np.atleast_1d(totals), np.atleast_1d(counts), strict=True):
                    total, count = total + float(t), count + float(c)
                self._window[name] = (total, count)
