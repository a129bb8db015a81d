"""A time that a study may take: what runs when it is over saves its state and ends."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from vision.errors import Stopped


class OutOfTime(BaseException):
    """The time that was given is over; no handler of other errors may take it for one of its own."""


@contextmanager
def until(deadline: float | None) -> Iterator[None]:
    """Ends what runs inside at the deadline, by the signal that a training saves its state for.

    Args:
      deadline: ``time.monotonic()`` at which to stop, or None.

    Raises:
      OutOfTime: the deadline came; a training raises Stopped instead, once its state is saved.
      Stopped: the signal came from elsewhere.
    """
    if deadline is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminated(number: int, _: object) -> None:
        if time.monotonic() < deadline:
            raise Stopped("stopped by a signal; the same command goes on", signal_number=number)
        raise OutOfTime

    before = signal.signal(signal.SIGTERM, terminated)
    timer = threading.Timer(max(0.0, deadline - time.monotonic()), os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGTERM, before)
