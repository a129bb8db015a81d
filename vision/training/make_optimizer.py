"""From the optimizer's section of a config to the optimizer, its learning rate and its rules per parameter."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import optax

from vision.config.calling import call
from vision.config.duration import Duration
from vision.errors import ConfigError
from vision.training.freezing import Until, as_rules
from vision.training.optimizers import OPTIMIZERS
from vision.training.ruled import CLIPS, with_rules
from vision.training.rules import Rule, check_pattern, check_rules, layerwise_rules, paths_of, rules_in_steps
from vision.training.schedules import SCHEDULES, with_warmup
from vision.training.schema import optimizer_section, own

PyTree = Any
Config = Mapping[str, Any]
InSteps = Callable[[Duration, str], int]


def make_schedule(section: Config, total: int, in_steps: Any) -> optax.Schedule:
    """Returns the learning rate as a function of the step; a warm-up takes its share of the total."""
    warmup = in_steps(section["warmup"], "config.optimizer.warmup") if section["warmup"] is not None else 0
    if warmup > total:
        raise ConfigError(f"config.optimizer.warmup: {warmup} steps are more than the {total} of the training")
    path = "config.optimizer.schedule"
    main = _schedule(section["schedule"], path, section["learning_rate"], total - warmup, in_steps)
    return with_warmup(main, peak=section["learning_rate"], warmup_steps=warmup)


def _schedule(section: Config, path: str, peak: float, total: int, in_steps: InSteps) -> optax.Schedule:
    steps = lambda duration, key: in_steps(duration, f"{path}.{key}")  # noqa: E731
    return call(SCHEDULES[section["name"]], section, path, peak=peak, total=total, steps=steps)


def make_rules(section: Config, params: PyTree, in_steps: InSteps) -> list[Rule]:
    """Returns the rules per parameter of ``config.optimizer``, durations in steps.

    Raises:
      ConfigError: a layer of ``layerwise_decay`` that cannot be.
    """
    path = "config.optimizer"
    rules = rules_in_steps(section["rules"], lambda duration, key: in_steps(duration, f"{path}.rules{key}"))
    check_rules(rules, params, f"{path}.rules")
    if section["layerwise_decay"] is not None:
        rules += layerwise_rules(section["layerwise_decay"], params, f"{path}.layerwise_decay")
    return rules


def make_optimizer(
    section: Config,
    schedule: optax.Schedule,
    params: PyTree,
    *,
    total_steps: int,
    in_steps: InSteps,
    frozen: Until = MappingProxyType({}),
) -> optax.GradientTransformation:
    """Returns the optimizer with its rules per parameter.

    Args:
      section: ``config.optimizer``, resolved.
      schedule: learning rate of a step.
      params: the parameters, or their shapes.
      total_steps: of the training.
      in_steps: ``(duration, its place in the config)`` in steps.
      frozen: the step from which each frozen parameter is trained.

    Raises:
      ConfigError: a rule or a value that cannot be.
    """
    path = "config.optimizer"
    for position, pattern in enumerate(section.get("exclude", ())):
        check_pattern(pattern, paths_of(params), f"{path}.exclude[{position}]")
    decay_at = None
    if section["weight_decay_schedule"] is not None:
        where = f"{path}.weight_decay_schedule"
        decay_at = _schedule(section["weight_decay_schedule"], where, section["weight_decay"], total_steps, in_steps)

    def update(decay: optax.GradientTransformation, steps: int = total_steps) -> optax.GradientTransformation:
        rate = schedule if steps == total_steps else lambda count: schedule(count * (total_steps / steps))
        return call(OPTIMIZERS[section["name"]], own(section, optimizer_section), path, rate=rate, decay=decay)

    return with_rules(
        update,
        params,
        weight_decay=section["weight_decay"],
        rules=[*as_rules(frozen), *make_rules(section, params, in_steps)],
        where=path,
        clips={name: section[name] for name in CLIPS},
        decay_at=decay_at,
        within=update,
    )
