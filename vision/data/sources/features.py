"""A folder of features that ``experiments.extract`` wrote: arrays ``.npy`` in shards, and what they are in an index.

An example's ``image`` is what a network said of it, float32: a vector of d numbers is 1 x 1 x d, the tokens ``[n, d]``
of a transformer are n x 1 x d, a map stays ``[height, width, d]``. The host hands such an image on as it is
(:class:`vision.data.host.HostPart`), and the device does not divide it by 255, so that whatever learns from images
learns from features too: a model that flattens them, or an estimator on ``pixels``, which are then the features.
"""

import hashlib
import json
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Num

from vision.data.source import Example, check_labels
from vision.errors import UserError

INDEX = "features.json"
VERSION = 1
_OPEN = 64  # shards that are held open at once
_CURE = "the command of experiments.extract that made it makes what is broken anew"


class Files(NamedTuple):
    """Of one shard.

    Attributes:
      features: ``[rows, ...]``.
      labels: int32 ``[rows]`` or float32 ``[rows, classes]``; not there where the data have none.
    """

    features: Path
    labels: Path


def files_of(folder: Path, split: str, number: int, count: int) -> Files:
    """Returns where shard ``number`` of ``count`` of a split lies; a slice such as ``train[:10%]`` has a name too."""
    name = re.sub(r"[^\w-]+", "_", split)
    if name != split:  # other slices have the same letters
        name += hashlib.sha256(split.encode()).hexdigest()[:8]
    stem = f"{name}-{number:05}-of-{count:05}"
    return Files(folder / f"{stem}.npy", folder / f"{stem}.label.npy")


def read_index(folder: Path) -> dict[str, Any]:
    """Returns what the index of a folder says.

    Raises:
      UserError: there is none, or it cannot be read.
    """
    path = folder / INDEX
    if not path.is_file():
        raise UserError(f"{folder} has no {INDEX}: python -m experiments.extract writes such a folder")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        version = index["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from error
    if version != VERSION:
        raise UserError(f"{path} is of version {version}, this program reads version {VERSION}")
    return index


def image_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """Returns ``(height, width, channels)`` of the image that features of a shape are taken for.

    Raises:
      ValueError: they have no axis, or more than three.
    """
    if not 1 <= len(shape) <= 3 or not min(shape):
        raise ValueError(f"features need one to three axes, got {list(shape)}")
    height, width = (1, 1) if len(shape) == 1 else (shape[0], 1) if len(shape) == 2 else (shape[0], shape[1])
    return height, width, shape[-1]


@dataclass(frozen=True)
class FeatureSource:
    """One split of a folder of features; its files are mapped into memory, and read where they are asked for.

    Attributes:
      folder: that holds them.
      split: as it was extracted.
      rows: of each shard.
      shape: of one example's features.
      dtype: that they are kept in; examples are float32 either way.
      labelled: whether there are labels.
      num_classes: how many classes a label can name.
      class_names: where known.
      fingerprint: over the digests of all shards, and what they were made of.
    """

    folder: Path
    split: str
    rows: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str
    labelled: bool
    num_classes: int
    class_names: tuple[str, ...] = field(repr=False)
    fingerprint: str
    _opened: dict[int, tuple[np.ndarray, np.ndarray | None]] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        """Without the open files: pickled, a mapped file is all that it holds."""
        return {**vars(self), "_opened": {}}

    def __len__(self) -> int:
        return sum(self.rows)

    @property
    def fields(self) -> tuple[str, ...]:
        """The entries of an example."""
        return ("image", "label") if self.labelled else ("image",)

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(self.rows))

    def read(self, indices: Sequence[int]) -> list[Example]:
        """Returns the examples at ``indices``.

        Raises:
          UserError: a shard cannot be read.
        """
        return [self._example(int(index)) for index in indices]

    def _example(self, index: int) -> Example:
        number, row = self._place(index)
        features, labels = self._shard(number)
        example: Example = {"image": _as_image(features[row])}
        if labels is not None:
            example["label"] = labels[row]
        return example

    def where(self, index: int) -> str:
        """Returns the file and the row."""
        number, row = self._place(index)
        return f"{files_of(self.folder, self.split, number, len(self.rows)).features}, row {row}"

    def labels(self) -> np.ndarray:
        """Returns all labels, ``[n]`` or ``[n, classes]``."""
        return np.concatenate([self._labels(number) for number in range(len(self.rows))])

    def _place(self, index: int) -> tuple[int, int]:
        number = bisect_right(self._ends, index)
        return number, index - (self._ends[number - 1] if number else 0)

    def _shard(self, number: int) -> tuple[np.ndarray, np.ndarray | None]:
        found = self._opened.get(number)
        if found is None:
            for old in list(self._opened)[: max(len(self._opened) - _OPEN + 1, 0)]:
                self._opened.pop(old, None)
            path = files_of(self.folder, self.split, number, len(self.rows)).features
            features = _mapped(path, (self.rows[number], *self.shape), np.dtype(self.dtype))
            found = self._opened[number] = (features, self._labels(number) if self.labelled else None)
        return found

    def _labels(self, number: int) -> np.ndarray:
        path = files_of(self.folder, self.split, number, len(self.rows)).labels
        labels = np.array(_mapped(path, (self.rows[number], ...)))
        try:
            check_labels(labels, self.num_classes)
        except ValueError as error:
            raise UserError(f"{path}: {error}") from error
        return labels


def _as_image(features: Num[np.ndarray, "..."]) -> Float[np.ndarray, "height width channels"]:
    return np.array(features, np.float32).reshape(image_shape(features.shape))


def _mapped(path: Path, shape: tuple[Any, ...], dtype: np.dtype | None = None) -> np.ndarray:
    """An array in a file, read where it is asked for; of a shape that ends in an ellipsis the first axis counts."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path} cannot be read: {reason}; {_CURE}") from error
    wanted = (shape[0], *array.shape[1:]) if shape[-1] is ... else shape
    if not array.ndim or array.shape != wanted or (dtype is not None and array.dtype != dtype):
        raise UserError(f"{path} holds {array.dtype}{list(array.shape)}, {INDEX} says {list(wanted)}; {_CURE}")
    return array


def read(folder: Path) -> dict[str, FeatureSource]:
    """Returns the splits of a folder of features, those that are complete.

    Raises:
      UserError: there is no such folder, or none of its splits is complete.
    """
    if not folder.is_dir():
        raise UserError(f"config.data.name: features:{folder}: there is no such folder")
    index = read_index(folder)
    try:
        splits = {name: _source(folder, name, index, of) for name, of in index["splits"].items() if _complete(of)}
        known = ", ".join(
            f"{name} ({_there(of)} of {len(of['shards'])} shards)" for name, of in index["splits"].items()
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{folder / INDEX} is broken: {' '.join(repr(error).split())[:200]}") from error
    if not splits:
        raise UserError(
            f"config.data.name: features:{folder}: no split is complete: {known or 'there is none'}; the same command "
            "of experiments.extract goes on"
        )
    return splits


def _there(split: Mapping[str, Any]) -> int:
    return sum(shard is not None for shard in split["shards"])


def _complete(split: Mapping[str, Any]) -> bool:
    return bool(split["shards"]) and _there(split) == len(split["shards"])


def _source(folder: Path, name: str, index: Mapping[str, Any], split: Mapping[str, Any]) -> FeatureSource:
    parts = {"made_of": index["made_of"], "split": {key: value for key, value in split.items() if key != "seconds"}}
    image_shape(index["shape"])
    return FeatureSource(
        folder,
        name,
        rows=tuple(int(shard["rows"]) for shard in split["shards"]),
        shape=tuple(map(int, index["shape"])),
        dtype=str(index["made_of"]["dtype"]),
        labelled=all(shard["labels"] is not None for shard in split["shards"]),
        num_classes=int(index["num_classes"]),
        class_names=tuple(map(str, index["class_names"])),
        fingerprint=hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16],
    )
