"""A weighted mixture of sources as one source."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from vision.data.source import Example, Source, several_hot
from vision.errors import UserError


@dataclass(frozen=True)
class Mixture:
    """Sources one after another; the order draws from each by its weight.

    Classes of one name are one class; where names are not known, all sources must have the same number of classes.

    Attributes:
      sources: at least one.
      weights: positive, one for each source.

    Raises:
      ValueError: the classes cannot be put together.
    """

    sources: tuple[Source, ...]
    weights: tuple[float, ...] = field(default=())

    def __post_init__(self):
        counts = {source.num_classes for source in self.sources}
        if all(len(source.class_names) == source.num_classes for source in self.sources):
            return
        if len(counts) > 1:
            raise ValueError(f"sources of {sorted(counts)} classes without names cannot be mixed")
        if len({source.class_names for source in self.sources if source.class_names}) > 1:
            raise ValueError("a source whose classes have no names cannot be mixed with sources of different classes")

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The names of all sources, in the order of their first coming."""
        return tuple(dict.fromkeys(name for source in self.sources for name in source.class_names))

    @property
    def num_classes(self) -> int:
        """How many there are together."""
        return len(self.class_names) or self.sources[0].num_classes

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """What all sources have."""
        return tuple(name for name in self.sources[0].fields if all(name in each.fields for each in self.sources))

    @property
    def groups(self) -> tuple[np.ndarray, ...]:
        """The positions of each source's examples."""
        ends = np.cumsum([len(source) for source in self.sources])
        return tuple(np.arange(end - len(source), end) for end, source in zip(ends, self.sources, strict=True))

    def __len__(self) -> int:
        return sum(len(source) for source in self.sources)

    def _place(self, index: int) -> tuple[int, int]:
        starts = np.cumsum([0, *(len(source) for source in self.sources)])
        number = int(np.searchsorted(starts, index, side="right")) - 1
        return number, int(index - starts[number])

    @cached_property
    def _renumbered(self) -> tuple[np.ndarray, ...]:
        known = {name: number for number, name in enumerate(self.class_names)}
        return tuple(
            np.asarray([known[name] for name in source.class_names], np.int32)
            if source.class_names
            else np.arange(source.num_classes, dtype=np.int32)
            for source in self.sources
        )

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Of labels and captions, the largest of all sources; they come in one array."""
        firsts = [source.read([0])[0] for source in self.sources]
        names = [name for name in ("label", "caption") if name in self.fields]
        shapes = {name: [np.shape(first[name]) for first in firsts] for name in names}
        return {
            name: max(e) if name == "label" else tuple(map(max, zip(*e, strict=True))) for name, e in shapes.items()
        }

    def _label(self, number: int, label: np.ndarray | np.generic) -> np.ndarray | np.generic:
        numbers = self._renumbered[number]
        if np.ndim(label) == 0:
            single = numbers[int(label)]
            return several_hot([[int(single)]], self.num_classes)[0] if self._shapes["label"] else single
        return several_hot([numbers[np.flatnonzero(label)].tolist()], self.num_classes)[0]

    def read(self, indices: Sequence[int]) -> list[Example]:
        """Returns the examples at ``indices``, with the entries that all sources have."""
        places = [self._place(int(index)) for index in indices]
        examples: list[Example] = [{} for _ in places]
        for number, source in enumerate(self.sources):
            here = [position for position, place in enumerate(places) if place[0] == number]
            for position, example in zip(here, source.read([places[p][1] for p in here]), strict=True):
                kept = {name: example[name] for name in self.fields}
                if "label" in kept:
                    kept["label"] = self._label(number, kept["label"])
                if "caption" in kept:
                    short = np.subtract(self._shapes["caption"], kept["caption"].shape)
                    kept["caption"] = np.pad(kept["caption"], [(0, int(extra)) for extra in short])
                examples[position] = kept
        return examples

    def where(self, index: int) -> str:
        """Returns what the source says of the example."""
        number, position = self._place(index)
        return self.sources[number].where(position)

    def labels(self) -> np.ndarray:
        """Returns all labels."""
        return np.stack([self._label(n, label) for n, source in enumerate(self.sources) for label in source.labels()])

    @cached_property
    def fingerprint(self) -> str:
        """Over those of the sources and the weights."""
        text = " ".join(
            f"{each.fingerprint}*{weight!r}" for each, weight in zip(self.sources, self.weights, strict=True)
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def parse(text: str) -> list[tuple[str, float]]:
    """Reads ``digits=0.7,folder:/images=0.3``.

    Raises:
      UserError: it is written otherwise, or a weight is not positive.
    """
    parts = []
    for part in text.split(","):
        name, equals, weight = part.rpartition("=")
        try:
            value = float(weight)
        except ValueError:
            value = 0.0
        if not equals or not name.strip() or not 0 < value < float("inf"):
            raise UserError(f"config.data.name: in mixture:{text} write NAME=WEIGHT,NAME=WEIGHT with positive weights")
        parts.append((name.strip(), value))
    return parts
