"""A sweep that is checked before anything runs: its sections, and the config that each of its runs has."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vision.config.calling import call, fill, fill_named
from vision.config.loading import load
from vision.errors import ConfigError
from vision.studies.sweep.folds import Fold, folds_of, is_test
from vision.studies.sweep.search import SEARCHES, Search
from vision.studies.sweep.space import Parameter, Setting, probes, space_of
from vision.training.early_stopping import Mode, mode_of

Section = Mapping[str, Any]
EVAL = "validation"


def sweep(
    *,
    parameters: tuple[Section, ...],
    validation: Section,
    metric: str = "accuracy",
    mode: Mode | None = None,
    search: Section = {"name": "grid"},  # noqa: B006 (read only)
    seeds: int = 1,
) -> None:
    """The top level of a sweep file.

    Args:
      parameters: what is varied, see :func:`vision.studies.sweep.space.parameter`.
      validation: what settings are compared on, see :func:`vision.studies.sweep.folds.validation`.
      metric: of the validation, by whose mean over folds and seeds settings are ranked.
      mode: whether more or less of it is better; None takes less of what ends in loss or error.
      search: ``name`` of one of :data:`vision.studies.sweep.search.SEARCHES`, and its options.
      seeds: runs of each setting on each fold: the config's seed and those after it.
    """


@dataclass(frozen=True)
class Run:
    """One training of a sweep.

    Attributes:
      trial: number of its setting.
      setting: what it has in place of the config's own values.
      seed: its seed.
      fold: number of its fold; None for the final test on the whole training split.
      overrides: ``--config.key=value`` of all that, after those of the person.
    """

    trial: int
    setting: Setting
    seed: int
    fold: int | None
    overrides: tuple[str, ...]

    @property
    def name(self) -> str:
        """Where it is kept below the sweep's folder."""
        if self.fold is None:
            return f"best/seed{self.seed}"
        return f"trials/{self.trial:03}/fold{self.fold}-seed{self.seed}"


@dataclass(frozen=True)
class Plan:
    """A sweep over a config.

    Attributes:
      spec: the config file.
      overrides: of the person, ``--config.key=value``.
      config: the config file's, with these, not resolved.
      section: the sweep file's, complete.
      space: what is varied.
      folds: what it is compared on.
      mode: whether more or less of the metric is better.
    """

    spec: str
    overrides: tuple[str, ...]
    config: dict[str, Any]
    section: dict[str, Any]
    space: tuple[Parameter, ...]
    folds: tuple[Fold, ...]
    mode: Mode

    @property
    def seeds(self) -> list[int]:
        """The seeds of each setting."""
        first = self.config.get("seed", 0)
        return list(range(first, first + self.section["seeds"]))

    def search(self) -> Search:
        """Returns the search at its beginning."""
        section = self.section["search"]
        return call(SEARCHES[section["name"]], section, "sweep.search", space=self.space, mode=self.mode)

    def runs_of(self, trial: int, setting: Setting) -> list[Run]:
        """Returns the runs of one setting: every seed on every fold."""
        return [self._run(trial, setting, seed, fold) for fold in range(len(self.folds)) for seed in self.seeds]

    def tests_of(self, trial: int, setting: Setting) -> list[Run]:
        """Returns the runs that tell what a chosen setting is worth: on the whole training split, with all evals.

        Raises:
          ConfigError: there is no eval, or one of them decides when training stops.
        """
        evals = self.config.get("evals", {})
        metric = (self.config.get("early_stopping") or {}).get("metric", "")
        eval_of = metric.split("/")[0]
        if eval_of in evals and is_test(eval_of, evals[eval_of]):
            raise ConfigError(
                f"config.early_stopping.metric: {metric!r} would stop the final training by its test; "
                "give the metric of an eval on a part of the training split"
            )
        return [self._run(trial, setting, seed, None) for seed in self.seeds]

    def load(self, run: Run) -> dict[str, Any]:
        """Returns a run's config, not resolved: that of :meth:`command`."""
        return load(self.spec, run.overrides)

    def command(self, run: Run, workdir: str) -> list[str]:
        """Returns the arguments of Python that train a run."""
        return ["-m", "experiments.train", "--config", self.spec, *run.overrides, "--workdir", workdir]

    def winner(self, setting: Setting, workdir: str) -> str:
        """Returns the command that trains with a setting on the whole training split."""
        words = ["--config", self.spec, *self.overrides, *_written(setting), "--workdir", workdir]
        return f"python -m experiments.train {' '.join(map(shlex.quote, words))}"

    def _run(self, trial: int, setting: Setting, seed: int, fold: int | None) -> Run:
        own = [*_written(setting), f"--config.seed={seed}"]
        if fold is not None:
            own += _on_fold(self.config, self.folds[fold])
        return Run(trial, setting, seed, fold, (*self.overrides, *own))


def make_plan(spec: str, overrides: Sequence[str], sweep_spec: str) -> Plan:
    """Reads a config and a sweep file, and holds the one against the other.

    Raises:
      ConfigError: a file or a section is wrong, the config does not take a key or a value of the sweep, or settings
        would be compared on test data.
    """
    config = load(spec, overrides)
    resolve_any(config)
    try:
        section = fill(sweep, load(sweep_spec), "sweep")
    except ConfigError as error:
        raise ConfigError(str(error).replace("--config", "--sweep", 1)) from error
    section["search"] = fill_named(
        SEARCHES, section["search"], "sweep.search", kind="search", provided=("space", "mode")
    )
    if section["seeds"] < 1:
        raise ConfigError(f"sweep.seeds: must be >= 1, got {section['seeds']}")
    space = space_of(section["parameters"], "sweep.parameters")
    if not config.get("evals"):
        raise ConfigError("config.evals: empty; a sweep compares settings by the first of them, on other data")
    folds = folds_of(section["validation"], config, "sweep.validation")
    plan = Plan(spec, tuple(overrides), config, section, space, folds, mode_of(section["metric"], section["mode"]))
    plan.search()  # its options
    for setting in probes(space):
        resolve_any(plan.load(plan.runs_of(0, setting)[0]))
    return plan


def resolve_any(config: Section) -> dict[str, Any]:
    """Returns a config of either kind, of a training or of a fitted estimator, complete with every default."""
    if "estimator" in config:
        from vision.training import fit_schema

        return fit_schema.resolve(config)
    from vision.training import schema

    return schema.resolve(config)


def _on_fold(config: Section, fold: Fold) -> list[str]:
    """The first eval, on the validation data, takes the place of all; what ranks by it ranks by them."""
    (_, first), *_ = config["evals"].items()
    section = {**first, "split": fold.validation}
    overrides = []
    watched = [(key, name) for key, name in (("checkpoint", "best"), ("early_stopping", "metric")) if config.get(key)]
    for key, name in watched:
        metric = config[key].get(name)
        if metric is not None:
            overrides.append(_assign(f"{key}.{name}", f"{EVAL}/{metric.split('/', 1)[-1]}"))
    if not overrides:
        section.pop("every", None)
    return [_assign("data.split", fold.train), _assign("evals", {EVAL: section}), *overrides]


def _written(setting: Setting) -> list[str]:
    return [_assign(key, value) for key, value in setting.items()]


def _assign(key: str, value: Any) -> str:
    return f"--config.{key}={value!r}"
