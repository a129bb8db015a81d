"""A weight file, or a folder of them, read by what it holds and not by what it is called."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vision.errors import UserError, did_you_mean
from vision.interop.branches import pick, without_heads
from vision.interop.hub import download, is_hub_name
from vision.interop.pickles import read_torch
from vision.interop.tensors import read_safetensors

Note = Callable[[str], None]
# In the order in which a folder is searched; the index tells which files hold what.
STANDARD = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
)
_CONFIGS = ("config.json", "open_clip_config.json")
_JSON_BYTES = 2**26
_BEGINNINGS = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89HDF": "an HDF5 file, as Keras writes them",
    b"GGUF": "a GGUF file",
    b"\x93NUMPY": "a NumPy array",
    b"\x1f\x8b": "a gzip archive",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself (git lfs pull gets it)",
    b"<": "a page of text, as a failed download leaves behind",
    b"{": "a JSON file",
}


class Weights(NamedTuple):
    """Everything a weight file says.

    Attributes:
      arrays: by the file's names.
      config: ``config.json`` or ``open_clip_config.json`` beside it, or empty.
      preprocessor: ``preprocessor_config.json`` beside it, or empty.
      files: file name -> SHA-256 of its bytes.
      source: the path or name it was asked for by.
    """

    arrays: dict[str, np.ndarray]
    config: Mapping[str, Any]
    preprocessor: Mapping[str, Any]
    files: Mapping[str, str]
    source: str


def read_weights(source: str | Path, *, branch: str | None = None, note: Note = lambda text: None) -> Weights:
    """Reads weights from a safetensors file, a PyTorch file, a folder as Hugging Face's, or the Hugging Face Hub.

    Args:
      source: path of a file or a folder, ``hf:owner/name``, or ``owner/name`` where nothing of that name lies here.
      branch: which of several networks in a file of a training run, such as ``student``; None takes the average
        (``teacher``, an EMA) where there is one.
      note: told what was downloaded, and which branch was taken.

    Raises:
      UserError: it is not there, is cut short, or holds something else; one sentence says what to do.
    """
    path = Path(source)
    if is_hub_name(str(source)) and not path.exists():
        path = download(str(source), note)
    if not path.exists():
        near = [str(each) for each in path.parent.glob("*")] if path.parent.is_dir() else []
        raise UserError(f"{source}: there is no such file or folder{did_you_mean(str(source), near)}")
    folder = path if path.is_dir() else path.parent
    file = _in_folder(path) if path.is_dir() else path
    read = _sharded if file.name.endswith(".index.json") else _single
    arrays, files = read(file, branch, note)
    if not arrays:
        raise UserError(f"{source} holds no arrays")
    arrays = without_heads(arrays, source=file.name, note=note)
    beside = path.is_dir() or file.name in STANDARD
    own = _CONFIGS[::-1] if file.name.startswith("open_clip") else _CONFIGS
    config = next((read_object(folder / name) for name in own if beside and (folder / name).is_file()), {})
    preprocessor = "preprocessor_config.json"
    prepared = read_object(folder / preprocessor) if beside and (folder / preprocessor).is_file() else {}
    return Weights(arrays, config, prepared, files, str(source))


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
      UserError: it is none.
    """
    try:
        if path.stat().st_size > _JSON_BYTES:
            raise ValueError(f"it has more than {_JSON_BYTES:,} bytes")
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object")
    return value


def _in_folder(folder: Path) -> Path:
    for name in STANDARD:
        if (folder / name).is_file():
            return folder / name
    if (folder / "checkpoints").is_dir():
        raise UserError(f"{folder} is a run or a converted checkpoint of this code, no weight file of another")
    found = sorted(folder.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    names = ", ".join(file.name for file in found[:4])
    what = f"holds {len(found)} weight files ({names}); name one of them" if found else "holds no weights"
    raise UserError(f"{folder} {what} (looked for {', '.join(STANDARD)})")


def _single(path: Path, branch: str | None, note: Note) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    return _read(path, branch, note), {path.name: _sha256(path)}


def _read(path: Path, branch: str | None, note: Note) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as file:
            head = file.read(64)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    if not head:
        raise UserError(f"{path} is empty; get it again")
    if head[8:9] == b"{":
        return pick(read_safetensors(path)[0], branch, source=path.name, note=note)
    if head[:1] == b"\x80" or head[:2] == b"PK":
        return read_torch(path, branch, note)
    what = next((what for beginning, what in _BEGINNINGS.items() if head.startswith(beginning)), None)
    if path.suffix == ".safetensors" and what is None:
        return read_safetensors(path)[0]
    raise UserError(
        f"{path} is {what or 'no weight file'}; what can be read are .safetensors files, and those of PyTorch"
    )


def _sharded(index: Path, branch: str | None, note: Note) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    listed = read_object(index).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
        raise UserError(f"{index} has no weight_map of names to files")
    arrays: dict[str, np.ndarray] = {}
    files: dict[str, str] = {}
    for name in sorted(set(listed.values())):
        # A file that is brought from elsewhere may not point out of its folder.
        if not re.fullmatch(r"[\w.-]+", name) or not (index.parent / name).is_file():
            raise UserError(f"{index} speaks of {name}, which is not in the folder; get it too")
        part, sums = _single(index.parent / name, None, note)
        arrays |= part
        files |= sums
    missing = sorted(set(listed) - set(arrays))
    if missing:
        raise UserError(f"{index} speaks of {missing[0]}, which {listed[missing[0]]} does not hold; get both again")
    return pick(arrays, branch, source=index.name, note=note), files


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
