"""When a run must stop before its end: a signal, a scheduler's warning, or a time that is nearly over.

Alone, a process asks after every dispatch. Several have to stop at the same step, and to know of each other costs a
collective, so they ask every few seconds: each answer also holds how long the slowest took for a step, from which all
compute the same step at which to ask next.
"""

import time
from collections.abc import Callable

import jax
import numpy as np

from vision.errors import Preempted, Stopped
from vision.training.interrupt import Interrupt

EVERY_SECONDS = 4.0
_BYTES_PER_SECOND = 100e6  # of a save, until one was seen
_LEAVE_SECONDS = 3.0  # to say why, and to leave the others in good order


class TimeBudget:
    """The time that a run may take, and what it must keep of it to save.

    It is over when another turn of the loop, as long as the longest so far, and a save, as long as twice the longest,
    would not fit any more. A turn is one dispatch with all that follows; the first, which compiles, does not count.
    """

    def __init__(self, seconds: float | None, *, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._end = None if seconds is None else clock() + seconds
        self._step = self._event = self._save = 0.0
        self._turns = 0

    def expect_save(self, nbytes: int) -> None:
        """Takes the size of what is to be saved, for a guess until a save was seen."""
        self._save = max(self._save, 1.0 + nbytes / _BYTES_PER_SECOND)

    def saw_save(self, seconds: float) -> None:
        """Takes what a save took until it was on disk."""
        self._save = max(self._save, seconds)

    def saw(self, step: float, event: float) -> None:
        """Takes how long a dispatch took, and what was done after it."""
        self._turns += 1
        if self._turns > 1:
            self._step, self._event = max(self._step, step), max(self._event, event)

    def over(self, *, ahead: float = 0.0, event_due: bool = True) -> bool:
        """Whether to stop now.

        Args:
          ahead: seconds until it is asked next, where that is not after the next step.
          event_due: whether an evaluation or a save comes before that.
        """
        if self._end is None:
            return False
        needed = max(self._step, ahead) + (self._event if event_due else 0.0) + 2 * self._save + _LEAVE_SECONDS
        return self._clock() + needed >= self._end


class Stopping:
    """Whether a run must stop at this step: the same answer in all of its processes."""

    def __init__(self, interrupt: Interrupt, budget: TimeBudget, *, alone: bool | None = None):
        self._interrupt, self._budget = interrupt, budget
        self._alone = jax.process_count() == 1 if alone is None else alone
        self._next, self._last = 0, -1
        self._asked = 0.0

    def due(self, step: int) -> bool:
        """Whether to ask after this step; the same in all processes."""
        return self._alone or step >= self._next

    def asked(self, step: int, total: int, where: str, *, next_event: int) -> Stopped | None:
        """Returns why the run must stop, or None. With several processes it is a collective.

        Args:
          step: how many steps are done.
          total: how many there are to be.
          where: the run's folder.
          next_event: the step after which the next evaluation or save comes.
        """
        now, since = time.monotonic(), step - self._last if self._last >= 0 else 1
        # At most twice as far ahead as last time: the steps after quick ones may be slow.
        most = since if self._alone else 2 * since
        over = self._budget.over(ahead=0.0 if self._alone else EVERY_SECONDS, event_due=next_event <= step + most)
        pace = (now - self._asked) / since if self._last >= 0 else EVERY_SECONDS
        mine = [float(self._interrupt.received()), float(self._interrupt.warned), float(over), pace]
        received, warned, any_over, slowest = mine if self._alone else _largest(mine)
        self._next = step + int(np.clip(EVERY_SECONDS / max(slowest, 1e-9), 1, most))
        self._last, self._asked = step, time.monotonic()
        saved = f"step {step} of {total} and saved in {where}; the same command resumes"
        if any_over:
            return Preempted(f"stopped by --max_time at {saved}")
        if warned:
            return Preempted(f"warned by the scheduler: stopped at {saved}")
        if received:
            return Stopped(f"stopped at {saved}", signal_number=int(received))
        return None


def _largest(values: list[float]) -> list[float]:
    from jax.experimental import multihost_utils

    gathered = multihost_utils.process_allgather(np.asarray(values, np.float32))
    return [float(value) for value in np.max(np.reshape(gathered, (-1, len(values))), 0)]
