"""What a sweep has found so far: ``sweep.json``, written whole after every run that ends."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vision.config.loading import flatten
from vision.errors import ConfigError, UserError, did_you_mean
from vision.studies.sweep.plan import EVAL, Plan, Run
from vision.studies.sweep.space import Setting
from vision.training import workdir as folder

FILE = "sweep.json"
Row = dict[str, Any]


class Record:
    """The trials of a sweep, each with its setting, its runs, and their mean and spread."""

    def __init__(self, workdir: Path, plan: Plan):
        """Takes up what the folder holds.

        Raises:
          UserError: the folder belongs to another sweep, or is broken.
        """
        self._path, self._plan = workdir / FILE, plan
        head = {
            "config_file": plan.spec,
            "overrides": list(plan.overrides),
            "config": plan.config,
            "sweep": plan.section,
        }
        self.content: dict[str, Any] = {**folder.as_json(head), "trials": [], "best": None, "complete": False}
        if self._path.exists():
            found = folder.read_json(self._path)
            _check_same(found, self.content, workdir)
            self.content = found

    def __contains__(self, run: Run) -> bool:
        return self._find(run) is not None

    def open_trial(self, trial: int, setting: Setting) -> None:
        """Makes room for a trial.

        Raises:
          UserError: the folder holds another setting under this number, which another version of a library drew.
        """
        trials, wanted = self.content["trials"], folder.as_json(setting)
        if trial < len(trials) and trials[trial]["params"] != wanted:
            raise UserError(
                f"{self._path}: trial {trial} has {trials[trial]['params']}, the search now draws {wanted}; "
                "choose another --workdir"
            )
        if trial == len(trials):
            trials.append({"number": trial, "params": wanted, "state": "under way", "runs": []})

    def add(self, run: Run, outcome: Mapping[str, Mapping[str, float]] | str, *, how: str) -> None:
        """Keeps the metrics of a run, or why it has none, and writes the file.

        Raises:
          ConfigError: the metric of the sweep is not among them.
        """
        row: Row = {"seed": run.seed, "fold": run.fold, "how": how}
        if isinstance(outcome, str):
            row["error"] = outcome
        else:
            row |= {name: dict(values) for name, values in outcome.items() if isinstance(values, Mapping)}
            if run.fold is not None:
                row |= self._checked(row[EVAL])
        runs = self._runs(run)
        runs.append(row)
        runs.sort(key=lambda each: (each["fold"] or 0, each["seed"]))
        self._summarize()
        self.write()

    def values(self, trials: Sequence[int]) -> list[float | None]:
        """Returns the mean metric of each trial, None where one of its runs failed."""
        return [self.content["trials"][trial].get("mean") for trial in trials]

    def write(self) -> None:
        """Writes the file."""
        folder.write_json(self._path, self.content)

    def _checked(self, metrics: Mapping[str, float]) -> Row:
        metric = self._plan.section["metric"]
        if metric not in metrics:
            raise ConfigError(
                f"sweep.metric: no metric {metric!r}{did_you_mean(metric, metrics)}; known: {', '.join(metrics)}"
            )
        return {} if math.isfinite(metrics[metric]) else {"error": f"{metric} is {metrics[metric]}"}

    def _runs(self, run: Run) -> list[Row]:
        if run.fold is None:
            return self.content["test"]["runs"]
        return self.content["trials"][run.trial]["runs"]

    def _find(self, run: Run) -> Row | None:
        where = (run.seed, run.fold)
        return next((row for row in self._runs(run) if (row["seed"], row["fold"]) == where), None)

    def _summarize(self) -> None:
        plan, metric = self._plan, self._plan.section["metric"]
        for trial in self.content["trials"]:
            runs = trial["runs"]
            errors = [row["error"] for row in runs if "error" in row]
            found = [row[EVAL][metric] for row in runs if "error" not in row]
            trial["state"] = "under way" if len(runs) < len(plan.folds) * len(plan.seeds) else "complete"
            if errors:
                trial |= {"state": "failed", "error": errors[0]}
            elif trial["state"] == "complete":
                trial |= {"mean": statistics.fmean(found), "spread": spread(found)}
        sign = 1.0 if plan.mode == "max" else -1.0
        ranked = sorted(
            (trial for trial in self.content["trials"] if trial["state"] == "complete"),
            key=lambda trial: (-sign * trial["mean"], trial["number"]),
        )
        self.content["best"] = ranked[0]["number"] if ranked else None


def spread(values: Sequence[float]) -> float | None:
    """Returns the sample standard deviation; None of fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else None


def _check_same(found: Mapping[str, Any], wanted: Mapping[str, Any], workdir: Path) -> None:
    for name in ("config", "sweep"):
        there, here = (flatten({name: json.loads(json.dumps(each.get(name)))}) for each in (found, wanted))
        keys = [key for key in sorted({*there, *here}) if there.get(key) != here.get(key)]
        if keys:
            shown = "; ".join(f"{key}: {there.get(key)!r} there, {here.get(key)!r} here" for key in keys[:3])
            raise UserError(f"--workdir {workdir} belongs to another sweep ({shown}); choose another --workdir")
