"""The train step: prepare, forward, loss, gradient, one update, refresh. It knows no data set and no model."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from vision.data.prepare import Prepare
from vision.models.platform import compiled_for
from vision.objectives.base import Batch, Metrics, Objective
from vision.training.accumulate import loss_and_gradients
from vision.training.sharding import over_rows
from vision.training.state import Keys, TrainState

PyTree = Any
OnNonFinite = Literal["stop", "skip"]
TrainStep = Callable[[TrainState, Batch, "Constants"], tuple[TrainState, Metrics]]


class Constants(NamedTuple):
    """What every step reads and none changes; an argument, because a closed-over array is baked into the program.

    Attributes:
      keys: the run's streams of randomness.
      resident: the data set on the device, or empty.
    """

    keys: Keys
    resident: Batch


def make_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    prepare: Prepare,
    *,
    microbatches: int = 1,
    on_nonfinite: OnNonFinite = "stop",
    constrain: Callable[[PyTree], PyTree] = lambda batch: batch,
    mesh: Mesh | None = None,
) -> TrainStep:
    """Returns ``train_step(state, batch, constants) -> (state, metrics)``, to be jitted by the caller.

    Args:
      objective: what is learned.
      optimizer: its ``update`` takes gradients and parameters.
      schedule: learning rate of a step, for the metrics only.
      prepare: the device part of the pipeline.
      microbatches: parts that the batch is computed in, to save memory.
      on_nonfinite: with ``skip``, a step whose loss, gradient or new parameters are not finite changes nothing but
        the step number and the schedule's, and counts in the metric ``skipped_steps``.
      constrain: pins the prepared batch to its sharding.
      mesh: that it is compiled for; None for one device of JAX's default kind.
    """

    platform = None if mesh is None else mesh.devices.flat[0].platform
    divide = None if mesh is None else over_rows(mesh)

    def train_step(state: TrainState, batch: Batch, constants: Constants) -> tuple[TrainState, Metrics]:
        examples = constrain(prepare(batch, constants.resident, constants.keys.augment, state.step))
        size = batch["index"].shape[0]
        step_key = jax.random.fold_in(constants.keys.step, state.step)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(step_key, jnp.arange(size))
        with compiled_for(platform, divide):
            loss, gradients, extra, metrics = loss_and_gradients(
                objective, state.params, state.extra, examples, keys, state.step, microbatches=microbatches
            )
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = objective.project(optax.apply_updates(state.params, updates))
        extra = objective.refresh(params, extra, state.step + 1)
        norms = {"gradient_norm": optax.tree.norm(gradients), "parameter_norm": optax.tree.norm(params)}
        one = jnp.ones(())
        metrics = {
            **metrics,
            "loss": (loss * size, one * size),
            **{name: (norm, one) for name, norm in norms.items()},
            "learning_rate": (one * schedule(state.step), one),
        }
        new = TrainState(state.step + 1, params, extra, opt_state)
        if on_nonfinite == "skip":
            finite = jnp.isfinite(jnp.stack([loss, *norms.values()])).all()
            new = _unless(finite, new, state)
            metrics = {name: _where_finite(finite, pair) for name, pair in metrics.items()}
            metrics["skipped_steps"] = (1.0 - finite, one)
        return new, metrics

    return train_step


def make_steps(train_step: TrainStep) -> Callable[[TrainState, Batch, Constants], tuple[TrainState, Metrics]]:
    """Returns the step over a stack of batches in one dispatch; metrics come back stacked.

    It is a scan, never unrolled: the scanned body gives the bits of single steps for models without convolutions.
    """

    def steps(state: TrainState, batches: Batch, constants: Constants) -> tuple[TrainState, Metrics]:
        return jax.lax.scan(lambda carry, batch: train_step(carry, batch, constants), state, batches)

    return steps


def _unless(finite, new: TrainState, old: TrainState) -> TrainState:
    """Returns the old state where a step was not finite; time goes on all the same, for the learning rate too."""
    is_clock = lambda x: isinstance(x, optax.ScaleByScheduleState)  # noqa: E731
    kept = jax.tree.map(lambda n, o: n if is_clock(n) else jnp.where(finite, n, o), new, old, is_leaf=is_clock)
    return kept.replace(step=new.step)


def _where_finite(finite, pair):
    """A skipped step adds nothing to a sum, nor to its count."""
    return tuple(jnp.where(finite, value, jnp.zeros_like(value)) for value in pair)
