"""Ctrl-C and SIGTERM as a request: finish the step, save, say how to go on."""

import signal
import threading
from types import FrameType

import jax
import numpy as np


class Interrupt:
    """Within its ``with`` block a first signal is only noted; a second one acts as it always does."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self._received = 0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        for each, handler in self._previous.items():
            signal.signal(each, handler)  # type: ignore[arg-type]

    def received(self) -> int:
        """Returns the number of a signal that this or another process received, or 0.

        With several processes it is a collective: all must ask at the same step.
        """
        if jax.process_count() == 1:
            return self._received
        from jax.experimental import multihost_utils

        return int(np.max(multihost_utils.process_allgather(np.int32(self._received), tiled=False)))
