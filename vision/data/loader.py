"""Reading and decoding ahead of the training: chunks of batches, by Grain, in threads or worker processes."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vision.data.decode import DecodeError
from vision.data.host import HostPart, is_features
from vision.data.order import Order, Rows
from vision.data.source import Source
from vision.errors import UserError

_CHUNK_ROWS = 32
_BATCHES_AHEAD = 2
_STEPS = 2**40
_SMALL_BYTES = 8192
_STEPS_REMEMBERED = 8
Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Chunks:
    """The host's work cut into pieces: piece ``c`` is part ``c % parts`` of the rows of step ``c // parts``.

    A pure function of its number, picklable, and free of JAX: whichever worker does a piece, its bits are the same.

    Attributes:
      source: the examples.
      part: what is done to each.
      order: which of them.
      local: the rows of a batch that this process holds, ascending.
    """

    source: Source
    part: HostPart
    order: Order
    local: np.ndarray
    _recent: dict[int, Rows] = field(default_factory=dict, repr=False, compare=False)

    @property
    def parts(self) -> int:
        """Pieces of a batch."""
        return -(-len(self.local) // _CHUNK_ROWS)

    def __call__(self, number: int) -> Columns:
        """Returns the columns of one piece, or ``error`` with a message, where an image does not decode."""
        step, part = divmod(int(number), self.parts)
        rows = self._rows(step)
        local = np.array_split(self.local, self.parts)[part]
        index, visit = rows.index[local], rows.visit[local]
        try:
            return columns(self.source, self.part, index, visit)
        except UserError as error:
            return {"error": np.frombuffer(str(error).encode(errors="replace"), np.uint8)}

    def _rows(self, step: int) -> Rows:
        """The rows of a step, worked out once for its pieces; balancing a thousand classes takes a while."""
        rows = self._recent.get(step)
        if rows is None:
            for old in sorted(self._recent)[:-_STEPS_REMEMBERED]:
                self._recent.pop(old, None)
            rows = self._recent[step] = self.order.rows(step)
        return rows


def columns(source: Source, part: HostPart, index: np.ndarray, visit: np.ndarray) -> Columns:
    """Returns examples stacked, their images decoded.

    Raises:
      UserError: an image does not decode, and is named; or a file cannot be read.
    """
    try:
        examples = source.read(index.tolist())
    except OSError as error:
        raise UserError(f"{error.filename or source.where(int(index[0]))} cannot be read: {error.strerror}") from error
    kept = any(is_features(example["image"]) for example in examples[:1])
    images = np.empty((len(index), *part.shape), np.float32 if kept else np.uint8)
    for row, example in enumerate(examples):
        try:
            images[row] = part(example["image"], visit=int(visit[row]), index=int(index[row]))
        except DecodeError as error:
            cure = "mend or remove it, or set config.data.on_error=skip"
            raise UserError(f"{source.where(int(index[row]))}: the image does not decode: {error}; {cure}") from error
    rest = [name for name in source.fields if name != "image"]
    return {"image": images, **{name: np.stack([np.asarray(example[name]) for example in examples]) for name in rest}}


def threads_for(source: Source) -> int:
    """Returns how many threads decode a source: all cores for photographs, one for small images.

    Decoders leave Python's lock while they work; for a small image that is so short that threads only get in each
    other's way.
    """
    try:
        images = [example["image"] for example in source.read(sorted({0, len(source) // 2, len(source) - 1}))]
    except OSError:
        return 1  # comes again where it is named
    if isinstance(images[0], np.ndarray) or max(map(len, images)) < _SMALL_BYTES:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Ahead:
    """The columns of a step's local rows, made ahead of time as long as the steps are asked for in order.

    What a call returns depends on its step alone; asking out of order only costs a new start.
    """

    def __init__(self, chunks: Chunks, *, workers: int, steps: int = _STEPS):
        """Starts nothing yet.

        Args:
          chunks: the work.
          workers: processes; 0 for threads in this one (:func:`threads_for`).
          steps: after which nothing is made ahead.
        """
        self._chunks, self._workers, self._steps = chunks, workers, steps
        self._next: int | None = None
        self._pieces: Iterator[Columns] | None = None

    def __call__(self, step: int) -> Columns:
        """Returns the columns of one step.

        Raises:
          UserError: an image does not decode, or a worker died.
        """
        if self._pieces is None or self._next != step:
            self.close()
            self._pieces = self._start(step)
        try:
            pieces = [next(self._pieces) for _ in range(self._chunks.parts)]
        except RuntimeError as error:  # so Grain says that a process is gone
            self.close()
            raise UserError(
                "a worker process died, perhaps for want of memory; the same command resumes from the last "
                "checkpoint, config.data.workers says how many there are"
            ) from error
        self._next = step + 1
        for piece in pieces:
            if "error" in piece:
                self.close()
                raise UserError(bytes(piece["error"]).decode())
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

    def close(self) -> None:
        """Ends the workers."""
        close: Any = getattr(self._pieces, "close", None)
        if close is not None:
            close()
        self._pieces, self._next = None, None

    def _start(self, step: int) -> Iterator[Columns]:
        import grain
        from absl import flags

        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain reads its flags, and this program has none of absl's
        ahead = _BATCHES_AHEAD * self._chunks.parts
        first = step * self._chunks.parts
        pieces = grain.MapDataset.range(first, self._steps * self._chunks.parts).map(self._chunks)
        if self._workers:
            one = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
            options = grain.MultiprocessingOptions(
                num_workers=self._workers, per_worker_buffer_size=max(1, -(-ahead // self._workers))
            )
            made = pieces.to_iter_dataset(one).mp_prefetch(options, worker_init_fn=_start_worker)
        else:
            threads = threads_for(self._chunks.source)
            made = pieces.to_iter_dataset(
                grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(ahead, threads))
            )
        return iter(made)


def _start_worker(number: int, count: int) -> None:
    """Ctrl-C is for the main process, which ends its workers when it has saved; OpenCV's threads would be too many.

    A worker whose main process was killed would wait forever to hand over its next piece, so it looks after it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    import cv2

    cv2.setNumThreads(1)


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
