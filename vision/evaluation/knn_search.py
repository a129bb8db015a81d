"""Exact search of the nearest neighbours in blocks: the matrix of all distances never exists.

A block of queries passes over the bank tile by tile and carries its best candidates along. Where closeness is a
matrix product (``l2``, ``cosine``) a few more candidates than asked for are kept, and their distances are computed
once more as sums over differences: equal rows are at distance 0 exactly, and what a product rounds away does not
decide who is nearest.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vision.evaluation.distances import Bank, Metric, closeness, make_bank, paired_distance

_MARGIN = 8  # candidates beyond k, whose rounded distances may have put them behind
_GROUP = 32  # columns of which the largest is looked at first
_LEAST = 32  # columns of a tile that are not halved any further while rows can be
_MEBIBYTE = 2**20


class Neighbours(NamedTuple):
    """The nearest rows of a bank, the nearest first; of equal distances the earlier row of the bank.

    For ``l2`` and ``cosine`` that holds where no more than 8 rows beyond the k-th are as near as it but for rounding.

    Attributes:
      distance: float32 ``[queries, k]``: sum of absolute differences, Euclidean distance, or 1 - cosine.
      rows: int32 ``[queries, k]``, which rows of the bank.
    """

    distance: np.ndarray
    rows: np.ndarray


class Blocks(NamedTuple):
    """Rows of queries and of the bank that are compared at once, and how many such blocks at the same time."""

    queries: int
    bank: int
    workers: int


def search(
    queries: np.ndarray, bank: np.ndarray, *, k: int, metric: Metric = "l2", memory_mib: float = 1024.0
) -> Neighbours:
    """Returns the ``k`` nearest rows of ``bank`` for each query.

    The cosine of a row of zeros with anything is 0, as in scikit-learn.

    Args:
      queries: float32 ``[queries, features]``.
      bank: float32 ``[n, features]``; it has to fit the device beside the working memory.
      k: how many.
      metric: ``l1``, ``l2`` or ``cosine``.
      memory_mib: bound of the working memory beyond bank, queries and result, in MiB.

    Raises:
      ValueError: the arrays do not fit each other or hold values that are not finite, ``k`` is not in [1, n], or
        nothing can be done in so little memory.
    """
    check_bank(bank, k)
    if queries.ndim != 2 or queries.shape[1] != bank.shape[1]:
        raise ValueError(f"queries of shape {queries.shape} do not fit a bank of {bank.shape[1]} features")
    check_finite(queries, "the queries")
    distance = np.empty((len(queries), k), np.float32)
    rows = np.empty((len(queries), k), np.int32)
    if not len(queries):
        return Neighbours(distance, rows)
    blocks = choose_blocks(len(queries), len(bank), bank.shape[1], k=k, metric=metric, memory_mib=memory_mib)
    on_device = make_bank(jnp.asarray(bank, jnp.float32), metric)
    # The last block ends with the last query and repeats some of the one before: every block has one shape.
    starts = [min(start, len(queries) - blocks.queries) for start in range(0, len(queries), blocks.queries)]

    def of_block(start: int) -> tuple[np.ndarray, np.ndarray]:
        part = jnp.asarray(queries[start : start + blocks.queries], jnp.float32)
        return jax.device_get(search_block(part, on_device, k=k, metric=metric, columns=blocks.bank))

    # A loop within a compiled program runs on one core of a CPU; so there, several programs run at once.
    with ThreadPoolExecutor(blocks.workers) as pool:
        for start, found in zip(starts, pool.map(of_block, starts), strict=True):
            distance[start : start + blocks.queries], rows[start : start + blocks.queries] = found
    return Neighbours(distance, rows)


def check_bank(bank: np.ndarray, k: int) -> None:
    """Raises a ValueError where ``k`` neighbours cannot be found in a bank."""
    if bank.ndim != 2 or not bank.size:
        raise ValueError(f"a bank is an array [n, features] with something in it, got shape {bank.shape}")
    if not 1 <= k <= len(bank):
        raise ValueError(f"k must be in [1, {len(bank)}], the size of the bank, got {k}")
    check_finite(bank, "the bank")


def check_finite(array: np.ndarray, what: str) -> None:
    """Raises a ValueError that names the first row with a NaN or infinity."""
    for start in range(0, len(array), 1024):  # in parts, as the answer takes memory too
        finite = np.isfinite(array[start : start + 1024]).all(axis=1)
        if not finite.all():
            raise ValueError(f"{what}: row {start + int(np.argmin(finite))} has a value that is not finite")


def choose_blocks(queries: int, bank: int, features: int, *, k: int, metric: Metric, memory_mib: float) -> Blocks:
    """Returns the largest useful blocks whose working memory is within the bound.

    Raises:
      ValueError: one query at a time takes more.
    """
    workers = _cores() if jax.default_backend() == "cpu" else 1
    # An L1 block is to stay in a core's cache; a matrix product is the faster the larger, up to here.
    rows, columns = (512, 256) if metric == "l1" else (1024, 8192)
    rows, columns = min(rows, -(-queries // workers)), min(columns, bank)
    while (needed := workers * working_bytes(rows, columns, features, k=k)) > memory_mib * _MEBIBYTE:
        if columns > max(rows, _LEAST):
            columns = -(-columns // 2)
        elif rows > 1:
            rows = -(-rows // 2)
        elif workers > 1:
            workers = 1
        else:
            raise ValueError(
                f"memory_mib: {memory_mib:g} MiB are too little for {k} neighbours of {features:,} features, "
                f"which take {needed / _MEBIBYTE:.3g} at least"
            )
    return Blocks(rows, columns, workers)


def working_bytes(rows: int, columns: int, features: int, *, k: int) -> int:
    """Returns a bound of what one block takes: queries and tile with a copy of each, values, and candidates."""
    candidates = rows * (k + _MARGIN) * (_GROUP + 8)
    return 4 * (2 * rows * columns + 3 * (rows + columns) * (features + 16) + 2 * candidates)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@partial(jax.jit, static_argnames=("k", "metric", "columns"))
def search_block(
    queries: Float[Array, "queries features"], bank: Bank, *, k: int, metric: Metric, columns: int
) -> tuple[Float[Array, "queries k"], Int[Array, "queries k"]]:
    """Returns distances and rows of the nearest of one block of queries; the bank passes by ``columns`` at a time."""
    n = len(bank.rows)
    kept = k if metric == "l1" else min(k + _MARGIN, n)
    of_tile = closeness(queries, bank.centre, metric)

    def over_tile(tile, best):
        # The last tile ends with the bank; the rows it shares with the one before do not count twice.
        start = jnp.minimum(tile * columns, n - columns)
        rows = jax.lax.dynamic_slice_in_dim(bank.rows, start, columns)
        size = jax.lax.dynamic_slice_in_dim(bank.size, start, columns)
        again = start + jnp.arange(columns) < tile * columns
        values, places = top(jnp.where(again, -jnp.inf, of_tile(rows, size)), kept)
        values, chosen = jax.lax.top_k(jnp.concatenate([best[0], values], axis=1), kept)
        return values, jnp.take_along_axis(jnp.concatenate([best[1], places + start], axis=1), chosen, axis=1)

    nothing = jnp.full((len(queries), kept), -jnp.inf), jnp.zeros((len(queries), kept), jnp.int32)
    values, index = jax.lax.fori_loop(0, -(-n // columns), over_tile, nothing)
    if metric == "l1":
        return -values, index
    index = jnp.sort(index, axis=1)  # of equal distances the first is chosen below
    exact = jax.lax.map(lambda column: paired_distance(queries, bank.rows[column], metric), index.T).T
    values, chosen = jax.lax.top_k(-exact, k)
    return -values, jnp.take_along_axis(index, chosen, axis=1)


def top(values: Float[Array, "rows columns"], k: int) -> tuple[Float[Array, "rows kept"], Int[Array, "rows kept"]]:
    """Returns the largest values of each row, k or all, and their columns; of equal ones the first.

    The k largest stand in the k groups of columns with the largest maxima, so that only these are searched: on a
    CPU a search over whole rows takes many times longer than their maxima.
    """
    rows, columns = values.shape
    k = min(k, columns)
    if columns < 2 * _GROUP * k:
        found, index = jax.lax.top_k(values, k)
        return found, index
    padding = ((0, 0), (0, -columns % _GROUP))
    grouped = jnp.pad(values, padding, constant_values=-jnp.inf).reshape(rows, -1, _GROUP)
    _, groups = jax.lax.top_k(jnp.max(grouped, axis=2), k)
    groups = jnp.sort(groups, axis=1)  # in the order of columns, so that the first of equal values stays first
    candidates = jnp.take_along_axis(grouped, groups[:, :, None], axis=1).reshape(rows, -1)
    found, chosen = jax.lax.top_k(candidates, k)
    return found, jnp.take_along_axis(groups, chosen // _GROUP, axis=1) * _GROUP + chosen % _GROUP
