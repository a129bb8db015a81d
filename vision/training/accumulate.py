"""Gradients by microbatches, written once for every objective, equal to the gradient of the big batch.

A separable loss averages the gradients of its microbatches. Any other runs ``forward`` over the microbatches,
differentiates ``loss`` at the gathered outputs of the whole batch, and pulls each microbatch's cotangents back
through its own, recomputed ``forward`` (the gradient caching of Gao et al. 2021, arXiv:2101.06983, section 3).

Microbatch j is the rows ``j::m``, so every device keeps its own rows and nothing is communicated. Batch
statistics are those of the microbatch: its ``extra`` enters each unchanged and the results are averaged.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from vision.models.platform import platform
from vision.objectives.base import Batch, Metrics, Objective

PyTree = Any
Gradients = tuple[Float[Array, ""], PyTree, PyTree, Metrics]


def loss_and_gradients(
    objective: Objective,
    params: PyTree,
    extra: PyTree,
    batch: Batch,
    keys: Key[Array, " batch"],
    step: Int[Array, ""],
    *,
    microbatches: int,
) -> Gradients:
    """Returns ``(loss, gradients, extra, metrics)`` of the whole batch.

    Args:
      objective: what is learned.
      params: what the gradients are of.
      extra: what the objective carries beside them.
      batch: prepared.
      keys: one for each example.
      step: number of updates done.
      microbatches: parts that the batch is computed in.

    Raises:
      ValueError: the batch does not divide into ``microbatches`` (while tracing).
    """
    if microbatches == 1:
        return _whole(objective, params, extra, batch, keys, step)
    size = keys.shape[0]
    if size % microbatches:
        raise ValueError(f"a batch of {size} does not divide into {microbatches} microbatches")
    parts = (_split(dict(batch), microbatches), _split(keys, microbatches))
    unroll = _unroll(microbatches)
    if objective.separable:
        return _averaged(objective, params, extra, parts, step, microbatches, unroll)
    return _gathered(objective, params, extra, batch, parts, step, microbatches, unroll)


def _whole(objective, params, extra, batch, keys, step) -> Gradients:
    def loss_of(params):
        outputs, new_extra = objective.forward(params, extra, batch, keys, True)
        return objective.loss(params, outputs, new_extra, batch, step)

    (loss, (new_extra, metrics)), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
    return loss, gradients, new_extra, metrics


def _averaged(objective, params, extra, parts, step, count, unroll) -> Gradients:
    def body(total, part):
        batch, keys = part
        loss, gradients, new_extra, metrics = _whole(objective, params, extra, batch, keys, step)
        return jax.tree.map(jnp.add, total, (loss, gradients)), (_changed(new_extra, extra), metrics)

    zeros = (jnp.zeros(()), _float32_zeros(params))
    (loss, gradients), (changes, metrics) = jax.lax.scan(body, zeros, parts, unroll=unroll)
    gradients = jax.tree.map(lambda g, p: (g / count).astype(p.dtype), gradients, params)
    return (
        loss / count,
        gradients,
        _with_changes(extra, _mean_of(changes)),
        jax.tree.map(lambda x: jnp.sum(x, axis=0), metrics),
    )


def _gathered(objective, params, extra, batch, parts, step, count, unroll) -> Gradients:
    def forward(params, part):
        return objective.forward(params, extra, part[0], part[1], True)

    def outputs_of(carry, part):
        outputs, new_extra = forward(params, part)
        return carry, (outputs, _changed(new_extra, extra))

    _, (outputs, changes) = jax.lax.scan(outputs_of, None, parts, unroll=unroll)
    outputs = jax.lax.stop_gradient(jax.tree.map(_join, outputs))

    def loss_of(params, outputs):
        return objective.loss(params, outputs, _with_changes(extra, _mean_of(changes)), batch, step)

    (loss, (new_extra, metrics)), (direct, cotangents) = jax.value_and_grad(loss_of, argnums=(0, 1), has_aux=True)(
        params, outputs
    )

    def body(total, part):
        inputs, cotangent = part
        _, pull_back = jax.vjp(lambda p: forward(p, inputs)[0], params)
        return jax.tree.map(jnp.add, total, pull_back(cotangent)[0]), None

    start = jax.tree.map(jnp.add, _float32_zeros(params), direct)
    gradients, _ = jax.lax.scan(body, start, (parts, _split(cotangents, count)), unroll=unroll)
    return loss, jax.tree.map(lambda g, p: g.astype(p.dtype), gradients, params), new_extra, metrics


def _float32_zeros(params: PyTree) -> PyTree:
    """Where gradients are summed: in bfloat16 a sum of many would lose their small parts."""
    return jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.promote_types(p.dtype, jnp.float32)), params)


def _split(tree: PyTree, count: int) -> PyTree:
    """``[batch, ...] -> [count, batch / count, ...]``; part j holds the rows ``j::count``."""
    return jax.tree.map(lambda x: jnp.moveaxis(x.reshape(x.shape[0] // count, count, *x.shape[1:]), 1, 0), tree)


def _join(stacked: Array) -> Array:
    """The inverse of :func:`_split` for one array."""
    return jnp.moveaxis(stacked, 0, 1).reshape(-1, *stacked.shape[2:])


def _mean_of(stacked: PyTree) -> PyTree:
    """Averages floating leaves over the microbatches; of the others the first stands for all."""
    return jax.tree.map(
        lambda x: jnp.mean(x, axis=0).astype(x.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x[0], stacked
    )


def _changed(new: PyTree, old: PyTree) -> dict[int, Array]:
    """Returns the leaves that a forward pass has written, by number: a teacher is handed on, not stacked."""
    pairs = zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True)
    return {number: leaf for number, (leaf, before) in enumerate(pairs) if leaf is not before}


def _with_changes(old: PyTree, changes: dict[int, Array]) -> PyTree:
    """The inverse of :func:`_changed`."""
    leaves, structure = jax.tree.flatten(old)
    return jax.tree.unflatten(structure, [changes.get(number, leaf) for number, leaf in enumerate(leaves)])


def _unroll(count: int) -> int:
    """On CPU a convolution inside a loop body is some sixty times slower, so there the loop is unrolled."""
    return count if platform() == "cpu" else 1
