"""A line to each of the other processes of a run: to begin together, and to notice at once when one is gone.

JAX's own service ends a process by SIGABRT where the others do not come, and by default notices only after minutes
that one was killed, when all the others wait in a collective. Here every process holds a connection to the first one,
which the kernel closes when a process ends in whatever way. Those that end in good order say so before, and those
that end by an error of their own say that: the others would wait for them.
"""

import atexit
import os
import selectors
import sys
import threading
import time
from types import TracebackType

from vision import program
from vision.training.meeting import heard, meet, say

_AGAIN = 75  # the exit code of Preempted, which asks to be started again
_PATIENCE = 2.0  # seconds for the others to hear of a process that is gone
_GRACE = 3.0  # seconds for the others to meet the same error themselves, and to say more of it than that


class Peers:
    """The connections of one process; the first has one to each of the others, these have one to the first."""

    def __init__(self, address: str, count: int, number: int, *, timeout: float):
        """Returns once all the processes are there, see :func:`vision.training.meeting.meet`."""
        self._number, self._leaving, self._ending = number, False, False
        self._lines = meet(address, count, number, timeout=timeout)
        self._silent = set(self._lines)  # who has neither said goodbye nor hung up
        self._gone = False  # whether one has ended without a goodbye
        self._failed: int | None = None  # this process's exit code, where an error of its own ends it
        self._other: tuple[int, int, float] | None = None  # who else failed, its exit code, and when to follow it

    def watch(self) -> None:
        """Ends this process when another is gone, with the exit code that asks to be started again, or has failed."""
        before = sys.excepthook

        def unforeseen(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            self._hear_first()
            before(kind, error, trace)
            self._say_failed(1, others=_AGAIN)

        sys.excepthook = unforeseen
        program.when_failed(self._fail)
        threading.Thread(target=self._listen, name="peers", daemon=True).start()
        atexit.register(self._leave)  # after JAX's own, and so before it

    def _fail(self, code: int) -> None:
        """Tells the others that an error ends this process alone; they end with its exit code."""
        self._hear_first()
        self._say_failed(code, others=code or _AGAIN)

    def _hear_first(self) -> None:
        """An error may come of a collective that broke off, whatever it is called: who is gone is soon known."""
        time.sleep(_PATIENCE)
        self._wait_if_ending()

    def _wait_if_ending(self) -> None:
        if self._ending:
            time.sleep(60)  # which the other thread cuts short

    def _say_failed(self, code: int, *, others: int) -> None:
        self._failed, self._leaving = code, True
        for line in self._lines.values():
            say(line, f"failed {self._number} {others}")

    def _leave(self) -> None:
        self._wait_if_ending()
        self._leaving = True
        if self._failed is None:
            for line in self._lines.values():
                say(line, "bye")
            return
        # With the first process goes JAX's service, which would end the others less kindly than they end themselves.
        end = time.monotonic() + _GRACE + 2 * _PATIENCE
        while self._silent and time.monotonic() < end:
            time.sleep(0.02)
        if self._silent or self._gone:  # else all wait where JAX ends in good order
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self._failed)

    def _listen(self) -> None:
        with selectors.DefaultSelector() as waiting:
            for number, line in self._lines.items():
                waiting.register(line, selectors.EVENT_READ, number)
            while waiting.get_map() or self._other:
                for key, _ in waiting.select(max(self._other[2] - time.monotonic(), 0.0) if self._other else None):
                    number = int(key.data)
                    word, *numbers = heard(self._lines[number]).split() or ["gone", str(number)]
                    if word == "failed":
                        self._follow(*map(int, numbers))
                        if self._number:
                            self._silent, self._gone = set(), True  # should this one fail too, it need not wait
                        continue
                    waiting.unregister(key.fileobj)
                    self._silent.discard(number)
                    self._gone |= word != "bye"
                    if word != "bye" and self._other is None:
                        self._end(int(numbers[0]))
                    elif self._other is not None and self._number:
                        self._end(*self._other[:2])
                if self._other and time.monotonic() >= self._other[2]:
                    self._end(*self._other[:2])

    def _follow(self, failed: int, code: int) -> None:
        """Notes that another process has failed, and hands it on."""
        if self._number == 0:
            self._tell(f"failed {failed} {code}", but=failed)
        if not self._leaving and not self._other:
            self._other = failed, code, time.monotonic() + _GRACE

    def _end(self, gone: int, code: int = _AGAIN) -> None:
        """Ends this process after another one, unless it is ending by itself."""
        self._other = None
        if self._leaving:
            return
        self._ending = True
        text = (
            f"process {gone} of this run has ended; so does process {self._number}: "
            "the same commands go on from the last checkpoint"
        )
        if code != _AGAIN:
            text = f"process {gone} of this run has failed, its message says why; process {self._number} ends with it"
        os.write(2, f"{text}\n".encode())
        if self._number == 0:
            if code == _AGAIN:
                self._tell(f"gone {gone}", but=gone)
            time.sleep(_PATIENCE)  # with this process goes JAX's service, which would end the others less kindly
        os._exit(code)

    def _tell(self, text: str, *, but: int) -> None:
        for number, line in self._lines.items():
            if number != but:
                say(line, text)
