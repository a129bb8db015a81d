"""A pass over a split that gathers outputs of the model, example by example."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from vision.data.source import Source, has_several_labels
from vision.errors import UserError
from vision.evaluation.base import EvalSet, State
from vision.objectives.base import Objective
from vision.objectives.classify import class_index

MEAN = ":mean"


class Gathered(NamedTuple):
    """What a model gives of every example of a split, in order, once each.

    Attributes:
      outputs: name -> float32 ``[n, features]``.
      labels: int32 ``[n]``, or None where the data have none.
    """

    outputs: dict[str, np.ndarray]
    labels: np.ndarray | None


def named(outputs: Mapping[str, Array], name: str) -> Float[Array, "batch features"]:
    """Returns one output as rows of float32; all its axes but the first are flattened.

    ``block03:mean`` is the mean of ``block03`` over the axes between the first and the last: over the tokens of a
    transformer, over the positions of a map.

    Raises:
      UserError: there is no such output.
    """
    whole = name.removesuffix(MEAN)
    if whole not in outputs:
        raise UserError(f"the model has no output {whole!r}; it has {', '.join(sorted(outputs))}")
    chosen = outputs[whole].astype(jnp.float32)
    if name != whole:
        chosen = jnp.mean(chosen, axis=tuple(range(1, chosen.ndim - 1)))
    return chosen.reshape(len(chosen), -1)


def gathered(eval_set: EvalSet, objective: Objective, names: tuple[str, ...]) -> Callable[[State], Gathered]:
    """Returns ``pass_over(state)``, which gives outputs and the label of every example.

    Args:
      eval_set: what to pass over.
      objective: whose ``encode`` gives the outputs.
      names: of the outputs, see :func:`named`.

    Returns:
      A function of the state; what it returns is the same in every process. It raises a UserError where there is no
      such output.
    """
    everywhere = NamedSharding(eval_set.pipeline.sharding.mesh, PartitionSpec())

    @partial(jax.jit, out_shardings=everywhere)
    def of_batch(params, extra, batch, resident):
        examples = eval_set.prepare(batch, resident, jax.random.key(0), 0)  # nothing is drawn without augmentation
        outputs = objective.encode(params, extra, examples)
        label = class_index(examples["label"]) if "label" in examples else None
        return {name: named(outputs, name) for name in names}, label

    def pass_over(state: State) -> Gathered:
        parts = []
        for step, mask in enumerate(eval_set.masks):
            batch = eval_set.pipeline.batch(step)
            # Fetched batch by batch: the features of a whole split need not fit the device.
            found = jax.device_get(of_batch(state.params, state.extra, batch, eval_set.pipeline.resident))
            parts.append(jax.tree.map(lambda array, kept=mask: array[kept], found))
        eval_set.pipeline.close()
        outputs, labels = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
        return Gathered(outputs, labels)

    return pass_over


def check_labels(source: Source, what: str) -> None:
    """Raises a ValueError where examples have no label, or several at once."""
    if "label" not in source.fields or has_several_labels(source):
        raise ValueError(f"{what} needs one label for each image")
