"""What of a config can differ between runs of one compiled program: everything that only enters as numbers.

These are the seed, what makes the learning rate (the rate itself, its schedule and its warm-up, of which a run has a
table of one number per step), the weight decay, and the label smoothing of classification. Everything else is part
of the program: sizes, names, dropout rates, the optimizer's own constants.
"""

import copy
import json
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from vision.config.calling import call
from vision.config.duration import steps_of
from vision.data.prepare import Prepare
from vision.objectives.classify import targets
from vision.training.assemble import Experiment, make_objective
from vision.training.make_optimizer import make_optimizer, make_schedule
from vision.training.optimizers import OPTIMIZERS
from vision.training.ruled import CLIPS, with_rules
from vision.training.rules import layerwise_rules, map_paths, setting
from vision.training.schema import optimizer_section, own

PyTree = Any
Config = Mapping[str, Any]
_OF_THE_RATE = ("learning_rate", "schedule", "warmup")


class Traced(NamedTuple):
    """The numbers of one run, or of several along a leading axis.

    Attributes:
      rates: the learning rate of each step.
      weight_decay: of every parameter that no rule gives another.
      kept: share of a target that label smoothing leaves, ``1 - a``.
      spread: what it gives to every class, ``a / classes``.
    """

    rates: Float[Array, "*runs steps"]
    weight_decay: Float[Array, "*runs"]
    kept: Float[Array, "*runs"]
    spread: Float[Array, "*runs"]


def static_part(config: Config) -> str:
    """Returns what two resolved configs must share to be trained by one program, as text."""
    static: Any = copy.deepcopy(dict(config))
    del static["seed"]
    for key in (*_OF_THE_RATE, "weight_decay"):
        del static["optimizer"][key]
    if smooths(config):
        del static["objective"]["label_smoothing"]
    return json.dumps(static, sort_keys=True)


def numbers_of(config: Config, experiment: Experiment) -> Traced:
    """Returns the numbers of one resolved config.

    Raises:
      ConfigError: one of them cannot be, as in a run of its own.
    """
    total = experiment.total_steps
    in_steps = partial(steps_of, batch_size=config["batch_size"], num_examples=len(experiment.source))
    schedule = make_schedule(config["optimizer"], total, in_steps)
    lengths: dict[str, Any] = {"total_steps": total, "in_steps": in_steps}
    make_optimizer(config["optimizer"], schedule, experiment.abstract_state.params, **lengths)
    make_objective(config, experiment.model, experiment.text, mesh=experiment.mesh, **lengths)
    # One by one, as a step does: a vectorized cosine has other last bits.
    rates = jax.jit(partial(jax.lax.map, lambda step: jnp.asarray(schedule(step), jnp.float32)))(jnp.arange(total))
    smoothing = config["objective"].get("label_smoothing", 0.0) if smooths(config) else 0.0
    numbers = (config["optimizer"]["weight_decay"], 1.0 - smoothing, smoothing / experiment.source.num_classes)
    return Traced(rates, *map(jnp.float32, numbers))


def smooths(config: Config) -> bool:
    """Whether the objective is one that smooths labels."""
    return config["objective"]["name"] == "classify"


def without_numbers(config: Config) -> dict[str, Any]:
    """Returns the config whose objective and optimizer leave out what :class:`Traced` brings."""
    plain: Any = copy.deepcopy(dict(config))
    plain["optimizer"] |= {"weight_decay": 0.0}
    if smooths(config):
        plain["objective"] |= {"label_smoothing": 0.0}
    return plain


def optimizer_of(section: Config, params: PyTree, numbers: Traced) -> optax.GradientTransformation:
    """Returns the optimizer of :func:`vision.training.assemble.make_optimizer` with numbers that may be traced."""
    path = "config.optimizer"
    rules = list(section["rules"])
    if section["layerwise_decay"] is not None:
        rules += layerwise_rules(section["layerwise_decay"], params, f"{path}.layerwise_decay")
    free = map_paths(lambda name: setting(rules, name, "weight_decay", None) is None, params)

    def decayed(updates: PyTree, params: PyTree) -> PyTree:
        masked = lambda x: isinstance(x, optax.MaskedNode)  # noqa: E731
        return jax.tree.map(
            lambda u, p, on: u + numbers.weight_decay * p if on is True and not masked(u) else u,
            updates,
            params,
            free,
            is_leaf=masked,
        )

    function = OPTIMIZERS[section["name"]]
    return with_rules(
        lambda decay: call(
            function,
            own(section, optimizer_section),
            path,
            rate=lambda count: numbers.rates[count],
            decay=optax.chain(decay, optax.stateless(decayed)),
        ),
        params,
        weight_decay=0.0,
        rules=rules,
        clips={name: section[name] for name in CLIPS},
        where=path,
    )


def smoothed(prepare: Prepare, numbers: Traced, num_classes: int) -> Prepare:
    """Returns ``prepare`` with smoothed targets in place of labels, as classification makes them of labels."""

    def prepare_targets(batch, resident, key, step):
        examples = prepare(batch, resident, key, step)
        given = targets(examples["label"], num_classes)
        return {**examples, "label": numbers.kept * given + numbers.spread}

    return prepare_targets
