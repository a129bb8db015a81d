"""Sources: random-access sequences of examples, whatever they come from."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np

Example = dict[str, Any]


@runtime_checkable
class Source(Protocol):
    """What the pipeline reads from.

    An example has ``image``, either encoded ``bytes`` or uint8 ``[height, width, channels]`` (float32 where they are
    features and no pixels, see :mod:`vision.data.sources.features`), and may have ``label`` (an int32 class, or float32
    ``[classes]`` of zeros and ones where one image can have several), ``caption`` (uint8 ``[captions, bytes]`` in
    UTF-8, padded with zeros) with ``num_captions``, and ``target`` (float32 ``[outputs]``).
    """

    @property
    def num_classes(self) -> int:
        """How many classes a label can name; 0 without labels; for regression, the number of outputs."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, where known."""
        ...

    @property
    def fields(self) -> tuple[str, ...]:
        """The entries of an example."""
        ...

    def __len__(self) -> int: ...

    def read(self, indices: Sequence[int]) -> list[Example]:
        """Returns the examples at ``indices``."""
        ...

    def where(self, index: int) -> str:
        """Returns the path, or whatever tells a person which example that is."""
        ...

    def labels(self) -> np.ndarray:
        """Returns all labels, ``[n]`` or ``[n, classes]``."""
        ...

    @property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of a SHA-256 over the examples, before anything is decoded."""
        ...


@dataclass(frozen=True)
class ArraySource:
    """Examples held in memory as arrays with a common leading axis.

    Attributes:
      arrays: for example ``image`` uint8 ``[n, height, width, channels]`` and ``label`` int32 ``[n]``.
      num_classes: how many classes a label can name; for regression, the number of outputs.
      class_names: their names, where known.

    Raises:
      ValueError: the arrays are empty or differ in length, or a label is no class.
    """

    arrays: Mapping[str, np.ndarray]
    num_classes: int
    class_names: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self):
        lengths = {name: len(array) for name, array in self.arrays.items()}
        if len(set(lengths.values())) != 1 or not min(lengths.values()):
            raise ValueError(f"a source needs arrays of one common, positive length, got {lengths}")
        if "label" in self.arrays:
            check_labels(self.arrays["label"], self.num_classes)

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, indices: int | Sequence[int] | np.ndarray) -> Example:
        """Returns the example, or the stacked examples, at ``indices``."""
        return {name: array[indices] for name, array in self.arrays.items()}

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the arrays."""
        return tuple(self.arrays)

    def read(self, indices: Sequence[int]) -> list[Example]:
        """Returns the examples at ``indices``."""
        return [self[int(index)] for index in indices]

    def where(self, index: int) -> str:
        """Returns the example's number."""
        return f"example {index}"

    def labels(self) -> np.ndarray:
        """Returns all labels."""
        return self.arrays["label"]

    @cached_property
    def fingerprint(self) -> str:
        """Over names, types, shapes and contents."""
        digest = hashlib.sha256()
        for name, array in sorted(self.arrays.items()):
            digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Subset:
    """Some examples of another source, in the order given; both have the same classes.

    Attributes:
      source: the other.
      positions: int64 ``[n]``, positions in it.
    """

    source: Source
    positions: np.ndarray = field(repr=False)

    @property
    def num_classes(self) -> int:
        """That of the whole."""
        return self.source.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Those of the whole."""
        return self.source.class_names

    @property
    def fields(self) -> tuple[str, ...]:
        """Those of the whole."""
        return self.source.fields

    def __len__(self) -> int:
        return len(self.positions)

    def read(self, indices: Sequence[int]) -> list[Example]:
        """Returns the examples at ``indices``."""
        return self.source.read([int(self.positions[index]) for index in indices])

    def where(self, index: int) -> str:
        """Returns what the whole says of the example."""
        return self.source.where(int(self.positions[index]))

    def labels(self) -> np.ndarray:
        """Returns all labels."""
        return self.source.labels()[self.positions]

    @cached_property
    def fingerprint(self) -> str:
        """Over that of the whole and the positions."""
        text = self.source.fingerprint.encode()
        return hashlib.sha256(text + self.positions.astype("<i8").tobytes()).hexdigest()[:16]


MAX_CLASSES = 2**20


def check_labels(labels: np.ndarray, num_classes: int) -> None:
    """Raises a ValueError for labels that are no classes; they would silently add nothing to a loss."""
    if num_classes > MAX_CLASSES:
        raise ValueError(f"{num_classes} classes are more than {MAX_CLASSES}; is the label a number of something else?")
    if labels.ndim == 2:
        if labels.shape[1] != num_classes:
            raise ValueError(f"labels over {labels.shape[1]} classes, expected {num_classes}")
    elif np.issubdtype(labels.dtype, np.integer) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise ValueError(f"labels reach from {labels.min()} to {labels.max()}, the classes from 0 to {num_classes - 1}")


def several_hot(classes: Sequence[Sequence[int]], num_classes: int) -> np.ndarray:
    """Returns float32 ``[n, classes]`` with ones at the classes of each example.

    Raises:
      ValueError: a class is not one of 0 to ``num_classes - 1``.
    """
    outside = next((number for each in classes for number in each if not 0 <= number < num_classes), None)
    if outside is not None:
        raise ValueError(f"class {outside}, the classes reach from 0 to {num_classes - 1}")
    label = np.zeros((len(classes), num_classes), np.float32)
    for position, each in enumerate(classes):
        label[position, list(each)] = 1
    return label


def has_several_labels(source: Source) -> bool:
    """Returns whether a label is zeros and ones over the classes."""
    return "label" in source.fields and np.ndim(source.read([0])[0]["label"]) == 1
