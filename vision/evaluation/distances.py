"""Distances of all pairs of two blocks of rows, in the forms that XLA computes fast.

Searches want what is larger for nearer rows and may leave out what is the same for a whole row of the result; that
is the *closeness* here. ``Bank`` holds what is computed once for all queries.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Metric = Literal["l1", "l2", "cosine"]
_UNROLL = 16  # features in one fused expression; with more or fewer XLA's code for CPUs is several times slower


class Bank(NamedTuple):
    """Rows to compare with.

    Attributes:
      rows: the rows themselves.
      centre: their mean, for ``l2``; else zeros.
      size: their squared distances from the mean (``l2``) or their norms (``cosine``); else zeros.
    """

    rows: Float[Array, "n features"]
    centre: Float[Array, " features"]
    size: Float[Array, " n"]


def make_bank(rows: Float[Array, "n features"], metric: Metric) -> Bank:
    """Computes what is computed once."""
    return Bank(rows, *_centre_and_size(rows, metric))


@partial(jax.jit, static_argnames="metric")
def _centre_and_size(rows, metric):
    n, features = rows.shape
    if metric == "l1":
        return jnp.zeros((features,)), jnp.zeros((n,))
    if metric == "cosine":
        return jnp.zeros((features,)), jnp.sqrt(jnp.sum(rows**2, axis=1))
    centre = jnp.mean(rows, axis=0)
    return centre, jnp.sum((rows - centre) ** 2, axis=1)


def closeness(
    queries: Float[Array, "queries features"], centre: Float[Array, " features"], metric: Metric
) -> Callable[[Float[Array, "n features"], Float[Array, " n"]], Float[Array, "queries n"]]:
    """Returns the function ``(rows, size) -> closeness`` of a block of queries to rows of the bank.

    For ``l2`` it is ``2 (q - m).b - |b - m|^2``, the negative squared distance but for a term of q alone; m is the
    mean of the bank, so that an offset that all rows share costs few digits. For ``cosine`` it is the cosine.
    """
    if metric == "l1":
        return lambda rows, size: -l1_distances(queries, rows)
    if metric == "l2":
        centred = 2.0 * (queries - centre)
        return lambda rows, size: jnp.matmul(centred, rows.T, precision="highest") - size
    unit = unit_rows(queries)
    return lambda rows, size: jnp.matmul(unit, rows.T, precision="highest") * _reciprocal(size)


def l1_distances(ours: Float[Array, "m features"], theirs: Float[Array, "n features"]) -> Float[Array, "m n"]:
    """Returns ``sum_j |a_j - b_j|`` of all pairs.

    There is no matrix product in it. A few features at a time are added up over all pairs in one fused expression,
    whose inner loop runs over rows that lie side by side.
    """
    padding = ((0, 0), (0, -ours.shape[1] % _UNROLL))
    left, right = jnp.pad(ours, padding).T, jnp.pad(theirs, padding).T

    def add(step, total):
        a = jax.lax.dynamic_slice_in_dim(left, step * _UNROLL, _UNROLL)
        b = jax.lax.dynamic_slice_in_dim(right, step * _UNROLL, _UNROLL)
        terms = [jnp.abs(a[feature][:, None] - b[feature][None, :]) for feature in range(_UNROLL)]
        while len(terms) > 1:  # a tree of sums rounds less than a chain
            terms = [one + other for one, other in zip(terms[::2], terms[1::2], strict=True)]
        return total + terms[0]

    return jax.lax.fori_loop(0, len(left) // _UNROLL, add, jnp.zeros((len(ours), len(theirs))))


def paired_distance(
    queries: Float[Array, "m features"], rows: Float[Array, "m features"], metric: Literal["l2", "cosine"]
) -> Float[Array, " m"]:
    """Returns the distance of each query from the row beside it, as a sum over differences: 0 for equal rows.

    ``1 - cosine`` is half the squared distance of the unit vectors; a row of zeros has the cosine 0 with anything.
    """
    if metric == "l2":
        return jnp.sqrt(jnp.sum((queries - rows) ** 2, axis=1))
    ours, theirs = unit_rows(queries), unit_rows(rows)
    has_zero = ~(jnp.any(ours != 0, axis=1) & jnp.any(theirs != 0, axis=1))
    return jnp.where(has_zero, 1.0, 0.5 * jnp.sum((ours - theirs) ** 2, axis=1))


def unit_rows(rows: Float[Array, "n features"]) -> Float[Array, "n features"]:
    """Returns the rows divided by their norms; rows of zeros stay."""
    return rows * _reciprocal(jnp.sqrt(jnp.sum(rows**2, axis=1)))[:, None]


def _reciprocal(norm: Array) -> Array:
    return jnp.where(norm > 0, 1 / jnp.where(norm > 0, norm, 1.0), 0.0)
