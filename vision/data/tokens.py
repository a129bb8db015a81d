"""Tokens in place of the captions of a source."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from vision.data.order import permutation
from vision.data.records import RecordSource
from vision.data.source import ArraySource, Example, Source, Subset
from vision.data.sources.captions import unpack
from vision.data.tokenizer import Tokenizer, check_length

_CHUNK = 1024
_SHUFFLE = 2**32 - 1  # an epoch that no training reaches: its order has nothing to do with that of the batches


def captions_of(source: Source) -> Iterator[str]:
    """Yields all captions of a source; where they do not lie in memory, its examples are read once for it."""
    for captions, counts in _packed(source, np.arange(len(source))):
        for of_image, count in zip(captions, counts, strict=True):
            yield from map(unpack, of_image[:count])


@dataclass(frozen=True)
class TokenSource:
    """Another source with ``tokens`` int32 ``[captions, length]`` in place of ``caption``; ``num_captions`` stays.

    Every caption becomes tokens when the source is opened, once: they are held in memory, two bytes a token and no more
    columns than the longest needs.

    Attributes:
      source: the other, with captions.
      tokenizer: makes the tokens.
      length: tokens of a caption, see :meth:`vision.data.tokenizer.Tokenizer.encode`.
      share_cut: how much of the different captions is longer than that, and is cut.
      shuffled_seed: None, or the seed of a shuffle after which every image has the captions of another: a control, as
        nothing is left to learn but what captions are like.

    Raises:
      ValueError: ``length`` is below 3, an example has no caption, or there is a single one to shuffle.
    """

    source: Source
    tokenizer: Tokenizer
    length: int
    shuffled_seed: int | None = None
    _tokens: tuple[np.ndarray, np.ndarray] = field(init=False, repr=False, compare=False)
    share_cut: float = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        check_length(self.length)
        if self.shuffled_seed is not None and len(self.source) < 2:
            raise ValueError("captions of a single image cannot be shuffled")
        tokens, counts, share_cut = _tokenized(self.source, self.tokenizer, self.length)
        if not counts.all():
            raise ValueError(f"{self.source.where(int(np.argmin(counts)))} has no caption; leave it out")
        if self.shuffled_seed is not None:
            others = _others(len(counts), self.shuffled_seed)
            tokens, counts = tokens[others], counts[others]
        object.__setattr__(self, "_tokens", (tokens, counts))
        object.__setattr__(self, "share_cut", share_cut)

    @property
    def num_classes(self) -> int:
        """That of the other source."""
        return self.source.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Those of the other source."""
        return self.source.class_names

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Those of the other source, ``tokens`` where it has ``caption``."""
        return tuple("tokens" if name == "caption" else name for name in self.source.fields)

    def __len__(self) -> int:
        return len(self.source)

    def read(self, indices: Sequence[int]) -> list[Example]:
        """Returns the examples at ``indices``."""
        examples: list[Example] = []
        for index, example in zip(indices, self.source.read(indices), strict=True):
            used = self._tokens[0][index]
            tokens = np.zeros((len(used), self.length), np.int32)
            tokens[:, : used.shape[-1]] = used
            kept = {name: entry for name, entry in example.items() if name != "caption"}
            examples.append({**kept, "tokens": tokens, "num_captions": self._tokens[1][index]})
        return examples

    def where(self, index: int) -> str:
        """Returns what the other source says of the example."""
        return self.source.where(index)

    def labels(self) -> np.ndarray:
        """Returns all labels."""
        return self.source.labels()

    @cached_property
    def fingerprint(self) -> str:
        """Over those of the other source and of the tokenizer, the length and the shuffle."""
        text = f"{self.source.fingerprint} {self.tokenizer.fingerprint} {self.length} {self.shuffled_seed}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _tokenized(source: Source, tokenizer: Tokenizer, length: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Returns tokens ``[n, captions, longest]``, int32 ``[n]``, how many captions each example has, and what is cut."""
    numbers: dict[bytes, int] = {}  # drawn or labelled data have few captions, many times over
    rows, all_counts = [], []
    for captions, counts in _packed(source, np.arange(len(source))):
        there = np.arange(captions.shape[1]) < counts[:, None]
        number = np.zeros(there.shape, np.int64)
        number[there] = [numbers.setdefault(caption.tobytes(), 1 + len(numbers)) for caption in captions[there]]
        rows.append(number)
        all_counts.append(counts)
    texts = [unpack(np.frombuffer(caption, np.uint8)) for caption in numbers]
    encoded = tokenizer.encode(texts, length=length)
    full = [text for text, ids in zip(texts, encoded, strict=True) if ids[-1] == tokenizer.end]
    cut = np.count_nonzero(tokenizer.encode(full, length=length + 1)[:, -1]) if full else 0
    longest = int(np.argmax(encoded == tokenizer.end, axis=1).max()) + 1 if texts else 1
    small = np.uint16 if tokenizer.vocab_size <= 2**16 else np.int32
    table = np.concatenate([np.zeros((1, longest), small), encoded[:, :longest].astype(small)])  # row 0: no caption
    return table[np.concatenate(rows)], np.concatenate(all_counts).astype(np.int32), cut / max(len(texts), 1)


def _packed(source: Source, positions: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields ``caption`` and ``num_captions`` of a chunk of examples at a time, without their images where possible."""
    if isinstance(source, Subset):
        yield from _packed(source.source, source.positions[positions])
        return
    arrays = source.arrays if isinstance(source, ArraySource | RecordSource) else None
    for start in range(0, len(positions), _CHUNK):
        yield _chunk(source, arrays, positions[start : start + _CHUNK])


def _chunk(
    source: Source, arrays: Mapping[str, np.ndarray] | None, chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    if arrays is not None:
        return arrays["caption"][chosen], arrays["num_captions"][chosen]
    examples = source.read(chosen.tolist())
    caption, count = (np.stack([example[name] for example in examples]) for name in ("caption", "num_captions"))
    return caption, count


def _others(count: int, seed: int) -> np.ndarray:
    """Returns for each example another one, no two the same: the next in a random circle of all."""
    circle = permutation(count, seed, _SHUFFLE)
    others = np.empty(count, np.int64)
    others[circle] = np.roll(circle, -1)
    return others
