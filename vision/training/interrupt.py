"""Ctrl-C, SIGTERM and a scheduler's warning as a request: finish the step, save, say how to go on."""

import signal
import threading
from types import FrameType

from vision.errors import Preempted

WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)


class Interrupt:
    """Within its ``with`` block a first signal is only noted; a second one acts as it always does.

    SIGUSR1 and SIGUSR2 are what schedulers warn with before they take the machine away (``sbatch --signal``). Where
    they are heeded, they are noted however often they come, and the SIGTERM that follows them is a first signal.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, *, warnings: bool = False) -> None:
        self.warned = False
        self._received = 0
        self._numbers = (*self.SIGNALS, *WARNINGS) if warnings else self.SIGNALS
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in self._numbers}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number in WARNINGS:
            self.warned = True
            return
        self._received = number
        for each in self.SIGNALS:
            signal.signal(each, self._previous[each])  # type: ignore[arg-type]

    def received(self) -> int:
        """Returns the number of the signal that this process received, or 0."""
        return self._received


def heed_warnings() -> None:
    """Makes a scheduler's warning end a program that has nothing to save yet with the code that asks to be requeued."""

    def warned(number: int, frame: FrameType | None) -> None:
        error = Preempted("warned by the scheduler before training began; the same command starts again")
        error.shared = False  # the others may not have been warned yet, or at all
        raise error

    for number in WARNINGS:
        signal.signal(number, warned)
