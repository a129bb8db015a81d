"""What is learned, as data: a named tuple of pure functions, cut where the mathematics is cut."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

PyTree = Any
Batch = Mapping[str, Array]
Metrics = dict[str, tuple[Array, Array]]


class Objective(NamedTuple):
    """A way to learn. The train step knows nothing else about what is being learned.

    What is done per example is apart from what looks at the whole batch. Because ``forward`` is per example,
    the step can run it over microbatches and still hand ``loss`` the whole batch.

    Attributes:
      init: ``(key, batch_spec) -> (params, extra)``. ``batch_spec`` holds a ``jax.ShapeDtypeStruct`` for each
        array of a prepared batch. ``extra`` is everything a step carries that the optimizer does not train.
      forward: ``(params, extra, batch, keys, train) -> (outputs, extra)``. Towers and heads, one example at a
        time: every leaf of ``outputs`` is floating point with a leading example axis; ``keys[i]`` is the key of
        example i, and the only source of randomness.
      loss: ``(params, outputs, extra, batch, step) -> (scalar, (extra, metrics))`` over the whole batch.
      refresh: ``(params, extra, step) -> extra`` after the update, with the new parameters: EMA and teachers.
      encode: ``(params, extra, batch) -> features``, what evaluators and transfer use: a dict with a leading
        example axis, ``"output"`` among it.
      separable: the loss is an equal-weight mean over examples, plus terms of ``params`` alone, and does not
        write ``extra``; then gradients of microbatches may simply be averaged.
      start: ``(params, extra) -> extra`` where training starts from given parameters: what is a copy of them at
        first, such as an average or a teacher, becomes one.
      project: ``params -> params``, applied after every update: brings parameters back to where they may be, such as
        a scale below its largest value. The optimizer's state is not told.
      warn: ``means of the metrics of a line -> sentence or None``: what a person should know, such as a collapse.
    """

    init: Callable[[Key[Array, ""], PyTree], tuple[PyTree, PyTree]]
    forward: Callable[[PyTree, PyTree, Batch, Key[Array, " batch"] | None, bool], tuple[PyTree, PyTree]]
    loss: Callable[[PyTree, PyTree, PyTree, Batch, Int[Array, ""]], tuple[Float[Array, ""], tuple[PyTree, Metrics]]]
    refresh: Callable[[PyTree, PyTree, Int[Array, ""]], PyTree]
    encode: Callable[[PyTree, PyTree, Batch], dict[str, Array]]
    separable: bool
    start: Callable[[PyTree, PyTree], PyTree] = lambda params, extra: extra
    project: Callable[[PyTree], PyTree] = lambda params: params
    warn: Callable[[Mapping[str, float]], str | None] = lambda metrics: None


def keep_extra(params: PyTree, extra: PyTree, step: Int[Array, ""]) -> PyTree:
    """A ``refresh`` that changes nothing."""
    return extra


def copied(tree: PyTree) -> PyTree:
    """Returns a copy with floating arrays in float32 at least; a buffer shared by two could not be donated."""

    def copy(x: Array) -> Array:
        floating = jnp.issubdtype(x.dtype, jnp.floating)
        return jnp.array(x, dtype=jnp.promote_types(x.dtype, jnp.float32) if floating else x.dtype)

    return jax.tree.map(copy, tree)


def mean_metric(values: Float[Array, " batch"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns ``(sum, count)`` of one value per example; such pairs add up exactly over microbatches and batches."""
    return jnp.sum(values), jnp.asarray(values.shape[0], jnp.float32)


def squared_norm(params: PyTree, *, leaves: str = "kernel") -> Float[Array, ""]:
    """Returns the sum of squares of every parameter named ``leaves`` (weights; biases stay free, as in ridge)."""
    flat, _ = jax.tree_util.tree_flatten_with_path(params)
    chosen = [leaf for path, leaf in flat if jax.tree_util.keystr(path[-1:], simple=True) == leaves]
    return sum((jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in chosen), jnp.zeros((), jnp.float32))
