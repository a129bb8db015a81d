"""Sources: random-access sequences of examples, whatever they come from."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from PIL import Image

Example = dict[str, np.ndarray]


@dataclass(frozen=True)
class ArraySource:
    """Examples held in memory as arrays with a common leading axis.

    Attributes:
      arrays: for example ``image`` uint8 ``[n, height, width, channels]`` and ``label`` int32 ``[n]``.
      num_classes: how many classes a label can name; for regression, the number of outputs.
      class_names: their names, where known.

    Raises:
      ValueError: the arrays are empty or differ in length.
    """

    arrays: Mapping[str, np.ndarray]
    num_classes: int
    class_names: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self):
        lengths = {name: len(array) for name, array in self.arrays.items()}
        if len(set(lengths.values())) != 1 or not min(lengths.values()):
            raise ValueError(f"a source needs arrays of one common, positive length, got {lengths}")

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, indices: int | Sequence[int] | np.ndarray) -> Example:
        """Returns the example, or the stacked examples, at ``indices``."""
        return {name: array[indices] for name, array in self.arrays.items()}

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of a SHA-256 over names, types, shapes and contents."""
        digest = hashlib.sha256()
        for name, array in sorted(self.arrays.items()):
            digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]


def decode(encoded: bytes) -> np.ndarray:
    """Returns an encoded image as uint8 ``[height, width, channels]`` with 1 channel for grey and 3 for colour."""
    with Image.open(io.BytesIO(encoded)) as image:
        array = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    return array if array.ndim == 3 else array[..., None]
