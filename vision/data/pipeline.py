"""Pipelines: ``batch(step)``, a pure function, placed on the devices of this process."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from vision.data.order import Order, Rows
from vision.data.source import ArraySource

Batch = dict[str, jax.Array]
Residency = Literal["auto", "device", "host"]
_RESIDENT_BYTES = 2**30


@dataclass(frozen=True)
class Pipeline:
    """Batches of a source, either as indices into a copy on the device or as the examples themselves.

    Attributes:
      source: the examples.
      rows: step -> which of them.
      sharding: of the batch axis over the mesh.
      resident: the whole data set on every device, or empty where the host sends the examples.
    """

    source: ArraySource
    rows: Callable[[int], Rows]
    sharding: NamedSharding
    resident: Batch

    def batch(self, step: int) -> Batch:
        """Returns the global batch of a step; each process touches only the rows that its devices hold."""
        return self._on_devices(self.rows(step))

    def stacked(self, step: int, count: int) -> Batch:
        """Returns the batches of ``count`` steps from ``step`` on, stacked along a new leading axis."""
        batches = [self.rows(k) for k in range(step, step + count)]
        index, visit = np.stack([rows.index for rows in batches]), np.stack([rows.visit for rows in batches])
        return self._on_devices(Rows(index, visit))

    def _on_devices(self, rows: Rows) -> Batch:
        sharding = _over_last(self.sharding, rows.index.ndim)
        batch = {"index": place(rows.index, sharding), "visit": place(rows.visit, sharding)}
        if not self.resident:
            for name, array in self.source.arrays.items():
                batch[name] = _gather(array, rows.index, sharding)
        return batch


def place(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """Returns a host array on devices; each process copies only the parts that its devices hold."""
    return jax.make_array_from_callback(array.shape, sharding, array.__getitem__)


def _gather(array: np.ndarray, index: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """Returns ``array[index]`` on devices, gathering only the rows that the devices of this process hold."""

    def rows(shard: tuple[slice, ...] | None) -> np.ndarray:
        return array[index[(shard or ())[: index.ndim]]]

    return jax.make_array_from_callback((*index.shape, *array.shape[1:]), sharding, rows)


@lru_cache(maxsize=8)
def _over_last(sharding: NamedSharding, batch_axes: int) -> NamedSharding:
    """The batch is the last of the leading axes; a stack of batches has the step axis before it."""
    return NamedSharding(sharding.mesh, PartitionSpec(*(None,) * (batch_axes - 1), *sharding.spec))


def training_pipeline(
    source: ArraySource, *, batch_size: int, seed: int, sharding: NamedSharding, residency: Residency
) -> Pipeline:
    """Returns the endless shuffled pipeline of training.

    ``residency`` ``auto`` keeps the data set on the device where it takes less than 1 GiB.
    """
    rows = Order(len(source), batch_size, seed).rows
    return Pipeline(source, rows, sharding, _resident(source, sharding, residency))


def evaluation_pipeline(
    source: ArraySource, *, batch_size: int, sharding: NamedSharding, residency: Residency
) -> tuple[Pipeline, tuple[np.ndarray, ...]]:
    """Returns one pass in order and the mask of each batch; the last is padded with example 0 where it is False."""
    count = len(source)
    positions = [np.arange(start, start + batch_size) for start in range(0, count, batch_size)]

    def rows(step: int) -> Rows:
        index = np.where(positions[step] < count, positions[step], 0).astype(np.int32)
        return Rows(index, np.zeros(batch_size, np.int32))

    masks = tuple(position < count for position in positions)
    return Pipeline(source, rows, sharding, _resident(source, sharding, residency)), masks


def _resident(source: ArraySource, sharding: NamedSharding, residency: Residency) -> Batch:
    size = sum(array.nbytes for array in source.arrays.values())
    if residency == "host" or (residency == "auto" and size >= _RESIDENT_BYTES):
        return {}
    everywhere = NamedSharding(sharding.mesh, PartitionSpec())
    return {name: place(array, everywhere) for name, array in source.arrays.items()}
