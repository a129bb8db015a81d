"""What a run leaves behind as it runs: metrics.jsonl, TensorBoard events, log.txt, a bar or lines on the terminal."""

import itertools
import json
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from vision.errors import UserError

_SECONDS_BETWEEN_LINES = 2.0


class RunLog:
    """Writes to a run's folder and to standard error; on processes other than the first it does nothing."""

    def __init__(
        self,
        workdir: Path,
        *,
        active: bool,
        start_step: int,
        total_steps: int,
        tensorboard: bool = True,
        wandb: str | None = None,
        progress: bool = True,
        config: Mapping[str, Any] | None = None,
    ):
        """Opens the log; metrics after ``start_step``, left by a run that was killed, are dropped.

        Args:
          workdir: the run's folder.
          active: whether this process writes.
          start_step: the step training starts from.
          total_steps: its length, for the bar.
          tensorboard: write ``events.*`` too.
          wandb: project of Weights & Biases to write to, or None.
          progress: show a bar on a terminal, lines elsewhere.
          config: for Weights & Biases.

        Raises:
          UserError: a file cannot be written, or wandb is asked for and not installed.
        """
        self._active = active
        self._progress = progress
        self._total = total_steps
        self._last_line = 0.0
        self._first_line: tuple[float, int] | None = None
        self._bar: tqdm | None = None
        self._tensorboard = self._wandb = None
        if not active:
            return
        self._metrics_path = workdir / "metrics.jsonl"
        with ExitStack() as stack:
            truncate_metrics(self._metrics_path, start_step, total=total_steps)
            self._metrics = stack.enter_context(_open(self._metrics_path))
            self._text = stack.enter_context(_open(workdir / "log.txt"))
            if tensorboard:
                from tensorboardX import SummaryWriter

                self._tensorboard = SummaryWriter(str(workdir), purge_step=start_step + 1)
                stack.callback(self._tensorboard.close)
            if wandb:
                self._wandb = _start_wandb(wandb, workdir, config or {})
                stack.callback(self._wandb.finish)
            self._files = stack.pop_all()
        if progress and sys.stderr.isatty():
            self._bar = tqdm(total=total_steps, initial=start_step, unit="step", dynamic_ncols=True, smoothing=0.1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one line of metrics."""
        if not self._active:
            return
        try:
            self._metrics.write(json.dumps({"step": step, **values}) + "\n")
            self._metrics.flush()
            if self._tensorboard is not None:
                for name, value in values.items():
                    self._tensorboard.add_scalar(name, value, step)
        except OSError as error:
            raise UserError(f"cannot write {self._metrics_path}: {error.strerror or error}") from error
        if self._wandb is not None:
            self._wandb.log(dict(values), step=step)

    def advance(self, step: int, values: Mapping[str, float], *, force: bool = False) -> None:
        """Shows where the training is: steps, loss, accuracy, examples per second and the time that remains."""
        if not self._active or not self._progress:
            return
        shown = {
            name.split("/")[-1]: f"{values[name]:.4g}"
            for name in ("train/loss", "train/accuracy", "speed/mfu", "speed/examples_per_second")
            if name in values
        }
        if "examples_per_second" in shown:
            shown["examples/s"] = f"{values['speed/examples_per_second']:,.0f}"
            del shown["examples_per_second"]
        if self._bar is not None:
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update(step - self._bar.n)
            if force:
                self._bar.refresh()
            return
        now = time.monotonic()
        if force or now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            values_shown = "  ".join(f"{name} {value}" for name, value in shown.items())
            self.note(f"step {step}/{self._total}  {values_shown}{self._time_left(step)}")

    def _time_left(self, step: int) -> str:
        """Extrapolates from the first line on, so that compilation does not count."""
        now = time.monotonic()
        if self._first_line is None:
            self._first_line = (now, step)
            return ""
        began, at = self._first_line
        return f"  {(now - began) / (step - at) * (self._total - step):.0f} s left"

    def note(self, text: str) -> None:
        """Prints a line to standard error, above the bar if there is one, and to log.txt."""
        if not self._active:
            return
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)
        with suppress(OSError):  # a full disk is reported where results are lost, not for a line of text
            self._text.write(text + "\n")
            self._text.flush()

    def close(self) -> None:
        """Closes every file."""
        if not self._active:
            return
        if self._bar is not None:
            self._bar.close()
        with suppress(OSError):  # on a full disk the lines that could not be written have been reported
            self._files.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Returns the lines of a metrics.jsonl; what is no line, such as a last one half written, is left out."""
    lines = []
    if path.exists():
        for text in path.read_text(errors="replace").splitlines():
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                continue
            if isinstance(line, dict) and isinstance(line.get("step"), int):
                lines.append(line)
    return lines


def truncate_metrics(path: Path, step: int, *, total: int) -> None:
    """Drops every line after ``step``, whole or not at all, and the evaluations at the end, made anew.

    These are those of the last step, and of a step before the line above them: of the best state of all.

    Raises:
      UserError: the file cannot be read or written.
    """
    partial = path.with_suffix(".partial")
    try:
        if path.exists():
            lines = read_metrics(path)
            reached = itertools.accumulate((line["step"] for line in lines), max)
            kept = [
                line
                for line, newest in zip(lines, reached, strict=True)
                if newest == line["step"] <= step and (line["step"] < total or "train/loss" in line)
            ]
            partial.write_text("".join(json.dumps(line) + "\n" for line in kept))
            partial.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def _open(path: Path) -> TextIO:
    try:
        return open(path, "a")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def _start_wandb(project: str, workdir: Path, config: Mapping[str, Any]) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise UserError("config.logging.wandb: wandb is not installed; pip install -e '.[wandb]'") from error
    return wandb.init(
        project=project, name=workdir.name, id=workdir.name, dir=str(workdir), config=dict(config), resume="allow"
    )
