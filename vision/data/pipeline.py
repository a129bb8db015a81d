"""Pipelines: ``batch(step)``, a pure function, placed on the devices of this process."""

from collections.abc import Callable
from dataclasses import dataclass
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
        rows = self.rows(step)
        batch = {"index": self._place(rows.index), "epoch": self._place(rows.epoch)}
        if not self.resident:
            for name, array in self.source.arrays.items():
                batch[name] = self._gather(array, rows.index)
        return batch

    def stacked(self, step: int, count: int) -> Batch:
        """Returns the batches of ``count`` steps from ``step`` on, stacked along a new leading axis."""
        batches = [self.rows(k) for k in range(step, step + count)]
        index, epoch = (np.stack(field) for field in zip(*batches, strict=True))
        batch = {"index": self._place(index), "epoch": self._place(epoch)}
        if not self.resident:
            for name, array in self.source.arrays.items():
                batch[name] = self._gather(array, index)
        return batch

    def _place(self, rows: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(rows.shape, self._over(rows.ndim), lambda shard: rows[shard])

    def _gather(self, array: np.ndarray, index: np.ndarray) -> jax.Array:
        shape = (*index.shape, *array.shape[1:])
        return jax.make_array_from_callback(
            shape, self._over(index.ndim), lambda shard: array[index[shard[: index.ndim]]]
        )

    def _over(self, batch_axes: int) -> NamedSharding:
        """The batch is the last of the leading axes; a stack of batches has the step axis before it."""
        spec = PartitionSpec(*(None,) * (batch_axes - 1), *self.sharding.spec)
        return NamedSharding(self.sharding.mesh, spec)


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
    return {
        name: jax.make_array_from_callback(array.shape, everywhere, lambda shard, array=array: array[shard])
        for name, array in source.arrays.items()
    }
