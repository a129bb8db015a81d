"""The frame of supervised objectives: a model's output held against a target, example by example."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from vision.models.interface import Model
from vision.objectives.base import Batch, Metrics, Objective, keep_extra, mean_metric, squared_norm

PerExample = Callable[[Array, Batch], tuple[Float[Array, " batch"], dict[str, Float[Array, " batch"]]]]


def supervised(model: Model, per_example: PerExample, *, l2: float) -> Objective:
    """Returns the objective ``mean_i loss_i + l2 * sum ||kernel||^2``.

    Args:
      model: maps images to outputs.
      per_example: ``(output, batch) -> (losses, metrics)``, one number per example each.
      l2: weight of the squared L2 norm of all kernels; biases are not penalised. For squared error over N
        examples this is ridge regression with ``alpha = N * l2``.

    Raises:
      ValueError: a negative ``l2``.
    """
    if not 0.0 <= l2 < float("inf"):
        raise ValueError(f"l2 must be a number >= 0, got {l2}")

    def init(key, batch_spec):
        params, collections = model.init(key, batch_spec["image"])
        return params, {"collections": collections}

    def forward(params, extra, batch, keys, train):
        output, _, collections = model.apply(params, extra["collections"], batch["image"], keys=keys, train=train)
        return {"output": output}, {**extra, "collections": collections}

    def loss(params, outputs, extra, batch, step):
        losses, values = per_example(outputs["output"].astype(jnp.float32), batch)
        metrics: Metrics = {name: mean_metric(value) for name, value in values.items()}
        penalty = l2 * squared_norm(params) if l2 else 0.0
        return jnp.mean(losses) + penalty, (extra, metrics)

    def encode(params, extra, batch):
        output, features, _ = model.apply(params, extra["collections"], batch["image"], keys=None, train=False)
        return {**features, "output": output}

    return Objective(init, forward, loss, keep_extra, encode, separable=True)
