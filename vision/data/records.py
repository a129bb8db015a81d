"""Encoded images with arrays beside them: a folder of images, captioned images, tar shards."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from vision.data.digest import digest_files
from vision.data.source import Example, check_labels


@runtime_checkable
class Encoded(Protocol):
    """Encoded images by position."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes:
        """Returns one encoded image."""
        ...

    def where(self, index: int) -> str:
        """Returns its path."""
        ...

    def files(self) -> list[Path]:
        """Returns the files that hold the images."""
        ...


@dataclass(frozen=True)
class Files:
    """Images that are files of their own.

    Attributes:
      paths: of the files.
    """

    paths: tuple[Path, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> bytes:
        """Returns the content of a file."""
        return self.paths[index].read_bytes()

    def where(self, index: int) -> str:
        """Returns the path."""
        return str(self.paths[index])

    def files(self) -> list[Path]:
        """Returns all paths."""
        return list(self.paths)


@dataclass(frozen=True)
class RecordSource:
    """Encoded images with arrays beside them.

    Attributes:
      images: encoded.
      arrays: entries of the examples with a common leading axis, as long as ``images``; held in memory.
      num_classes: how many classes a label can name; 0 without labels.
      class_names: their names, where known.

    Raises:
      ValueError: there are no images, the lengths differ, or a label is no class.
    """

    images: Encoded
    arrays: Mapping[str, np.ndarray]
    num_classes: int = 0
    class_names: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self):
        lengths = {"image": len(self.images), **{name: len(array) for name, array in self.arrays.items()}}
        if len(set(lengths.values())) != 1 or not len(self.images):
            raise ValueError(f"a source needs entries of one common, positive length, got {lengths}")
        if "label" in self.arrays:
            check_labels(self.arrays["label"], self.num_classes)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def fields(self) -> tuple[str, ...]:
        """``image`` and the names of the arrays."""
        return ("image", *self.arrays)

    def read(self, indices: Sequence[int]) -> list[Example]:
        """Returns the examples at ``indices``; a file that is gone or forbidden comes as empty bytes.

        Raises:
          OSError: any other trouble in reading: what passes must not look like a broken image.
        """
        return [
            {"image": self._image(int(index)), **{name: array[index] for name, array in self.arrays.items()}}
            for index in indices
        ]

    def _image(self, index: int) -> bytes:
        try:
            return self.images.read(index)
        except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError):
            return b""  # does not decode, and so is named or passed over like any broken image

    def where(self, index: int) -> str:
        """Returns the image's path."""
        return self.images.where(index)

    def labels(self) -> np.ndarray:
        """Returns all labels."""
        return self.arrays["label"]

    @cached_property
    def fingerprint(self) -> str:
        """Over the arrays and the files: their names, sizes and contents (:func:`digest_files`)."""
        digest = hashlib.sha256(digest_files(self.images.files()).encode())
        for name, array in sorted(self.arrays.items()):
            digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]
