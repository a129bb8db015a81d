"""Many linear classifiers on shared features, trained side by side in one compiled program."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from vision.evaluation.probe_views import View

MOMENTUM = 0.9
INITIAL_STD = 0.01
_LOGITS = 2**21  # held at once


class Linear(NamedTuple):
    """The classifiers of one view, of every learning rate."""

    weight: Float[Array, "columns outputs"]
    bias: Float[Array, " outputs"]


def initial(view: View, *, rates: int, num_classes: int, key: Key[Array, ""]) -> Linear:
    """Returns weights from N(0, 0.01), the same for every learning rate, and biases of 0."""
    shape = (view.end - view.first, num_classes)
    weight = INITIAL_STD * jax.random.normal(jax.random.fold_in(key, view.number), shape)
    return Linear(jnp.tile(weight, (1, rates)), jnp.zeros((rates * num_classes,)))


def logits_of(
    params: Sequence[Linear], rows: Float[Array, "batch features"], views: Sequence[View], *, num_classes: int
) -> Float[Array, "batch views rates classes"]:
    """Returns what every classifier says of some rows."""
    each = [rows[:, view.first : view.end] @ one.weight + one.bias for view, one in zip(views, params, strict=True)]
    return jnp.stack([one.reshape(len(rows), -1, num_classes) for one in each], axis=1)


@partial(jax.jit, static_argnames=("views", "num_classes"))
def train(
    features: Float[Array, "n features"],
    labels: Int[Array, " n"],
    order: Int[Array, "steps batch"],
    rates: Float[Array, " rates"],
    key: Key[Array, ""],
    *,
    views: tuple[View, ...],
    num_classes: int,
) -> list[Linear]:
    """Returns classifiers trained by SGD with momentum 0.9 and a learning rate that falls to 0 along a cosine.

    At step t of T the rate is ``rate / 2 (1 + cos(pi t / T))``. No classifier knows of another: the loss is the sum
    of their mean cross-entropies.

    Args:
      features: that all of them see parts of.
      labels: of the rows.
      order: the rows of each step's batch.
      rates: learning rates, each of which every view is trained with.
      key: of the initial weights.
      views: columns.
      num_classes: of each classifier.
    """
    steps = len(order)

    def loss(params, rows, targets):
        logits = logits_of(params, rows, views, num_classes=num_classes)
        told = jnp.broadcast_to(targets[:, None, None], logits.shape[:3])
        return jnp.sum(optax.losses.softmax_cross_entropy_with_integer_labels(logits, told)) / len(rows)

    momentum = optax.trace(decay=MOMENTUM)
    scale = jnp.repeat(rates, num_classes)

    def step(carry, now):
        params, traced = carry
        t, batch = now
        gradient = jax.grad(loss)(params, features[batch], labels[batch])
        update, traced = momentum.update(gradient, traced)
        falling = scale * (0.5 * (1.0 + jnp.cos(jnp.pi * t / steps)))
        return (jax.tree.map(lambda p, u: p - falling * u, params, update), traced), None

    params = [initial(view, rates=len(rates), num_classes=num_classes, key=key) for view in views]
    (params, _), _ = jax.lax.scan(step, (params, momentum.init(params)), (jnp.arange(steps), order))
    return params


class Scores(NamedTuple):
    """How good each classifier is, float64 ``[views, rates]``.

    Attributes:
      accuracy: share of right answers.
      loss: mean cross-entropy.
    """

    accuracy: np.ndarray
    loss: np.ndarray


def score(
    params: Sequence[Linear], features: np.ndarray, labels: np.ndarray, views: tuple[View, ...], *, num_classes: int
) -> Scores:
    """Returns the scores of every classifier over all rows."""
    of_rows = partial(_sums, params, views=views, num_classes=num_classes)
    size = max(_LOGITS // sum(len(one.bias) for one in params), 1)
    parts = [slice(start, start + size) for start in range(0, len(features), size)]
    sums = [jax.device_get(of_rows(features[part], labels[part])) for part in parts]
    right, loss = (np.sum(np.asarray(each, np.float64), axis=0) / len(features) for each in zip(*sums, strict=True))
    return Scores(right, loss)


@partial(jax.jit, static_argnames=("views", "num_classes"))
def _sums(params, rows, labels, *, views, num_classes):
    logits = logits_of(params, rows, views, num_classes=num_classes)
    told = jnp.broadcast_to(labels[:, None, None], logits.shape[:3])
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, told)
    return jnp.sum(jnp.argmax(logits, axis=-1) == told, axis=0), jnp.sum(losses, axis=0)


def order_of_batches(examples: int, batch: int, steps: int, *, seed: int | Sequence[int]) -> np.ndarray:
    """Returns int32 ``[steps, batch]``: permutations of all examples one after another, each drawn anew."""
    rng = np.random.default_rng(seed)
    rounds = -(-steps * batch // examples)
    endless = np.concatenate([rng.permutation(examples).astype(np.int32) for _ in range(rounds)])
    return endless[: steps * batch].reshape(steps, batch)
