"""Decoding a whole split once: to hold it in memory, or to learn which of its images do not decode."""

import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vision.data.decode import DecodeError
from vision.data.host import HostPart, OnError
from vision.data.loader import Columns, columns, threads_for
from vision.data.source import ArraySource, Source, Subset
from vision.data.sources.mixture import Mixture
from vision.errors import UserError

Note = Callable[[str], None]
_CHUNK = 256


def materialize(source: Source, part: HostPart) -> ArraySource:
    """Returns a source with every image decoded, cropped and resized, in memory.

    Raises:
      UserError: an image does not decode.
    """

    def decode(start: int) -> Columns:
        index = np.arange(start, min(start + _CHUNK, len(source)))
        return columns(source, part, index, np.zeros_like(index))

    chunks = _parallel(decode, source, "decoding")
    arrays = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
    return ArraySource(arrays, source.num_classes, source.class_names)


def usable(source: Source, part: HostPart, on_error: OnError, note: Note) -> Source:
    """Returns the source without the images that do not decode; they are counted, and the first are named.

    With ``error`` nothing is looked at, and the source is returned as it is. With ``skip`` every image is decoded
    once, so that which examples there are, and with them every batch, is settled before the training begins. The
    answer is kept in the user's cache folder.

    Raises:
      UserError: no image decodes, or a file cannot be read, which may pass.
    """
    if on_error == "error" or isinstance(source, ArraySource):
        return source
    if isinstance(source, Mixture):
        return replace(source, sources=tuple(usable(each, part, on_error, note) for each in source.sources))
    memory = _memory(source, part)
    failed = _recall(memory, len(source))
    if failed is None:
        plain = replace(part, crop={"name": "whole"})  # a random crop decodes the same pixels

        def check(start: int) -> list[tuple[int, str]]:
            found = []
            for index in range(start, min(start + _CHUNK, len(source))):
                try:
                    plain(source.read([index])[0]["image"], visit=0, index=index)
                except DecodeError as error:
                    if isinstance(error.__cause__, MemoryError):  # passes, and must not be remembered as a broken file
                        raise UserError(f"{source.where(index)}: not enough memory to decode it") from error
                    found.append((index, str(error)))
                except OSError as error:
                    raise UserError(f"{source.where(index)} cannot be read: {error.strerror}") from error
            return found

        failed = [each for chunk in _parallel(check, source, "checking") for each in chunk]
        _remember(memory, failed)
    if not failed:
        return source
    if len(failed) == len(source):
        raise UserError(f"none of {len(source)} images decodes, the first: {source.where(0)}: {failed[0][1]}")
    shown = "; ".join(f"{source.where(index)}: {reason}" for index, reason in failed[:3])
    note(f"skipped {len(failed)} of {len(source)} images that do not decode: {shown}{'; ...' * (len(failed) > 3)}")
    return Subset(source, np.setdiff1d(np.arange(len(source)), [index for index, _ in failed]))


def _parallel(function: Callable, source: Source, what: str) -> list:
    """Calls ``function(start)`` for the chunks of a source, in threads."""
    count = len(source)
    starts = range(0, count, _CHUNK)
    with ThreadPoolExecutor(threads_for(source)) as pool:
        bar = tqdm(total=count, desc=what, unit=" images", leave=False, disable=not sys.stderr.isatty() or count < 5000)
        results = []
        with bar:
            try:
                for result in pool.map(function, starts):
                    results.append(result)
                    bar.update(_CHUNK)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return results


def _memory(source: Source, part: HostPart) -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "functional-vision" / "usable" / f"{source.fingerprint}-{part.decoder}.json"


def _recall(memory: Path, count: int) -> list[tuple[int, str]] | None:
    """What was found earlier; None where nothing was, or the file is broken."""
    try:
        failed = [(int(index), str(reason)) for index, reason in json.loads(memory.read_text())]
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return failed if all(0 <= index < count for index, _ in failed) else None


def _remember(memory: Path, failed: list[tuple[int, str]]) -> None:
    """A cache that cannot be written is done without."""
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        partial = memory.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(failed))
        partial.replace(memory)
    except OSError:
        return
