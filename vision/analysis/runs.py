"""What a run's folder says, read without JAX: its config, curves, newest evaluations, and how far it has got."""

import fcntl
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision.errors import UserError

Points = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Final:
    """The newest value of a metric, and its step."""

    value: float
    step: int


@dataclass(frozen=True)
class Evaluation:
    """The newest evaluation of one name.

    Attributes:
      step: of the state that was evaluated.
      scalars: metric -> number.
      confusion: counts, a row per true class, a column per predicted class; empty where there are none.
      class_names: one per class.
    """

    step: int
    scalars: dict[str, float]
    confusion: list[list[int]]
    class_names: list[str]


@dataclass(frozen=True)
class Run:
    """A run's folder, read.

    Attributes:
      workdir: the folder, as it was given.
      config: resolved, nested.
      environment: what the result depends on beside the config; empty where the folder does not say.
      series: metric, such as ``"test/loss"`` -> ``(step, value)`` in the order of steps, each step once.
      evaluations: name -> newest evaluation.
      summary: what a complete run says of itself; empty before that.
      checkpoints: steps of the checkpoints, ascending.
      in_use: whether a process holds the folder; None where that cannot be told.
      unreadable_lines: lines of ``metrics.jsonl`` passed over, a half-written last one not counted.
    """

    workdir: Path
    config: dict[str, Any]
    environment: dict[str, Any]
    series: dict[str, Points]
    evaluations: dict[str, Evaluation]
    summary: dict[str, Any]
    checkpoints: list[int]
    in_use: bool | None
    unreadable_lines: int

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.workdir.resolve().name

    @property
    def step(self) -> int:
        """The newest step that the folder knows of."""
        logged = [points[-1][0] for points in self.series.values()]
        evaluated = [evaluation.step for evaluation in self.evaluations.values()]
        return max([0, *logged, *evaluated, *self.checkpoints, int(self.summary.get("step", 0))])

    @property
    def steps(self) -> int | None:
        """The length of the whole run, where the folder says it in steps."""
        duration = self.config.get("duration")
        configured = duration.get("steps") if isinstance(duration, dict) else None
        steps: Any = self.summary.get("steps", configured)
        return int(steps) if is_number(steps) else None

    @property
    def state(self) -> str:
        """``"complete"``, ``"under way"`` or ``"stopped"``.

        A killed run cannot say so, but the lock on its folder went with it. Without a lock to ask, a run that has
        no summary counts as under way.
        """
        if self.summary.get("complete"):
            return "complete"
        return "stopped" if self.summary or self.in_use is False else "under way"

    @property
    def fitted(self) -> bool:
        """Whether the run is of an estimator, which has no steps."""
        return "estimator" in self.config

    @property
    def headline(self) -> str:
        """The state in words, such as ``"stopped at step 120 of 480"``."""
        if self.state == "complete":
            return "complete: fitted" if self.fitted else f"complete: {self.step} steps"
        if self.fitted:
            return f"{self.state}: not fitted yet"
        return f"{self.state} at step {self.step}" + (f" of {self.steps}" if self.steps else "")

    def final(self) -> dict[str, Final]:
        """Returns the newest value of every metric; of a speed the median, as the first steps compile."""
        newest = {name: Final(points[-1][1], points[-1][0]) for name, points in self.series.items()}
        for name, points in self.series.items():
            finite = [value for _, value in points if math.isfinite(value)]
            if name.startswith("speed/") and finite:
                newest[name] = Final(statistics.median(finite), points[-1][0])
        for name, evaluation in self.evaluations.items():
            for metric, value in evaluation.scalars.items():
                known = newest.get(f"{name}/{metric}")
                # A run that stopped early was evaluated last at its best step, which later steps precede.
                if known is None or known.step <= evaluation.step or "stopped_at" in self.summary:
                    newest[f"{name}/{metric}"] = Final(value, evaluation.step)
        for name, values in self.summary.items():
            for metric, value in values.items() if isinstance(values, dict) else ():
                if is_number(value):
                    newest.setdefault(f"{name}/{metric}", Final(float(value), self.step))
        return newest


def read(workdir: Path) -> Run:
    """Reads a run's folder; whatever but the config may be absent.

    Raises:
      UserError: the folder is no run, or one of its files is broken.
    """
    workdir = Path(workdir)
    if not workdir.is_dir():
        raise UserError(f"{workdir}: no such folder; give the folder of a run, such as runs/quickstart")
    if not (workdir / "config.json").is_file():
        raise UserError(f"{workdir} is no run: it has no config.json; give the --workdir of a training run")
    series, unreadable_lines = _read_series(workdir / "metrics.jsonl")
    return Run(
        workdir=workdir,
        config=_read_json(workdir / "config.json"),
        environment=_read_json(workdir / "environment.json"),
        series=series,
        evaluations={path.stem: _read_evaluation(path) for path in sorted(workdir.glob("evaluations/*.json"))},
        summary=_read_json(workdir / "summary.json"),
        checkpoints=sorted(int(path.name) for path in workdir.glob("checkpoints/*") if path.name.isdecimal()),
        in_use=_in_use(workdir / "lock"),
        unreadable_lines=unreadable_lines,
    )


def is_number(value: Any) -> bool:
    """Whether a value read from JSON is a number; NaN and the infinities are."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} cannot be read: it holds a {type(value).__name__}, not an object")
    return value


def _read_series(path: Path) -> tuple[dict[str, Points], int]:
    """Returns the curves, and how many lines besides a half-written last one cannot be read."""
    by_step: dict[str, dict[int, float]] = {}
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    unreadable = 0
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
            step = int(line.pop("step"))
        except (ValueError, KeyError, TypeError, AttributeError):
            unreadable += number < len(lines)
            continue
        for name, value in line.items():
            if is_number(value):
                # A step that a resumed run took again replaces what the killed one wrote.
                by_step.setdefault(name, {})[step] = float(value)
    return {name: sorted(points.items()) for name, points in by_step.items()}, unreadable


def _read_evaluation(path: Path) -> Evaluation:
    value = _read_json(path)
    scalars: dict[str, Any] = value.get("scalars") or {}
    names: list[str] = value.get("class_names") or []
    confusion: list[list[int]] = (value.get("arrays") or {}).get("confusion") or []
    if not all(isinstance(row, list) and len(row) == len(confusion) for row in confusion):
        raise UserError(f"{path} cannot be read: its confusion matrix is not square")
    return Evaluation(
        step=int(value.get("step", 0)),
        scalars={metric: float(number) for metric, number in scalars.items() if is_number(number)},
        confusion=confusion,
        class_names=[str(names[i]) if i < len(names) else str(i) for i in range(len(confusion))],
    )


def _in_use(lock: Path) -> bool | None:
    """Whether a training process holds the lock; asked for shared and let go of at once, nothing is written."""
    try:
        with open(lock, "rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:
        return None
