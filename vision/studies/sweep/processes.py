"""One child process for each run, several at a time; a run that fails is told, and the others go on."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import Any

from vision.errors import Stopped
from vision.training.interrupt import Interrupt

Outcome = dict[str, Any] | str
_BY_SIGNAL = tuple(128 + number for number in Interrupt.SIGNALS)


def run_all(commands: Sequence[list[str]], *, jobs: int, done: Callable[[int, Outcome], None]) -> None:
    """Runs commands of Python, each the arguments of a program that ends with one line of JSON.

    Args:
      commands: the arguments of each.
      jobs: how many at a time.
      done: told, as each ends, its number and the JSON, or why there is none.

    Raises:
      Stopped: a signal came; the programs under way have been told, so that they can save what they have.
    """
    children = _Children()
    with Interrupt() as interrupt, ThreadPoolExecutor(jobs) as pool:
        waiting: dict[Future[Outcome | None], int] = {
            pool.submit(children.run, command): number for number, command in enumerate(commands)
        }
        told = 0
        while waiting:
            finished, _ = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            for future in finished:
                number, outcome = waiting.pop(future), future.result()
                if outcome is not None:
                    done(number, outcome)
            if interrupt.received() and not told:
                told = interrupt.received()
                children.stop(told)
    if told:
        raise Stopped("stopped", signal_number=told)


class _Children:
    """The processes under way. They have sessions of their own: a Ctrl-C reaches them once, through this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: list[subprocess.Popen[str]] = []
        self._stopped = False

    def run(self, command: list[str]) -> Outcome | None:
        """Runs one to its end; None where it was stopped, or not begun because others were."""
        with self._started(command) as child:
            if child is None:
                return None
            out, err = child.communicate()
        if child.returncode in _BY_SIGNAL or (self._stopped and child.returncode < 0):
            return None
        if child.returncode == 0:
            with suppress(ValueError, IndexError):
                return json.loads(out.splitlines()[-1])
        lines = err.strip().splitlines() or ["it said nothing"]
        how = f"signal {-child.returncode}" if child.returncode < 0 else f"exit code {child.returncode}"
        return f"{how}: {lines[-1].removeprefix('error: ')}"

    def stop(self, number: int) -> None:
        """Hands a signal on, and lets nothing else begin."""
        with self._lock:
            self._stopped = True
            for child in self._running:
                child.send_signal(signal.Signals(number))

    @contextmanager
    def _started(self, command: list[str]) -> Iterator[subprocess.Popen[str] | None]:
        with self._lock:
            if self._stopped:
                child = None
            else:
                child = subprocess.Popen(
                    [sys.executable, *command],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
                self._running.append(child)
        try:
            yield child
        finally:
            if child is not None:
                with self._lock:
                    self._running.remove(child)
