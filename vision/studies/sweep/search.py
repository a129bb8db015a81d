"""Which settings are tried: each search yields settings in batches and is sent back their values.

A search draws from its seed alone, and from the values that it is sent: started again and sent the same values, it
yields the same settings, which is how a sweep goes on.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np

from vision.studies.sweep.space import Parameter, Setting, product, sample
from vision.training.early_stopping import Mode

Values = Sequence[float | None]
Search = Generator[list[Setting], Values, None]


def grid(space: Sequence[Parameter], mode: Mode) -> Search:
    """Every combination of the values.

    Raises:
      ValueError: a parameter is a range.
    """
    return _at_once(product(space))


def random(space: Sequence[Parameter], mode: Mode, *, trials: int, seed: int = 0) -> Search:
    """So many settings, drawn independently (Bergstra and Bengio 2012).

    Raises:
      ValueError: ``trials`` below 1.
    """
    _check(trials=trials)
    generator = np.random.default_rng(seed)
    return _at_once([sample(space, generator) for _ in range(trials)])


def bayesian(space: Sequence[Parameter], mode: Mode, *, trials: int, seed: int = 0, at_once: int = 1) -> Search:
    """So many settings, each where the ones before promise most: Optuna's tree of Parzen estimators.

    Bergstra et al. 2011, section 4. The first ten are drawn at random. ``at_once`` settings are asked for before
    any of their values is known, so that these can be trained together; those that are still out count as bad.

    Raises:
      ValueError: ``trials`` or ``at_once`` below 1.
    """
    _check(trials=trials, at_once=at_once)
    return _asked(space, mode, trials, seed, at_once)


SEARCHES: dict[str, Callable[..., Search]] = {"grid": grid, "random": random, "bayesian": bayesian}


def _at_once(settings: list[Setting]) -> Search:
    yield settings


def _asked(space: Sequence[Parameter], mode: Mode, trials: int, seed: int, at_once: int) -> Search:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=at_once > 1)
    study = optuna.create_study(direction="maximize" if mode == "max" else "minimize", sampler=sampler)
    distributions = {each.key: _distribution(each) for each in space}
    for start in range(0, trials, at_once):
        asked = [study.ask(distributions) for _ in range(min(at_once, trials - start))]
        values = yield [{each.key: _value(each, trial.params[each.key]) for each in space} for trial in asked]
        for trial, value in zip(asked, values, strict=True):
            if value is None:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, value)


def _distribution(each: Parameter) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if each.kind == "values":
        return CategoricalDistribution(tuple(range(len(each.options))))  # by place: a value may be a whole section
    if each.kind == "integers":
        return IntDistribution(*each.options)
    low, high = each.options
    return FloatDistribution(low, high, log=each.kind == "log_uniform")


def _value(each: Parameter, drawn: Any) -> Any:
    return each.options[drawn] if each.kind == "values" else drawn


def _check(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}")
