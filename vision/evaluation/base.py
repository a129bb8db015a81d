"""What an evaluator is, and the masked passes over a split that evaluators are made of."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from vision.data.pipeline import Pipeline, place
from vision.data.prepare import Prepare
from vision.objectives.base import Objective

PyTree = Any
Value = float | np.ndarray


@runtime_checkable
class State(Protocol):
    """The part of a train state that evaluators read."""

    params: PyTree
    extra: PyTree


@dataclass(frozen=True)
class Evaluator:
    """Runs on a state and yields ``(name, value)``: numbers, and arrays such as a confusion matrix.

    Attributes:
      run: compiled once, at its first call.
      metrics: names of the numbers that ``run`` yields.
      class_names: of the data it runs on, where known.
    """

    run: Callable[[State], Iterator[tuple[str, Value]]]
    metrics: tuple[str, ...]
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvalSet:
    """A split ready to be passed over, in order.

    Attributes:
      pipeline: its batches, the last one padded.
      prepare: the device part, without augmentation.
      masks: for each batch bool ``[batch]``, False for padding.
    """

    pipeline: Pipeline
    prepare: Prepare
    masks: tuple[np.ndarray, ...]


def summed(
    eval_set: EvalSet, objective: Objective, statistics: Callable[[jax.Array, dict[str, jax.Array], jax.Array], PyTree]
) -> Callable[[State], PyTree]:
    """Returns ``pass_over(state)``, the sum of per-batch statistics over every example of a split, once each.

    Args:
      eval_set: what to pass over, in order; the last batch is padded and masked.
      objective: its ``encode`` gives the output.
      statistics: ``(output, examples, mask) -> tree of sums``; ``mask`` is 1 for examples that count, 0 for padding.

    Returns:
      A function of the state; the sums come back as NumPy arrays in float64 (whole numbers stay exact).
    """

    everywhere = NamedSharding(eval_set.pipeline.sharding.mesh, PartitionSpec())

    @partial(jax.jit, out_shardings=everywhere)
    def of_batch(params, extra, batch, resident, mask):
        # A split is prepared without augmentation, so the key is never drawn from.
        examples = eval_set.prepare(batch, resident, jax.random.key(0), 0)
        return statistics(objective.encode(params, extra, examples)["output"], examples, mask.astype(jnp.float32))

    def pass_over(state: State) -> PyTree:
        parts = []
        for step, mask in enumerate(eval_set.masks):
            on_devices = place(mask, eval_set.pipeline.sharding)
            batch = eval_set.pipeline.batch(step)
            parts.append(of_batch(state.params, state.extra, batch, eval_set.pipeline.resident, on_devices))
        eval_set.pipeline.close()
        return jax.tree.map(_exact_sum, *jax.device_get(parts))

    return pass_over


def _exact_sum(*arrays: np.ndarray) -> np.ndarray:
    return np.asarray(np.sum(np.stack(arrays).astype(np.float64), axis=0))
