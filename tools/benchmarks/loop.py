"""What the loop adds to a train step: ``train`` as it is, against the bare compiled step, span by span in turn."""

import itertools
import time
from collections.abc import Mapping
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import Any

import jax

from tools.benchmarks.rows import QUICKSTART, ROOT, Row, Settings, say, seconds_of
from vision.config.loading import load
from vision.training.assemble import Experiment, assemble
from vision.training.loop import train
from vision.training.schema import resolve

OVERHEAD_AIM = 5.0
TARGET_SECONDS = 10e-3
_PREFETCHED = 50
_LINES_EVERY = 50
_FIRST_STEP = 100


class _Done(Exception):
    """Leaves a training whose spans have all been measured."""


def run(settings: Settings) -> list[Row]:
    """Measures a step of about 10 ms and the quickstart's own, each with 1 and with 100 steps a dispatch."""
    batch_size = 32 if settings.quick else calibrate(TARGET_SECONDS)
    large = {"model": {"name": "mlp/512-512"}, "batch_size": batch_size}
    rows: list[Row] = []
    for name, options, span in (
        (f"mlp/512-512, batch {batch_size}", large, 50),
        ("quickstart", {}, 50 if settings.quick else 500),
    ):
        for dispatch in (1, 100):
            # A dispatch of 100 needs 100 steps between two lines.
            lines_every = max(_LINES_EVERY, dispatch)
            steps = max(span, dispatch)
            config = config_of(options, dispatch=dispatch, lines_every=lines_every)
            repeats = settings.times(25)
            label = f"{name}, {dispatch} a dispatch"
            say(f"loop: {label}: {repeats} x {steps} steps, bare and in the loop")
            workdir = settings.scratch / "loop" / f"{len(rows)}"
            spans = Spans(config, workdir, span=steps, repeats=repeats)
            spans.measure()
            rows += _rows(label, spans, aim=OVERHEAD_AIM if options and dispatch == 1 else None)
    return rows


def _rows(label: str, spans: "Spans", aim: float | None) -> list[Row]:
    # Each span of the loop is compared with the bare spans before and after it: the machine may be slowing down.
    around = [(before + after) / 2 for before, after in itertools.pairwise(spans.bare)]
    percent = tuple(100 * (whole / bare - 1) for whole, bare in zip(spans.whole, around, strict=True))
    return [
        Row("loop", f"{label}: bare step", tuple(1e3 * each for each in spans.bare), "ms"),
        Row("loop", f"{label}: step in the loop", tuple(1e3 * each for each in spans.whole), "ms"),
        Row("loop", f"{label}: overhead", percent, "%", aim),
    ]


def config_of(options: Mapping[str, Any], *, dispatch: int, lines_every: int) -> dict[str, Any]:
    """Returns the quickstart without evaluations and saves in between, with other options."""
    config = load(str(ROOT / QUICKSTART))
    config |= {"evals": {}, "checkpoint": {}, "logging": {"every": {"steps": lines_every}}}
    config |= {"steps_per_dispatch": dispatch, "duration": {"steps": 10**7}}
    return config | dict(options)


def calibrate(target: float) -> int:
    """Returns the batch size, a multiple of 32, for which a step of mlp/512-512 takes about ``target`` seconds."""
    batch_size = 256
    for _ in range(4):
        options = {"model": {"name": "mlp/512-512"}, "batch_size": batch_size}
        bare = Bare(config_of(options, dispatch=1, lines_every=_LINES_EVERY), span=30)
        seconds = min(bare.seconds_per_step() for _ in range(3))
        if abs(seconds / target - 1) < 0.1:
            break
        batch_size = min(max(32, 32 * round(batch_size * target / seconds / 32)), 2**17)
    return batch_size


class Bare:
    """The compiled step of a config in a plain Python loop over batches that are on the device already."""

    def __init__(self, config: Mapping[str, Any], *, span: int):
        experiment: Experiment = assemble(resolve(config))
        dispatch = experiment.steps_per_dispatch
        pipeline, self.span, self._constants = experiment.pipeline, span, experiment.constants
        self._calls = span // dispatch
        self._step = experiment.steps if dispatch > 1 else experiment.step
        count = min(self._calls, _PREFETCHED)
        self._batches = [
            pipeline.stacked(k * dispatch, dispatch) if dispatch > 1 else pipeline.batch(k) for k in range(count)
        ]
        self._state = experiment.init(experiment.constants.keys.init)
        self._run()

    def seconds_per_step(self) -> float:
        """Runs one span, from an idle device to an idle device."""
        return seconds_of(self._run) / self.span

    def _run(self) -> None:
        step, state, constants = self._step, self._state, self._constants
        metrics = None
        for batch in itertools.islice(itertools.cycle(self._batches), self._calls):
            state, metrics = step(state, batch, constants)
        jax.block_until_ready((state, metrics))
        self._state = state


class Spans:
    """One training, in which bare spans and spans of the loop take turns.

    Both begin and end with an idle device. The hooks of ``train`` come when a step has been dispatched, so they
    wait for every array there is; the bare span runs inside the hook, and its time is not the loop's.

    Attributes:
      bare: seconds per step of each bare span, one more than those of the loop.
      whole: seconds per step of each span of the loop.
    """

    def __init__(self, config: Mapping[str, Any], workdir: Path, *, span: int, repeats: int):
        self.bare: list[float] = []
        self.whole: list[float] = []
        self._config, self._workdir, self._span, self._repeats = config, workdir, span, repeats
        self._began = 0.0

    def measure(self) -> None:
        """Trains, and leaves after the last span. What the loop prints goes to a file, as plain lines."""
        self._plain = Bare(self._config, span=self._span)
        ends = {_FIRST_STEP + self._span * (index + 1): self._end for index in range(self._repeats)}
        self._workdir.mkdir(parents=True)
        with open(self._workdir / "progress.txt", "w") as progress, redirect_stderr(progress), suppress(_Done):
            train(self._config, self._workdir, at_step={_FIRST_STEP: self._begin, **ends})

    def _begin(self) -> None:
        jax.block_until_ready(jax.live_arrays())
        self.bare.append(self._plain.seconds_per_step())
        self._began = time.perf_counter()

    def _end(self) -> None:
        jax.block_until_ready(jax.live_arrays())
        self.whole.append((time.perf_counter() - self._began) / self._span)
        self._begin()
        if len(self.whole) == self._repeats:
            raise _Done
