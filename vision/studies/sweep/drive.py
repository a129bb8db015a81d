"""A sweep from its first to its last run: what can be trained together is, the rest has processes of its own."""

import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vision.config.loading import plain
from vision.errors import ConfigError, Stopped, TrainingFailed
from vision.studies.sweep import page, processes, text
from vision.studies.sweep.plan import Plan, Run, resolve_any
from vision.studies.sweep.record import Record, spread
from vision.studies.sweep.space import Setting
from vision.studies.sweep.together import NotTogether, Together, check_alone
from vision.studies.sweep.traced import static_part
from vision.training import workdir as folder
from vision.training.processes import start_jax


def sweep(plan: Plan, workdir: Path, *, jobs: int = 1, evaluate_test: bool = False) -> dict[str, Any]:
    """Runs a sweep in a folder, from wherever the folder has got to.

    Args:
      plan: what is tried.
      workdir: the folder; made if need be.
      jobs: processes at a time.
      evaluate_test: train the best setting on the whole training split and tell what the config's evals say of it.

    Returns:
      ``{"workdir": ..., "trials": ..., "failed": ..., "best": {...}, "command": ..., "test": ...}``.

    Raises:
      UserError: what was asked for cannot be done.
      TrainingFailed: no trial has a result.
      Stopped: a signal came; what was finished is kept.
    """
    with folder.locked(workdir):
        driver = _Driver(plan, workdir, jobs)
        try:
            return driver.go(evaluate_test)
        finally:
            if driver.record.content["trials"]:
                page.write(driver.record.content, plan, workdir)


class _Driver:
    """One call of :func:`sweep`."""

    def __init__(self, plan: Plan, workdir: Path, jobs: int):
        self._plan, self._workdir, self._jobs = plan, workdir, jobs
        self.record = Record(workdir, plan)
        self._done = 0
        self._told: set[str] = set()

    def go(self, evaluate_test: bool) -> dict[str, Any]:
        """Runs what is missing, and tells what was found."""
        began, content = time.monotonic(), self.record.content
        try:
            self._search()
            best = self._choose()
            if evaluate_test:
                self._test(best["number"], plain(best["params"]))
        except Stopped as stopped:
            raise Stopped(
                f"{stopped}; {self._done} runs of this start are kept in {self._workdir}; the same command goes on",
                signal_number=stopped.exit_code - 128,
            ) from stopped
        print(text.table(content, self._plan), file=sys.stderr)
        _say(f"{self._done} runs in {time.monotonic() - began:.1f} s; look at {self._workdir / page.FILE}")
        _say(f"best: {content['command']}")
        return {
            "workdir": str(self._workdir),
            "trials": len(content["trials"]),
            "failed": sum(trial["state"] == "failed" for trial in content["trials"]),
            "best": {key: best[key] for key in ("number", "params", "mean", "spread")},
            "command": content["command"],
            "test": content.get("test", {}).get("metrics"),
        }

    def _search(self) -> None:
        """Goes through the settings of the search from the first on; runs that are there are not made again."""
        search, number = self._plan.search(), 0
        settings = next(search)
        while True:
            numbered = list(enumerate(settings, start=number))
            for trial, setting in numbered:
                self.record.open_trial(trial, setting)
            self._run([run for trial, setting in numbered for run in self._plan.runs_of(trial, setting)])
            number += len(settings)
            try:
                settings = search.send(self.record.values([trial for trial, _ in numbered]))
            except StopIteration:
                return

    def _choose(self) -> dict[str, Any]:
        """Returns the best trial, and writes down the command that trains it."""
        content = self.record.content
        if content["best"] is None:
            raise TrainingFailed(f"no trial has a result; the first failed: {content['trials'][0]['error']}")
        best = content["trials"][content["best"]]
        command = self._plan.winner(plain(best["params"]), str(self._workdir / "best"))
        content |= {"complete": True, "command": command}
        self.record.write()
        return best

    def _test(self, trial: int, setting: Setting) -> None:
        """Trains the best setting on all training data; done once, it is only told again."""
        content = self.record.content
        content.setdefault("test", {"trial": trial, "runs": [], "metrics": None})
        self._run(self._plan.tests_of(trial, setting))
        rows = content["test"]["runs"]
        errors = [row["error"] for row in rows if "error" in row]
        if errors:
            raise TrainingFailed(f"the best setting failed on the whole training split: {errors[0]}")
        content["test"]["metrics"] = {
            f"{name}/{metric}": {"mean": statistics.fmean(values), "spread": spread(values)}
            for name in self._plan.config["evals"]
            for metric, values in _columns(row[name] for row in rows).items()
        }
        self.record.write()

    def _run(self, runs: Sequence[Run]) -> None:
        missing = [run for run in runs if run not in self.record]
        groups: dict[str, list[tuple[Run, dict[str, Any]]]] = {}
        alone: list[Run] = []
        for run in missing:
            try:
                config = self._plan.load(run)
                check_alone(config)
                config = resolve_any(config)
                groups.setdefault(static_part(config), []).append((run, config))
            except ConfigError as error:  # two values that do not go together fail one trial, not the sweep
                self._keep(run, str(error), "not begun")
            except NotTogether as reason:
                self._tell_once(f"a process for each run: {reason}")
                alone.append(run)
        for members in groups.values():
            alone += self._together(members)
        self._alone(alone)

    def _together(self, members: list[tuple[Run, dict[str, Any]]]) -> list[Run]:
        """Trains the runs of a group, or returns them where they have to be alone."""
        if len(members) == 1:
            return [members[0][0]]
        settings = {run.trial: config for run, config in members}
        seeds = sorted({run.seed for run, _ in members})
        _say(f"together: {len(members)} runs, {len(settings)} settings x {len(seeds)} seeds")
        try:
            start_jax()
            found = Together(members[0][1]).train(list(settings.values()), seeds, note=_say)
        except (NotTogether, ConfigError) as reason:  # a value that cannot be fails its own trial there
            self._tell_once(f"a process for each run: {reason}")
            return [run for run, _ in members]
        place = {trial: number for number, trial in enumerate(settings)}
        for run, _ in members:
            self._keep(run, found[place[run.trial]][seeds.index(run.seed)], "together")
        return []

    def _alone(self, runs: list[Run]) -> None:
        if not runs:
            return
        _say(f"{len(runs)} processes, {self._jobs} at a time")
        began, first = time.monotonic(), self._done

        def done(number: int, outcome: dict[str, Any] | str) -> None:
            self._keep(runs[number], outcome, "process")
            count = self._done - first
            left = (time.monotonic() - began) / count * (len(runs) - count)
            told = f"failed, {outcome}" if isinstance(outcome, str) else "done"
            _say(f"{runs[number].name}: {told}; {count} of {len(runs)}, {left:.0f} s left")

        commands = [[*self._plan.command(run, str(self._workdir / run.name)), "--json"] for run in runs]
        processes.run_all(commands, jobs=self._jobs, done=done)

    def _keep(self, run: Run, outcome: dict[str, Any] | str, how: str) -> None:
        self.record.add(run, outcome, how=how)
        self._done += 1

    def _tell_once(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            _say(line)


def _columns(rows: Any) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for row in rows:
        for metric, value in row.items():
            found.setdefault(metric, []).append(value)
    return found


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
