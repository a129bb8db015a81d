"""Some of the classes of a data set, as if there were no others."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from vision.data.source import Example, Source, Subset, has_several_labels
from vision.errors import ConfigError, UserError, did_you_mean

_MANY = 40
_WHERE = "config.data.classes"


@dataclass(frozen=True)
class Renumbered:
    """Examples of some classes, numbered anew from 0 on.

    Attributes:
      source: examples of these classes alone.
      label: int32 ``[n]``, the new number of each example.
      classes: the number in ``source`` that each new number had.
    """

    source: Source
    label: np.ndarray = field(repr=False)
    classes: tuple[int, ...]

    @property
    def num_classes(self) -> int:
        """How many are left."""
        return len(self.classes)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Their names; where there are none, their numbers in the whole data set."""
        names = self.source.class_names
        return tuple(names[each] if names else str(each) for each in self.classes)

    @property
    def fields(self) -> tuple[str, ...]:
        """Those of the other source."""
        return self.source.fields

    def __len__(self) -> int:
        return len(self.source)

    def read(self, indices: Sequence[int]) -> list[Example]:
        """Returns the examples at ``indices``."""
        examples = self.source.read(indices)
        return [{**each, "label": self.label[index]} for index, each in zip(indices, examples, strict=True)]

    def where(self, index: int) -> str:
        """Returns what the other source says of the example."""
        return self.source.where(index)

    def labels(self) -> np.ndarray:
        """Returns all labels."""
        return self.label

    @cached_property
    def fingerprint(self) -> str:
        """Over that of the other source and the classes in their order."""
        return hashlib.sha256(f"{self.source.fingerprint} {self.classes}".encode()).hexdigest()[:16]


def of_classes(source: Source, classes: Sequence[int | str], what: str) -> Source:
    """Returns the examples of these classes, numbered from 0 on in the order given.

    Args:
      source: the examples of all classes.
      classes: by number or by name; a word that is no name but a number counts as one.
      what: names the data in messages.

    Raises:
      ConfigError: there is no such class, it is named twice, or the data have no single label for each example.
      UserError: none of the examples belongs to these classes.
    """
    if "label" not in source.fields or has_several_labels(source):
        kind = "several labels for one image" if "label" in source.fields else "no labels"
        raise ConfigError(f"{_WHERE}: {what} has {kind}; classes are chosen by one label for each image")
    numbers = tuple(_number(each, source, what) for each in classes)
    if not numbers:
        raise ConfigError(f"{_WHERE}: names no class; None takes all")
    for place, number in enumerate(numbers):
        if number in numbers[:place]:
            raise ConfigError(f"{_WHERE}: {classes[place]!r} is class {number} of {what}, which is named before")
    labels = source.labels()
    positions = np.flatnonzero(np.isin(labels, numbers))
    if not len(positions):
        raise UserError(f"{_WHERE}: none of the {len(source):,} examples of {what} is of class {_listed(classes)}")
    new = np.full(source.num_classes, -1, np.int32)
    new[list(numbers)] = np.arange(len(numbers))
    return Renumbered(Subset(source, positions), new[labels[positions]], numbers)


def _number(given: int | str, source: Source, what: str) -> int:
    names = source.class_names
    if isinstance(given, str) and given in names:
        return names.index(given)
    if isinstance(given, str) and given.isdecimal():
        given = int(given)
    if isinstance(given, int) and not isinstance(given, bool) and 0 <= given < source.num_classes:
        return given
    known = f"its classes are 0 to {source.num_classes - 1}"
    if names and len(names) <= _MANY and names != tuple(map(str, range(len(names)))):
        known = f"its classes: {', '.join(f'{number} {name}' for number, name in enumerate(names))}"
    near = did_you_mean(given, names) if isinstance(given, str) else ""
    raise ConfigError(f"{_WHERE}: {what} has no class {given!r}{near}; {known}")


def _listed(classes: Sequence[int | str]) -> str:
    *first, last = map(str, classes)
    return f"{', '.join(first)} or {last}" if first else last
