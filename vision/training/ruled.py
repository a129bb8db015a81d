"""An optimizer that follows rules per parameter: learning rate, weight decay, frozen for good or a while."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from vision.errors import ConfigError
from vision.training import rules as per_parameter
from vision.training.clipping import clip_norms

PyTree = Any
Transform: TypeAlias = optax.GradientTransformation
CLIPS = {"clip_global_norm": "all", "clip_tensor_norm": "tensor", "clip_module_norm": "module"}


def with_rules(
    update: Callable[[Transform], Transform],
    params: PyTree,
    *,
    weight_decay: float,
    rules: Sequence[per_parameter.Rule],
    where: str,
    clips: Mapping[str, float | None] = {},
    decay_at: optax.Schedule | None = None,
    within: Callable[[Transform, int], Transform] | None = None,
) -> Transform:
    """Returns an optimizer that follows per-parameter rules.

    A parameter frozen for its first steps gets no update then, and has no moments of them: Adam's bias correction
    begins with it. The learning rate is that of the step all the same (DINO's last layer). A parameter trained for its
    first steps only has the whole schedule in them, and none after.

    Args:
      update: maps the weight-decay transformation to the optimizer.
      params: the parameters, or their shapes.
      weight_decay: of every parameter that no rule gives another.
      rules: see :mod:`vision.training.rules`; frozen parameters get no update and no optimizer state.
      where: the place in the config, for messages.
      clips: bounds on norms of the gradient of trained parameters, one of :data:`CLIPS` at most.
      decay_at: weight decay of a step, in place of ``weight_decay``.
      within: likewise ``update`` with a schedule that is run through in so many steps, for ``train_for``.

    Raises:
      ConfigError: a rule is wrong or matches nothing, or a value is out of range.
    """
    per_parameter.check_rules(rules, params, f"{where}.rules")
    if not 0.0 <= weight_decay < math.inf:
        raise ConfigError(f"{where}.weight_decay: must be >= 0, got {weight_decay}")
    bounds = {name: bound for name, bound in clips.items() if bound is not None}
    for name, bound in bounds.items():
        if not bound > 0.0:
            raise ConfigError(f"{where}.{name}: must be > 0, got {bound}")
    if len(bounds) > 1:
        raise ConfigError(f"{where}: one of {', '.join(CLIPS)} at most, got {', '.join(bounds)}")

    def each(name: str, default: Any) -> PyTree:
        return per_parameter.map_paths(lambda path: per_parameter.setting(rules, path, name, default), params)

    scale = _per_parameter(lambda u, p, s: u * s if s != 1.0 else u, each("learning_rate_scale", 1.0))
    decays = each("weight_decay", weight_decay if decay_at is None else _SCHEDULED)
    if decay_at is None:
        decay = _per_parameter(lambda u, p, d: u + d * p if d else u, decays)
    else:
        decay = _scheduled_decay(decay_at, decays)
    trained = optax.chain(update(decay), scale)
    frozen, late, early = each("freeze", False), each("freeze_for", 0), each("train_for", 0)
    first = [clip_norms(bound, CLIPS[name], frozen) for name, bound in bounds.items()]  # type: ignore[arg-type]
    if any(jax.tree.leaves(jax.tree.map(lambda late, early: bool(late and early), late, early))):
        raise ConfigError(f"{where}.rules: freeze_for and train_for, both of one parameter")

    def label(off: bool, late: int, early: int) -> str:
        return "frozen" if off else f"for_{early}" if early else f"after_{late}"

    labels = jax.tree.map(label, frozen, late, early)
    groups = set(jax.tree.leaves(labels))
    if groups <= {"after_0"}:
        return optax.chain(*first, trained)
    parts = {"frozen": optax.stateless(lambda updates, _: _nothing(updates)), "after_0": trained}
    for steps in set(jax.tree.leaves(early)) - {0}:
        assert within is not None
        parts[f"for_{steps}"] = _for_first(optax.chain(within(decay, steps), scale), steps)
    parts |= {f"after_{steps}": _after(trained, steps) for steps in set(jax.tree.leaves(late)) if steps}
    return optax.chain(*first, optax.partition({name: parts[name] for name in groups}, labels))


_SCHEDULED = -1.0  # stands for the decay of the step; no rule can give it


def _scheduled_decay(decay_at: optax.Schedule, decays: PyTree) -> Transform:
    """Adds ``decay(step) * p``, but where a rule gives a number of its own."""

    def init(params: PyTree) -> optax.ScaleByScheduleState:
        return optax.ScaleByScheduleState(count=jnp.zeros([], jnp.int32))

    def update(updates: PyTree, state: optax.ScaleByScheduleState, params: PyTree = None):
        now = decay_at(state.count)
        apply = _per_parameter(lambda u, p, d: u + (now if d == _SCHEDULED else d) * p if d else u, decays)
        updates, _ = apply.update(updates, optax.EmptyState(), params)
        return updates, optax.ScaleByScheduleState(count=optax.safe_increment(state.count))

    return optax.GradientTransformation(init, update)


class _Late(NamedTuple):
    """A clock, as the schedules have it, and the state of what waits for it."""

    clock: optax.ScaleByScheduleState
    inner: PyTree


def _after(inner: Transform, steps: int) -> Transform:
    """The optimizer of parameters whose first update is that of step ``steps``; only their schedules go on till then.

    Its clock is one of optax's schedules, so that it goes on in a step that is skipped, as the learning rate does.
    """
    is_clock = lambda x: isinstance(x, optax.ScaleByScheduleState)  # noqa: E731
    later = lambda x: x._replace(count=optax.safe_increment(x.count)) if is_clock(x) else x  # noqa: E731

    def init(params: PyTree) -> _Late:
        return _Late(optax.ScaleByScheduleState(count=jnp.zeros([], jnp.int32)), inner.init(params))

    def update(updates: PyTree, state: _Late, params: PyTree = None) -> tuple[PyTree, _Late]:
        wait = lambda: (_nothing(updates), jax.tree.map(later, state.inner, is_leaf=is_clock))  # noqa: E731
        go = lambda: inner.update(updates, state.inner, params)  # noqa: E731
        updates, after = jax.lax.cond(state.clock.count >= steps, go, wait)
        return updates, _Late(later(state.clock), after)

    return optax.GradientTransformation(init, update)


def _for_first(inner: Transform, steps: int) -> Transform:
    """The optimizer of parameters whose last update is that of step ``steps - 1``."""

    def init(params: PyTree) -> _Late:
        return _Late(optax.ScaleByScheduleState(count=jnp.zeros([], jnp.int32)), inner.init(params))

    def update(updates: PyTree, state: _Late, params: PyTree = None) -> tuple[PyTree, _Late]:
        go = lambda: inner.update(updates, state.inner, params)  # noqa: E731
        stay = lambda: (_nothing(updates), state.inner)  # noqa: E731
        updates, after = jax.lax.cond(state.clock.count < steps, go, stay)
        return updates, _Late(state.clock._replace(count=optax.safe_increment(state.clock.count)), after)

    return optax.GradientTransformation(init, update)


def _nothing(updates: PyTree) -> PyTree:
    """Updates that leave every bit: with +0.0 a parameter of -0.0 would become +0.0."""
    return jax.tree.map(lambda u: jnp.full_like(u, -0.0), updates)


def _per_parameter(function: Callable[[Array, Array, float], Array], settings: PyTree) -> Transform:
    """A stateless transformation ``u -> function(u, p, setting)``; frozen parameters are masked out of ``u``."""

    def apply(updates: PyTree, params: PyTree) -> PyTree:
        masked = lambda x: isinstance(x, optax.MaskedNode)  # noqa: E731
        return jax.tree.map(
            lambda u, p, s: u if masked(u) else function(u, p, s), updates, params, settings, is_leaf=masked
        )

    return optax.stateless(apply)
