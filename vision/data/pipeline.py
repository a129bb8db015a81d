"""Pipelines: ``batch(step)``, a pure function, placed on the devices of this process."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from vision.data.host import HostPart, dtype_of
from vision.data.loader import Ahead, Chunks, Columns
from vision.data.materialize import materialize
from vision.data.order import InOrder, Order, Rows
from vision.data.source import ArraySource, Source
from vision.errors import UserError

Batch = dict[str, jax.Array]
Residency = Literal["auto", "device", "host"]
Note = Callable[[str], None]
RESIDENT_BYTES = 2**30


@dataclass(frozen=True)
class Pipeline:
    """Batches of a source: indices into a copy on the device, rows of arrays in memory, or images decoded ahead.

    Attributes:
      source: the examples.
      order: step -> which of them.
      sharding: of the batch axis over the mesh.
      image_shape: of one image, ``(height, width, channels)``.
      resident: the whole data set on every device, or empty where the host sends the examples; shapes where it is only
        to be compiled for.
      arrays: what the host gathers rows from, where it holds the data set in memory.
      ahead: what decodes on the host, where it does.
      failures: None, or a list that takes what goes wrong in decoding, while the batches from then on are black. So
        a process of several goes on until all of them stop together: left alone, the others would wait for ever.
    """

    source: Source
    order: Order
    sharding: NamedSharding
    image_shape: tuple[int, int, int]
    resident: dict[str, Any] = field(default_factory=dict, repr=False)
    arrays: Columns = field(default_factory=dict, repr=False)
    ahead: Ahead | None = None
    failures: list[str] | None = None

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns shapes and types of a batch; nothing is decoded."""
        size = self.order.batch_size
        shapes: dict[str, tuple[tuple[int, ...], np.dtype]] = {
            name: ((), np.dtype(np.int32)) for name in ("index", "visit")
        }
        shapes |= {name: (array.shape[1:], array.dtype) for name, array in self.arrays.items()}
        if self.ahead is not None:
            (example,) = self.source.read([0])
            entries = {name: np.asarray(example[name]) for name in self.source.fields if name != "image"}
            shapes |= {name: (entry.shape, entry.dtype) for name, entry in entries.items()}
            shapes["image"] = (self.image_shape, dtype_of(self.source))
        return {name: jax.ShapeDtypeStruct((size, *shape), dtype) for name, (shape, dtype) in shapes.items()}

    def batch(self, step: int) -> Batch:
        """Returns the global batch of a step; each process touches only the rows that its devices hold.

        Raises:
          UserError: an image does not decode.
        """
        batch = self._on_devices(self.order.rows(step))
        if self.ahead is not None:
            batch |= self._decoded(self._columns(step), self.sharding)
        return batch

    def stacked(self, step: int, count: int) -> Batch:
        """Returns the batches of ``count`` steps from ``step`` on, stacked along a new leading axis."""
        rows = [self.order.rows(k) for k in range(step, step + count)]
        batch = self._on_devices(Rows(np.stack([r.index for r in rows]), np.stack([r.visit for r in rows])))
        if self.ahead is not None:
            decoded = [self._columns(k) for k in range(step, step + count)]
            stacked = {name: np.stack([columns[name] for columns in decoded]) for name in decoded[0]}
            batch |= self._decoded(stacked, over_last(self.sharding, 2))
        return batch

    def close(self) -> None:
        """Ends the workers that decode ahead, if there are any."""
        if self.ahead is not None:
            self.ahead.close()

    def _columns(self, step: int) -> Columns:
        assert self.ahead is not None
        if not self.failures:
            try:
                return self.ahead(step)
            except UserError as error:
                if self.failures is None:
                    raise
                self.failures.append(str(error))
        local = len(local_rows(self.sharding, self.order.batch_size))
        spec = {name: each for name, each in self.spec().items() if name in self.source.fields}
        return {name: np.zeros((local, *each.shape[1:]), each.dtype) for name, each in spec.items()}

    def _on_devices(self, rows: Rows) -> Batch:
        sharding = over_last(self.sharding, rows.index.ndim)
        batch = {"index": place(rows.index, sharding), "visit": place(rows.visit, sharding)}
        for name, array in self.arrays.items():
            batch[name] = _gather(array, rows.index, sharding)
        return batch

    def _decoded(self, columns: Columns, sharding: NamedSharding) -> Batch:
        """Puts local rows where they belong in the global batch."""
        axis = len(sharding.spec) - 1
        size = self.order.batch_size
        local = local_rows(self.sharding, size)

        def one(column: np.ndarray) -> jax.Array:
            shape = (*column.shape[:axis], size, *column.shape[axis + 1 :])

            def rows(shard: tuple[slice, ...] | None) -> np.ndarray:
                wanted = (shard or (slice(None),) * (axis + 1))[axis]
                start, stop, _ = wanted.indices(size)
                first = int(np.searchsorted(local, start))
                return column[(slice(None),) * axis + (slice(first, first + stop - start),)]

            return jax.make_array_from_callback(shape, sharding, rows)

        return {name: one(column) for name, column in columns.items()}


def make_pipeline(
    source: Source,
    order: Order,
    part: HostPart,
    *,
    sharding: NamedSharding,
    residency: Residency,
    workers: int = 0,
    note: Note = lambda text: None,
    what: str = "data",
    failures: list[str] | None = None,
) -> Pipeline:
    """Returns the pipeline of a source in an order.

    Args:
      source: the examples.
      order: which of them make a batch.
      part: what the host does to an image.
      sharding: of the batch axis.
      residency: ``device`` decodes everything once and keeps it on every device; ``host`` sends each batch;
        ``auto`` is ``device`` where nothing about the host's part is drawn and the decoded set has less than 1 GiB.
      workers: processes that decode, where the host does; 0 for threads.
      note: told where the data live.
      what: names the data in that note.
      failures: see :class:`Pipeline`.

    Raises:
      ValueError: ``device`` for a random crop on the host.
      UserError: an image does not decode.
    """
    size = len(source) * _bytes_of_an_example(source, part)
    fits = size < RESIDENT_BYTES and not part.draws
    if residency == "device" and part.draws:
        raise ValueError(
            f"residency 'device' keeps decoded images, crop {part.crop['name']!r} takes another part at each visit; "
            "use residency 'host', or random_resized_crop in config.data.augment"
        )
    images = f"{what}: {len(source):,} images of {'x'.join(map(str, part.shape))}"
    if residency == "device" or (residency == "auto" and fits):
        everywhere = NamedSharding(sharding.mesh, PartitionSpec())
        arrays = _fixed(source, part)
        note(f"{images} live on the device ({sum(array.nbytes for array in arrays.values()) / 1e6:.1f} MB)")
        resident = {name: place(array, everywhere) for name, array in arrays.items()}
        return Pipeline(source, order, sharding, part.shape, resident)
    if isinstance(source, ArraySource) and not part.draws and _is_fixed(source, part):
        note(f"{images} live in the host's memory")
        return Pipeline(source, order, sharding, part.shape, arrays=dict(source.arrays))
    by = f"{workers} worker processes" if workers else "threads"
    note(f"{images} are decoded ahead by {by} of the host")
    chunks = Chunks(source, part, order, local_rows(sharding, order.batch_size))
    once = {"steps": order.num_batches} if isinstance(order, InOrder) else {}
    ahead = Ahead(chunks, workers=workers, **once)
    return Pipeline(source, order, sharding, part.shape, ahead=ahead, failures=failures)


def _bytes_of_an_example(source: Source, part: HostPart) -> int:
    (example,) = source.read([0])
    rest = sum(np.asarray(example[name]).nbytes for name in source.fields if name != "image")
    return int(np.prod(part.shape)) * dtype_of(source).itemsize + rest


def _fixed(source: Source, part: HostPart) -> Columns:
    if isinstance(source, ArraySource) and _is_fixed(source, part):
        return dict(source.arrays)
    return dict(materialize(source, part).arrays)


def _is_fixed(source: ArraySource, part: HostPart) -> bool:
    """Whether the host's part would leave the images of an array as they are."""
    return source.arrays["image"].shape[1:] == part.shape and part.crop in ({"name": "whole"}, _WHOLE_CENTER)


_WHOLE_CENTER = {"name": "center", "fraction": 1.0}


def place(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """Returns a host array on devices; each process copies only the parts that its devices hold."""
    return jax.make_array_from_callback(array.shape, sharding, array.__getitem__)


@lru_cache(maxsize=32)
def local_rows(sharding: NamedSharding, size: int) -> np.ndarray:
    """Returns the rows of a batch of ``size`` that the devices of this process hold, ascending."""
    rows: set[int] = set()
    for shard in sharding.addressable_devices_indices_map((size,)).values():
        wanted = (shard or (slice(None),))[0]
        rows.update(range(*wanted.indices(size)))
    return np.asarray(sorted(rows))


def _gather(array: np.ndarray, index: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """Returns ``array[index]`` on devices, gathering only the rows that the devices of this process hold."""

    def rows(shard: tuple[slice, ...] | None) -> np.ndarray:
        return array[index[(shard or ())[: index.ndim]]]

    return jax.make_array_from_callback((*index.shape, *array.shape[1:]), sharding, rows)


@lru_cache(maxsize=8)
def over_last(sharding: NamedSharding, batch_axes: int) -> NamedSharding:
    """Returns the sharding where the batch is the last of the leading axes, after that of a stack of batches."""
    return NamedSharding(sharding.mesh, PartitionSpec(*(None,) * (batch_axes - 1), *sharding.spec))
