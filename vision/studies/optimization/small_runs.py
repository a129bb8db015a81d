"""Many trainings of one small network at once, in one program: over learning rates and seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vision.models.interface import Model
from vision.objectives.classify import classify
from vision.studies.optimization.methods import Method, build


class Data(NamedTuple):
    """Images float32 ``[n, height, width, channels]``, normalised, and labels int32 ``[n]``, of two splits."""

    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


class Trained(NamedTuple):
    """What came of the trainings.

    Attributes:
      steps: ``[points]``, the steps at which losses were taken, 0 first.
      losses: ``[runs, points]``, over all training examples.
      train_accuracy: ``[runs]``, at the end.
      test_correct: ``[runs, test examples]``, 1 for each test example that is right at the end, else 0.
    """

    steps: np.ndarray
    losses: np.ndarray
    train_accuracy: np.ndarray
    test_correct: np.ndarray


def train(
    model: Model,
    data: Data,
    method: Method,
    *,
    rates: Sequence[float],
    seeds: Sequence[int],
    steps: int,
    every: int,
    few: int,
) -> Trained:
    """Trains once for each pair of a learning rate and a seed.

    Args:
      model: maps images to logits.
      data: what it learns.
      method: how; batches are drawn with replacement.
      rates: constant learning rate of each run.
      seeds: of its weights and batches.
      steps: of the training, a multiple of ``every``.
      every: steps between two losses.
      few: examples in a small batch.

    Raises:
      ValueError: ``steps`` is no multiple of ``every``.
    """
    if steps % every:
        raise ValueError(f"{steps} steps are no multiple of {every}")
    objective = classify(model)
    whole = {"image": jnp.asarray(data.images), "label": jnp.asarray(data.labels)}
    test = {"image": jnp.asarray(data.test_images), "label": jnp.asarray(data.test_labels)}
    spec = {name: jax.ShapeDtypeStruct(each.shape, each.dtype) for name, each in whole.items()}
    size = {"all": len(data.images), "one": 1, "few": few}[method.batch]

    def run(rate, seed, whole, test):
        first, order = jax.random.split(jax.random.key(seed))
        params, extra = objective.init(first, spec)
        optimizer = build(method, rate, params)

        def loss(params, batch):
            outputs, _ = objective.forward(params, extra, batch, None, True)
            value, (_, metrics) = objective.loss(params, outputs, extra, batch, jnp.zeros((), jnp.int32))
            total, count = metrics["accuracy"]
            return value, total / count

        def correct(params, batch):
            logits = objective.encode(params, extra, batch)["output"]
            return (jnp.argmax(logits, axis=-1) == batch["label"]).astype(jnp.float32)

        def step(carry, key):
            params, state = carry
            chosen = jax.random.randint(key, (size,), 0, len(whole["label"]))
            batch = whole if method.batch == "all" else {name: each[chosen] for name, each in whole.items()}
            gradients = jax.grad(lambda params: loss(params, batch)[0])(params)
            updates, state = optimizer.update(gradients, state, params)
            return (optax.apply_updates(params, updates), state), None

        def stretch(carry, keys):
            carry, _ = jax.lax.scan(step, carry, keys)
            return carry, loss(carry[0], whole)[0]

        keys = jax.random.split(order, (steps // every, every))
        (after, _), losses = jax.lax.scan(stretch, (params, optimizer.init(params)), keys)
        losses = jnp.concatenate([loss(params, whole)[0][None], losses])
        return losses, loss(after, whole)[1], correct(after, test)

    together = jax.jit(jax.vmap(run, (0, 0, None, None)))
    losses, train_accuracy, test_correct = together(
        jnp.asarray(rates, jnp.float32), jnp.asarray(seeds, jnp.uint32), whole, test
    )
    points = np.arange(0, steps + 1, every)
    return Trained(points, np.asarray(losses), np.asarray(train_accuracy), np.asarray(test_correct))
