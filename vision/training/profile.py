"""A trace of some steps of a run, to be looked at in TensorBoard or Perfetto."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from vision.errors import UserError

FOLDER = "profile"
_MOST_STEPS = 1000  # a trace has every operation of every step, and no program opens one of gigabytes


class Window(NamedTuple):
    """The steps that are traced: from when ``first`` are done until ``last`` are."""

    first: int
    last: int


def window(text: str) -> Window:
    """Returns what ``A:B`` says.

    Raises:
      UserError: it is not two numbers, the second the larger, or they are far apart.
    """
    match = re.fullmatch(r"(\d+):(\d+)", text.strip())
    if match is None or not int(match[1]) < int(match[2]):
        raise UserError(f"--profile: write A:B, two steps with A before B, such as 10:15; got {text!r}")
    found = Window(int(match[1]), int(match[2]))
    if found.last - found.first > _MOST_STEPS:
        raise UserError(f"--profile: {text} are more than {_MOST_STEPS} steps, too many for one trace; a few will do")
    return found


class Tracer:
    """Traces a window of a run in its folder; without a window it does nothing, and neither on further processes."""

    def __init__(self, steps: Window | None, workdir: Path, note: Callable[[str], None]):
        """Takes a window, the run's folder, and whom to tell where the trace is."""
        self._window, self._folder, self._note = steps, workdir / FOLDER, note
        self._running = False

    @property
    def boundaries(self) -> Sequence[int]:
        """Steps at which a dispatch has to end."""
        return self._window or ()

    def check(self, step: int, total: int, say: Callable[[str], None]) -> None:
        """Holds the window against a run at ``step`` of ``total``; a run that goes on behind it is told only.

        Raises:
          UserError: the training ends before the window does.
        """
        if self._window is None:
            return
        first, last = self._window
        if last > total:
            raise UserError(f"--profile {first}:{last}: the training has {total} steps; choose two of them")
        if step > first:
            say(f"nothing is traced: this run goes on at step {step}, --profile {first}:{last} begins before it")

    def at(self, step: int, in_flight: Any) -> None:
        """Begins or ends the trace where it is time; ``in_flight`` is what has been dispatched and is waited for."""
        if self._window is None or jax.process_index() or step not in self._window:
            return
        jax.block_until_ready(in_flight)
        if step == self._window.first and not self._running:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f"cannot write {self._folder}: {error.strerror or error}") from error
            jax.profiler.start_trace(self._folder)
            self._running = True
        elif step == self._window.last:
            self.close()

    def close(self) -> None:
        """Ends a trace that has begun, also where the run stops within the window, and says where it is."""
        if not self._running:
            return
        self._running = False
        jax.profiler.stop_trace()
        files = sorted(self._folder.glob("plugins/profile/*/*.trace.json.gz"))
        where = files[-1] if files else self._folder
        self._note(
            f"traced from step {self._window.first if self._window else 0} on: open {where} in ui.perfetto.dev, or "
            f"tensorboard --logdir {self._folder}"
        )
