"""Regression with squared error; with an L2 penalty it is ridge regression."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from vision.models.interface import Model
from vision.objectives.base import Batch, Objective
from vision.objectives.classify import is_hit, targets
from vision.objectives.supervised import supervised


def regress(model: Model, *, l2: float = 0.0) -> Objective:
    """Returns the objective of least squares: the squared distance to the target, summed over its entries.

    Batches bring ``image`` and either ``target`` ``[batch, outputs]`` or ``label`` ``[batch]``; of class labels
    the one-hot vector is regressed, the least-squares classifier.

    Args:
      model: maps images to outputs ``[batch, outputs]``.
      l2: weight of the squared norm of the kernels. A linear model over N examples then has the minimum of
        ridge regression, ``||XW + b - Y||^2 + N * l2 * ||W||^2``.

    Raises:
      ValueError: a negative ``l2``.
    """

    def per_example(output, batch):
        losses = jnp.sum(jnp.square(output - target_of(batch, output.shape[-1])), axis=-1)
        values = {"squared_error": losses}
        if "target" not in batch:
            values["accuracy"] = is_hit(jnp.argmax(output, axis=-1), batch["label"]).astype(jnp.float32)
        return losses, values

    return supervised(model, per_example, l2=l2)


def target_of(batch: Batch, num_outputs: int) -> Float[Array, "batch outputs"]:
    """Returns ``batch["target"]``, or the one-hot vectors of ``batch["label"]`` (mixed labels as they are)."""
    return batch["target"] if "target" in batch else targets(batch["label"], num_outputs)
