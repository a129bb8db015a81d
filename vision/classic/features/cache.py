"""Arrays kept on disk under a key, written whole or not at all, the least recently used removed first."""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

MOST_BYTES = 8 * 2**30
_PACKAGES = ("numpy", "scikit-learn", "scikit-image", "opencv-python-headless", "jax")


def folder() -> Path:
    """Returns the folder of the files: ``functional-vision/features`` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "functional-vision" / "features"


def key(**parts: Any) -> str:
    """Returns 64 hexadecimal digits, a SHA-256 over the parts, the libraries' versions and the code of this package."""
    versions = {name: metadata.version(name) for name in _PACKAGES}
    text = json.dumps({**parts, "versions": versions, "code": _code()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@lru_cache
def _code() -> str:
    """A digest of the package's files: what other code has computed is not taken for what this code would."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def recall(name: str) -> dict[str, np.ndarray] | None:
    """Returns the arrays kept under a key; None where there are none, or the file is broken."""
    path = folder() / f"{name}.npz"
    try:
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        os.utime(path)
    except (FileNotFoundError, MemoryError):  # too little memory now says nothing about the file
        return None
    except Exception:  # on broken files, NumPy and zipfile raise whatever they stumble over
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    return arrays


def remember(name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Keeps arrays under a key and says where; a cache that cannot be written is done without."""
    size = sum(array.nbytes for array in arrays.values())
    if size > MOST_BYTES:
        _say(f"{_size(size)} are not kept: all together may take {_size(MOST_BYTES)}")
        return
    path = folder() / f"{name}.npz"
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        removed = _make_room(size)
        with open(partial, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # the stubs take a name for allow_pickle
        partial.replace(path)
        gone = f"; the {removed[0]} oldest files, {_size(removed[1])}, are removed" if removed[0] else ""
        _say(f"{_size(size)} kept in {path.parent} (at most {_size(MOST_BYTES)}){gone}")
    except OSError as error:
        _say(f"nothing is kept in {path.parent}: {error.strerror or error}")
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _make_room(size: int) -> tuple[int, int]:
    """Removes the files unused for longest until another of ``size`` bytes fits; returns how many and how large."""
    found = []
    for path in folder().iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process made room
            status = path.stat()
            found.append((status.st_mtime, status.st_size, path))
    total, count, freed = sum(bytes for _, bytes, _ in found) + size, 0, 0
    for _, bytes, path in sorted(found):
        if total - freed <= MOST_BYTES:
            break
        path.unlink(missing_ok=True)
        count, freed = count + 1, freed + bytes
    return count, freed


def _size(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**28 else f"{size / 2**20:.1f} MiB"


def _say(text: str) -> None:
    print(f"features: {text}", file=sys.stderr, flush=True)
