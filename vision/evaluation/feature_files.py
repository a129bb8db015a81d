"""Features on disk: what one checkpoint gives of a split need not be made again by a later evaluation."""

import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from vision.data.pipeline import Pipeline
from vision.evaluation.outputs import Gathered

_LABEL = "label"  # stands beside the outputs, under a name that none of them has
_PACKAGE = Path(__file__).parent.parent
_MAKERS = ("data", "models", "objectives", "evaluation/outputs.py")  # the code that features depend on


class FeatureFiles:
    """A folder with a file for each output of each split; a file is there whole, or not at all.

    A file's name is a digest of everything that its contents depend on, and says nothing else; the same stands inside.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any], note: Callable[[str], None]):
        """Looks at nothing yet.

        Args:
          folder: made where it is not there.
          key: what the features depend on beside the examples, as JSON: the weights, the model, what is done to images.
          note: told what was found, and what is broken.
        """
        self.folder, self._key, self._note = folder, dict(key), note

    def read(self, pipeline: Pipeline, names: Collection[str]) -> Gathered | None:
        """Returns what there is of these outputs; None where not even the labels are.

        Args:
          pipeline: of the split.
          names: of the outputs.
        """
        rows = len(pipeline.source)
        has_labels = _LABEL in pipeline.source.fields
        labels = self._load(pipeline, _LABEL, (rows,)) if has_labels else None
        outputs = {name: self._load(pipeline, name, (rows, -1)) for name in names}
        found = {name: array for name, array in outputs.items() if array is not None}
        if not found or (has_labels and labels is None):
            return None
        self._note(f"{', '.join(found)} of {rows:,} images: from {self.folder}")
        return Gathered(found, labels)

    def write(self, pipeline: Pipeline, made: Gathered) -> None:
        """Keeps features; where they cannot be written, that is told and done without."""
        arrays = made.outputs if made.labels is None else {**made.outputs, _LABEL: made.labels}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name, array in arrays.items():
                path, described = self._place(pipeline, name)
                partial = path.with_suffix(f".{os.getpid()}")
                try:
                    with partial.open("wb") as file:
                        np.savez(file, array=array, key=np.array(described))
                    partial.replace(path)
                finally:
                    partial.unlink(missing_ok=True)
        except OSError as error:
            self._note(f"features are not kept in {self.folder}: {error.strerror or error}")

    def _load(self, pipeline: Pipeline, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
        path, described = self._place(pipeline, name)
        if not path.is_file():
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                array, key = saved["array"], str(saved["key"])
        except MemoryError:  # says nothing about the file
            raise
        except Exception as error:  # on broken files, NumPy and zipfile raise whatever they stumble over
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            self._note(f"{path} is broken ({reason}); its features are made anew")
            return None
        fits = array.ndim == len(shape) and len(array) == shape[0]
        if key != described or not fits or array.dtype != (np.float32 if len(shape) == 2 else np.int32):
            self._note(f"{path} holds something else than its name says; its features are made anew")
            return None
        return array

    def _place(self, pipeline: Pipeline, name: str) -> tuple[Path, str]:
        parts = {**self._key, "code": _code(), "examples": pipeline.source.fingerprint, "output": name}
        described = json.dumps(parts, sort_keys=True)
        return self.folder / f"{hashlib.sha256(described.encode()).hexdigest()[:32]}.npz", described


@lru_cache
def _code() -> str:
    """A digest of the code that makes features: what other code has made is not taken for what this would."""
    digest = hashlib.sha256()
    for maker in _MAKERS:
        whole = _PACKAGE / maker
        for path in sorted(whole.rglob("*.py")) if whole.is_dir() else [whole]:
            digest.update(path.read_bytes())
    return digest.hexdigest()
