"""A pass over a split that gathers one of the model's outputs, example by example."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from vision.errors import UserError
from vision.evaluation.base import EvalSet, State
from vision.objectives.base import Objective
from vision.objectives.classify import class_index


def gathered(eval_set: EvalSet, objective: Objective, output: str) -> Callable[[State], tuple[np.ndarray, np.ndarray]]:
    """Returns ``pass_over(state)``, which gives an output and the label of every example, in order, once each.

    Args:
      eval_set: what to pass over.
      objective: whose ``encode`` gives the outputs.
      output: name of one of them.

    Returns:
      A function of the state; it returns float32 ``[n, features]`` (all axes but the first flattened) and int32
      ``[n]``, the same in every process. It raises a UserError where there is no such output.
    """
    everywhere = NamedSharding(eval_set.pipeline.sharding.mesh, PartitionSpec())

    @partial(jax.jit, out_shardings=everywhere)
    def of_batch(params, extra, batch, resident):
        examples = eval_set.prepare(batch, resident, jax.random.key(0), 0)  # nothing is drawn without augmentation
        outputs = objective.encode(params, extra, examples)
        if output not in outputs:
            raise UserError(f"the model has no output {output!r}; it has {', '.join(sorted(outputs))}")
        chosen = outputs[output].astype(jnp.float32)
        return chosen.reshape(len(chosen), -1), class_index(examples["label"])

    def pass_over(state: State) -> tuple[np.ndarray, np.ndarray]:
        parts = []
        for step, mask in enumerate(eval_set.masks):
            batch = eval_set.pipeline.batch(step)
            # Fetched batch by batch: the features of a whole split need not fit the device.
            found = jax.device_get(of_batch(state.params, state.extra, batch, eval_set.pipeline.resident))
            parts.append(tuple(array[mask] for array in found))
        eval_set.pipeline.close()
        features, labels = (np.concatenate(each) for each in zip(*parts, strict=True))
        return features, labels

    return pass_over
