"""The safetensors format: named arrays in one file, with a header and nothing that runs."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import ml_dtypes  # noqa: F401 (teaches NumPy bfloat16, which such files hold)
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from vision.errors import UserError

# A float of 8 bits or fewer is a quantised weight, which means nothing without the scales beside it.
_TYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL")


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns ``(arrays, metadata)`` of a file.

    The header is held against the size of the file before any array is made, so a false one costs no memory.

    Raises:
      UserError: the file is cut short, is no safetensors file, or holds types that are no weights.
    """
    try:
        with safe_open(path, framework="np") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            odd = next((name for name, kind in kinds.items() if kind not in _TYPES), None)
            if odd is not None:
                raise UserError(f"{path}: {odd} has type {kinds[odd]}; known are {', '.join(_TYPES)}")
            return {name: file.get_tensor(name) for name in kinds}, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is no whole safetensors file ({_reason(error, path)}); get it again") from error


def write_safetensors(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes a file whole or not at all.

    Raises:
      UserError: it cannot be written.
    """
    partial = path.with_name(f"{path.name}.partial")
    # The library writes memory as it lies: an array that is not contiguous would come back with its numbers mixed up.
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(contiguous, partial, metadata=dict(metadata))
        os.replace(partial, path)
    except (SafetensorError, OSError) as error:
        with suppress(OSError):
            partial.unlink()
        raise UserError(f"cannot write {path}: {_reason(error, path)}") from error


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = (str(error).splitlines() or [type(error).__name__])[0].removeprefix("Error while deserializing header: ")
    if "not fully covered" in text or "header length" in text:
        return f"its header speaks of other than these {path.stat().st_size:,} bytes: it was cut short or altered"
    return text[:200]
