"""Random directions in the space of a network's parameters, normalised filter by filter, and points along them."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

Params = Mapping[str, Any]


def random_direction(params: Params, *, key: Key[Array, ""]) -> Any:
    """Returns standard normal draws for every kernel, and zeros for all else.

    Biases, normalisation and what else is no kernel stay where they are (Li et al. 2018, section 4: "we do not perturb
    the batch norm parameters"; their code leaves biases out likewise). A draw depends on the key, the path's place
    among all paths and the shape alone, so that networks of the same arrays get the same direction.

    Args:
      params: nested.
      key: of the draws.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    drawn = [
        jax.random.normal(jax.random.fold_in(key, number), jnp.shape(leaf))
        if _is_kernel(path)
        else jnp.zeros_like(leaf)
        for number, (path, leaf) in enumerate(leaves)
    ]
    return jax.tree_util.tree_unflatten(structure, drawn)


def filter_normalised(direction: Params, params: Params) -> Any:
    """Returns a direction whose every filter is as long as the network's own filter.

    ``d_ij <- d_ij ||theta_ij|| / ||d_ij||`` for filter j of layer i (Li et al. 2018, section 4, equation 1). A filter
    is what makes one output: the last axis of a kernel counts them, in convolutions ``[height, width, in, out]`` as in
    dense layers ``[in, out]``; beside it the middle one where queries, keys and values lie in one kernel ``[in, 3,
    out]``, and the first where blocks are stacked. A network whose filters were rescaled without changing what it
    computes, ``c w_1`` and ``w_2 / c`` around a ReLU, then has the same surface.
    """

    def of_leaf(path: Any, drawn: Array, value: Any) -> Array:
        if not _is_kernel(path):
            return drawn
        axes = _within_a_filter(path, jnp.ndim(value))
        own, theirs = (jnp.linalg.norm(_flat(each, axes), axis=0) for each in (jnp.asarray(value), drawn))
        scale = jnp.where(theirs > 0, own / jnp.where(theirs > 0, theirs, 1), 0)
        return drawn * jnp.expand_dims(scale, axes)

    return jax.tree_util.tree_map_with_path(of_leaf, direction, params)


def moved(params: Params, directions: Sequence[Params], distances: Float[Array, " directions"]) -> Any:
    """Returns ``theta + sum_k distances_k direction_k`` (Li et al. 2018, section 3)."""
    for number, direction in enumerate(directions):
        params = jax.tree.map(lambda value, step, far=distances[number]: value + far * step, params, direction)
    return params


def _is_kernel(path: Any) -> bool:
    return getattr(path[-1], "key", "") == "kernel"


def _within_a_filter(path: Any, ndim: int) -> tuple[int, ...]:
    """The axes of a kernel over which one filter extends."""
    stacked = int(any(getattr(each, "key", "") == "blocks" for each in path))
    if ndim - stacked == 3:
        return (stacked,)
    return tuple(range(stacked, ndim - 1))


def _flat(values: Array, axes: tuple[int, ...]) -> Array:
    """The axes of a filter as one, in front."""
    first = jnp.moveaxis(values, axes, range(len(axes)))
    return first.reshape(-1, *first.shape[len(axes) :])
