"""The loop: dispatch steps, fetch metrics one dispatch late, evaluate, save, stop when asked."""

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from vision.config.loading import plain
from vision.data.sources import Given
from vision.errors import ConfigError, Stopped, TrainingFailed, UserError, did_you_mean
from vision.training import workdir as folder
from vision.training.assemble import Experiment, assemble
from vision.training.banner import greeting, memory_of
from vision.training.checkpoint import Checkpoints
from vision.training.early_stopping import Patience
from vision.training.evaluators import make_evaluators
from vision.training.gauges import Gauges
from vision.training.interrupt import Interrupt
from vision.training.kept_tokenizer import FILE as TOKENIZER
from vision.training.kept_tokenizer import kept_tokenizer
from vision.training.logging import RunLog
from vision.training.meter import Meter
from vision.training.processes import check_same, start_jax, together
from vision.training.profile import Tracer, Window
from vision.training.schema import resolve
from vision.training.sharding import describe
from vision.training.start import where_to_start
from vision.training.stopping import Stopping, TimeBudget

AtStep = Mapping[int, Callable[[], None]]


def train(
    config: ConfigDict | Mapping[str, Any],
    workdir: str | Path,
    *,
    sources: Given | None = None,
    at_step: AtStep | None = None,
    budget: TimeBudget | None = None,
    profile: Window | None = None,
) -> dict[str, Any]:
    """Trains what a config describes in a folder, from wherever the folder has got to.

    Args:
      config: a ConfigDict or nested dict; its keys are those of :mod:`vision.training.schema`.
      workdir: the run's folder; made if need be.
      sources: split -> source or arrays in memory, for ``config.data.name = "arrays"``.
      at_step: what to call when so many steps are done, once they have been dispatched.
      budget: the time that it may take; None does not limit it.
      profile: steps whose trace is written into the folder, see :mod:`vision.training.profile`.

    Returns:
      ``{"workdir": ..., "step": ..., "steps": ..., "<eval>": {"<metric>": ...}}``. With ``config.early_stopping``
      ``step`` is that of the best state, which the newest checkpoint holds and the evaluations are of, and
      ``stopped_at`` is where training ended.

    Raises:
      UserError: what was asked for cannot be done.
      TrainingFailed: a loss was not finite.
      Stopped: a signal came or, as Preempted, the time is nearly over; the state is saved.
    """
    resolved = resolve(plain(config))
    path = Path(workdir)
    start_jax()
    first = jax.process_index() == 0
    with ExitStack() as stack:
        if first:
            # Entered first and so left last: once the lock is free, the page can say that the run has stopped.
            stack.push(partial(_report_stopped, path))
        with together():
            if first:
                stack.enter_context(folder.locked(path))
        with together():
            experiment = assemble(resolved, given=sources, tokenizer=kept_tokenizer(resolved, path))
        stack.callback(experiment.pipeline.close)
        check_same(experiment.source.fingerprint, "training data")
        run = _Run(experiment, path, at_step or {}, budget or TimeBudget(None), profile)
        stack.callback(run.checkpoints.close)
        return run.go()


def _report_stopped(path: Path, kind: type[BaseException] | None, *_: object) -> None:
    if kind is not None and issubclass(kind, Stopped | TrainingFailed):
        with suppress(UserError):  # why the run stopped is what counts
            _report(path)


def _report(path: Path) -> None:
    from vision.analysis import report  # matplotlib is not needed before the end

    report.write(path)


class _Run:
    """One call of :func:`train`: what it is made of, and where it has got to."""

    def __init__(self, experiment: Experiment, path: Path, at_step: AtStep, budget: TimeBudget, profile: Window | None):
        config, section = experiment.config, experiment.config["checkpoint"]
        self.experiment, self.path, self.first = experiment, path, jax.process_index() == 0
        self.total = experiment.total_steps
        best = section["best"]
        self.checkpoints = Checkpoints(
            path / "checkpoints", keep=section["keep"], best=best, best_mode=section["best_mode"]
        )
        with together():
            if self.first:
                folder.claim(path, config, started=self.checkpoints.started())
        self.environment = folder.environment(describe(experiment.mesh), experiment.source.fingerprint)
        with together():
            self.evaluators = make_evaluators(experiment)
        known = [f"{name}/{metric}" for name, each in self.evaluators.items() for metric in each.metrics]
        self.early = config["early_stopping"]
        if best and best not in known:
            key = "early_stopping.metric" if self.early else "checkpoint.best"
            raise ConfigError(f"config.{key}: no metric {best!r}{did_you_mean(best, known)}; known: {', '.join(known)}")
        self.log_every = experiment.steps_of(config["logging"]["every"], "config.logging.every")
        self.save_every = experiment.steps_of(section["every"], "config.checkpoint.every")
        self.eval_every = {
            name: experiment.steps_of(each["every"], f"config.evals.{name}.every")
            for name, each in config["evals"].items()
        }
        self.at_step, self.budget, self.saving_since = at_step, budget, 0.0
        self.per_dispatch = min([experiment.steps_per_dispatch, self.total, *self._periods()])
        self.results: dict[str, dict[str, float]] = {}
        self.warnings: dict[str, int] = {}  # what is wrong now, and since which line
        self.in_flight: list[Any] = []
        self.tracer = Tracer(profile, path, lambda text: self.log.note(text))
        self.gauges = Gauges(experiment)
        self.tokenizer = experiment.inputs.tokenizer

    def go(self) -> dict[str, Any]:
        start = where_to_start(self.experiment, self.checkpoints, self.environment, self._say)
        self.state, self.step = start.state, start.step
        complete = self._complete()
        if complete:
            return complete
        self.tracer.check(self.step, self.total, self._say)
        saved = self.checkpoints.metadata(self.step) if self.step in self.checkpoints.steps() else {}
        self.patience = Patience.read(saved.get("early_stopping"))
        config = self.experiment.config
        self.meter = Meter(start.window, step=self.step, batch_size=config["batch_size"])
        options = {key: config["logging"][key] for key in ("tensorboard", "wandb", "progress")}
        self.log = RunLog(
            self.path, active=self.first, start_step=self.step, total_steps=self.total, config=config, **options
        )
        try:
            if self.first:
                folder.write_json(self.path / "environment.json", self.environment)
                if self.tokenizer is not None:
                    folder.write_text(self.path / TOKENIZER, self.tokenizer.to_json())
            about: dict[str, Any] = {"reason": start.reason, "path": self.path, "step": self.step}
            for line in greeting(self.experiment, per_dispatch=self.per_dispatch, **about):
                self.log.note(line)
            self.checkpoints.warm_up(self.state)
            if not self.step:
                self._evaluate([name for name, each in config["evals"].items() if each["at_start"]])
            self.budget.expect_save(sum(leaf.nbytes for leaf in jax.tree.leaves(self.state)))
            with Interrupt(warnings=True) as interrupt:
                stopping = Stopping(interrupt, self.budget)
                while self.step < self.total and not self.patience.ended(self.early):
                    began = time.monotonic()
                    self._dispatch()
                    stepped = time.monotonic()
                    self._write()
                    self._events()
                    self.at_step.get(self.step, lambda: None)()
                    self.budget.saw(stepped - began, time.monotonic() - stepped)
                    self._stop_if_asked(stopping)
                return self._finish()
        except TrainingFailed as error:
            cure = "try a lower config.optimizer.learning_rate, or pass over such steps with config.on_nonfinite=skip"
            raise TrainingFailed(f"{error}; {self._last_good()}; {cure}") from error
        finally:
            self.tracer.close()
            self.log.close()

    def _complete(self) -> dict[str, Any] | None:
        """Returns the summary of a run that has nothing left to do, and says so."""
        summary = self.path / "summary.json"
        done = folder.read_json(summary) if summary.exists() else {}
        if not done or (self.step < self.total and self.step != done.get("step")):
            return None
        trained = f"has all its {self.total} steps"
        if done.get("stopped_at", self.total) < self.total:
            trained = f"stopped early at step {done['stopped_at']} of {self.total}, its best is step {self.step}"
        self._say(f"complete: {self.path} {trained}; another --workdir trains anew")
        return done

    def _dispatch(self) -> None:
        """Runs the next step, or the next several in one call if nothing else happens between them."""
        experiment, count = self.experiment, self.per_dispatch
        self.tracer.at(self.step, self.in_flight)
        stage = experiment.stage_at(self.step)
        if stage.first == self.step > 0:
            self.log.note(f"step {self.step}  from here on {experiment.describe(stage) or 'everything as configured'}")
        times = [(self.step // period + 1) * period for period in self._periods()]
        times += [other.first for other in experiment.stages if other.first > self.step]
        next_event = min(
            [self.total, *times, *(step for step in (*self.at_step, *self.tracer.boundaries) if step > self.step)]
        )
        if count > 1 and next_event - self.step >= count:
            program, batch = stage.steps, experiment.pipeline.stacked(self.step, count)
        else:
            program, count, batch = stage.step, 1, experiment.pipeline.batch(self.step)
        self.state, metrics = program(self.state, batch, experiment.constants)
        if not self.in_flight:  # the first dispatch
            self.log.note(memory_of(program, self.state, batch, experiment.constants))
        self.meter.add(self.step, metrics)
        self.step += count
        # Two dispatches keep a device busy; more would only hold memory, and delay errors and Ctrl-C.
        self.in_flight = [*self.in_flight[-1:], metrics["loss"]]
        jax.block_until_ready(self.in_flight[0])

    def _periods(self) -> list[int]:
        return [period for period in (self.log_every, self.save_every, *self.eval_every.values()) if period]

    def _events(self) -> None:
        """Does what is due after this step. A line of metrics alone waits for the next dispatch."""
        if self._due(self.log_every) or self.step == self.total:
            self.meter.end_line(self.step)
        if self.step == self.total:
            return
        self._evaluate([name for name, period in self.eval_every.items() if self._due(period)])
        self._rank()
        if self.patience.ended(self.early) and not self._due(self.log_every):
            self.meter.end_line(self.step)
        if self._due(self.save_every) or self._ranked():
            self._save()

    def _agree(self) -> None:
        """Stops all processes where one of them could not decode what it was to bring; see ``Pipeline.failures``."""
        if jax.process_count() > 1:
            with together():
                if self.experiment.inputs.failures:
                    raise UserError(self.experiment.inputs.failures[0])

    def _due(self, period: int | None) -> bool:
        return period is not None and self.step % period == 0

    def _ranked(self) -> bool:
        """Whether the metric that ranks checkpoints belongs to this very step."""
        best = self.experiment.config["checkpoint"]["best"]
        return bool(best) and (self.step == self.total or self._due(self.eval_every[best.split("/")[0]]))

    def _rank(self) -> None:
        """Counts an evaluation of this very step towards stopping early."""
        if self.early is not None and self._ranked():
            self.patience = self.patience.after(self.step, self._metrics()[self.early["metric"]], self.early)

    def _write(self) -> None:
        for line in self.meter.lines():
            self.log.scalars(line.step, line.values | self.gauges.of(line.step, line.values))
            warning = self.experiment.objective.warn(
                {name.removeprefix("train/"): value for name, value in line.values.items()}
            )
            if warning and warning not in self.warnings:
                self.log.note(f"step {line.step}  warning: {warning}")
            self.warnings = {warning: self.warnings.get(warning, line.step)} if warning else {}
            self.log.advance(line.step, line.values, force=line.step == self.total)

    def _evaluate(self, names: list[str]) -> None:
        if not names:
            return
        self._write()
        began = time.monotonic()
        for name in names:
            values = dict(self.evaluators[name].run(self.state))
            self._agree()
            scalars = {metric: value for metric, value in values.items() if not isinstance(value, np.ndarray)}
            arrays = {metric: np.asarray(value).tolist() for metric, value in values.items() if metric not in scalars}
            self.results[name] = scalars
            self.log.scalars(self.step, {f"{name}/{metric}": value for metric, value in scalars.items()})
            shown = "  ".join(f"{metric} {value:.4f}" for metric, value in scalars.items())
            self.log.note(f"step {self.step}  {name}: {shown}")
            if self.first:
                (self.path / "evaluations").mkdir(exist_ok=True)
                class_names = list(self.evaluators[name].class_names)
                whole = {"step": self.step, "scalars": scalars, "arrays": arrays, "class_names": class_names}
                folder.write_json(self.path / "evaluations" / f"{name}.json", whole)
        self.meter.leave_out(time.monotonic() - began)

    def _metrics(self) -> dict[str, float]:
        return {f"{name}/{metric}": value for name, values in self.results.items() for metric, value in values.items()}

    def _save(self) -> None:
        """Saves the state, once its losses are known to be finite, with the sums of the line that is still open."""
        self._agree()
        self._write()
        metadata = {
            "step": self.step,
            "config": folder.as_json(self.experiment.config),
            "environment": self.environment,
            "window": self.meter.open_window(),
            "early_stopping": self.patience.record() if self.early else None,
            "num_classes": getattr(self.experiment.model.module, "num_classes", 0),
            "image_shape": self.experiment.model.image_shape,
            "class_names": list(self.experiment.source.class_names),
        }
        if self.tokenizer is not None:
            metadata["tokenizer"] = self.tokenizer.to_json()
        self.saving_since = time.monotonic()
        self.checkpoints.save(self.step, self.state, metadata, self._metrics() if self._ranked() else None)

    def _stop_if_asked(self, stopping: Stopping) -> None:
        if self.step == self.total or not stopping.due(self.step):
            return
        self._agree()
        if self.saving_since and not self.checkpoints.saving():
            self.budget.saw_save(time.monotonic() - self.saving_since)
            self.saving_since = 0.0
        periods = [period for period in (self.save_every, *self.eval_every.values()) if period]
        next_event = min([self.total, *((self.step // period + 1) * period for period in periods)])
        why = stopping.asked(self.step, self.total, str(self.path), next_event=next_event)
        if why is None:
            return
        if self.step not in self.checkpoints.steps():
            self._save()
        self.checkpoints.wait()
        raise why

    def _finish(self) -> dict[str, Any]:
        """Saves and evaluates; where an evaluation ranks the checkpoint it must come first."""
        self.tracer.at(self.step, self.in_flight)
        self._write()
        stopped_at = self.step
        if self.step == self.total:
            if not self._ranked() and self.step not in self.checkpoints.steps():
                self._save()
            self._evaluate(list(self.evaluators))
            self._rank()
            if self.step not in self.checkpoints.steps():
                self._save()
        self.checkpoints.wait()
        result = {"workdir": str(self.path), "step": self.step, "steps": self.total}
        if self.early is not None:
            self._back_to_the_best()
            result |= {"step": self.step, "stopped_at": stopped_at}
        result |= self.results
        if self.warnings:
            result["warnings"] = [f"since step {step}: {text}" for text, step in self.warnings.items()]
        if self.first:
            folder.write_json(self.path / "summary.json", {**result, "complete": True})
            _report(self.path)
        self.log.note(
            f"done: {self.step} steps, {'; '.join(_readable(name, values) for name, values in self.results.items())}\n"
            f"  run       {self.path}  (look at {self.path / 'report.html'})\n"
            f"  resume    the same command; it says that the run is complete, or goes on where it stopped\n"
            f"  evaluate  python -m experiments.evaluate --workdir {self.path}\n"
            f"  compare   python -m tools.report {self.path} OTHER_RUN"
        )
        return result

    def _back_to_the_best(self) -> None:
        """Makes the best state the one that is evaluated and the newest on disk."""
        last, best = self.step, self.patience.best_step
        if best != last:
            self.state, _ = self.checkpoints.restore(self.experiment.abstract_state, best)
        self.step = best
        ended = f"stopped early at step {last}" if last < self.total else f"trained all {last} steps"
        self.log.note(f"{ended}; the best {self.early['metric']}, {self.patience.best:.4f}, is that of step {best}")
        if best != last or last < self.total:
            self._evaluate(list(self.evaluators))
        self.checkpoints.drop_after(best)

    def _last_good(self) -> str:
        self.checkpoints.wait()
        steps = self.checkpoints.steps()
        return (
            f"the last good checkpoint is step {steps[-1]} in {self.path}" if steps else "no checkpoint was saved yet"
        )

    def _say(self, text: str) -> None:
        if self.first:
            print(text, file=sys.stderr, flush=True)


def _readable(name: str, values: Mapping[str, float]) -> str:
    return f"{name} " + ", ".join(f"{metric} {value:.4f}" for metric, value in values.items())
