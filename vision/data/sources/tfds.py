"""Data sets by their TFDS name, read without TensorFlow."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vision.data.digest import digest_files
from vision.data.preparation.prepared import OWN_BUILDERS, data_folder, find, prepare_own
from vision.data.source import Example, several_hot
from vision.data.sources.captions import MAX_BYTES, pack
from vision.data.sources.splits import held_out
from vision.errors import UserError, did_you_mean

MAX_CAPTIONS = 8
_CHUNK = 1024


@dataclass(frozen=True)
class TfdsSource:
    """A split of a prepared TFDS data set; examples are read when they are asked for.

    Attributes:
      folder: of the prepared version.
      split: of the data set, slices included.
      image: name of the feature that is the image.
      label: of the class, or of a sequence of classes; None without.
      caption: of the text, or of a sequence of texts, of which 8 are taken, each to 512 bytes; None without.
      num_classes: see :class:`vision.data.source.Source`.
      class_names: likewise.
      several: whether an example may have several classes.
    """

    folder: Path
    split: str
    image: str = "image"
    label: str | None = None
    caption: str | None = None
    num_classes: int = 0
    class_names: tuple[str, ...] = field(default=(), repr=False)
    several: bool = False

    @cached_property
    def _data(self) -> Any:
        import tensorflow_datasets as tfds

        builder = tfds.builder_from_directory(self.folder)
        return builder.as_data_source(split=self.split, decoders={self.image: tfds.decode.SkipDecoding()})

    def __len__(self) -> int:
        return len(self._data)

    @property
    def fields(self) -> tuple[str, ...]:
        """The entries of an example."""
        return (
            "image",
            *(("label",) if self.label else ()),
            *(("caption", "num_captions") if self.caption else ()),
        )

    def read(self, indices: Sequence[int]) -> list[Example]:
        """Returns the examples at ``indices``."""
        return [self._example(record) for record in self._records([int(index) for index in indices])]

    def _records(self, indices: Sequence[int]) -> list[Mapping[str, Any]]:
        try:
            return self._data.__getitems__(indices)
        except (RuntimeError, ValueError, OSError) as error:
            raise UserError(f"{self.folder}, split {self.split!r} cannot be read: {_first_line(error)}") from error

    def _example(self, record: Mapping[str, Any]) -> Example:
        example: Example = {"image": record[self.image]}
        if self.label:
            example["label"] = self._label(record[self.label])
        if self.caption:
            packed = pack([_texts(record[self.caption])], count=MAX_CAPTIONS, length=MAX_BYTES)
            example |= {name: array[0] for name, array in packed.items()}
        return example

    def _label(self, value: Any) -> np.ndarray:
        if self.several:
            try:
                return several_hot([np.asarray(value, int).tolist()], self.num_classes)[0]
            except ValueError as error:
                raise UserError(f"{self.folder}, split {self.split!r}: an example has {error}") from error
        label = np.int32(value)
        if not 0 <= label < self.num_classes:
            raise UserError(f"{self.folder}, split {self.split!r}: an example has label {label}, so none is known")
        return np.asarray(label)

    def where(self, index: int) -> str:
        """Returns the data set, the split and the example's number."""
        return f"{self.folder}, split {self.split!r}, example {index}"

    def labels(self) -> np.ndarray:
        """Returns all labels, in a pass over the whole split."""
        chunks = range(0, len(self), _CHUNK)
        records = (r for start in chunks for r in self._records(range(start, min(start + _CHUNK, len(self)))))
        return np.stack([self._label(record[self.label or ""]) for record in records])

    @cached_property
    def fingerprint(self) -> str:
        """Over the files of the split, and which part of it."""
        import tensorflow_datasets as tfds

        splits = tfds.builder_from_directory(self.folder).info.splits
        names = re.findall(r"(\w+)(?:\[[^\]]*\])?", self.split)
        names = list(splits) if "all" in names else names
        files = [Path(path) for name in names if name in splits for path in splits[name].filepaths]
        text = f"{digest_files(files)} {self.split} {self.image} {self.label} {self.caption}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def read(name: str, split: str | None, *, data_dir: str | None = None, label: str | None = None) -> TfdsSource:
    """Returns one split of a prepared TFDS data set; our own data sets are prepared on first use.

    Args:
      name: TFDS name such as ``fashion_mnist``, optionally ``name/config`` or ``name:version``.
      split: TFDS split, slices included: ``train``, ``test``, ``train[:90%]``; None for the one to evaluate on.
      data_dir: folder of prepared data sets; see :func:`vision.data.preparation.prepared.data_folder`.
      label: the feature that is the label, such as ``coarse_label`` of ``cifar100``; None for the usual one.

    Raises:
      UserError: the data set is not prepared, the split does not exist, or it has no images.
    """
    import tensorflow_datasets as tfds

    folder = data_folder(data_dir)
    version = find(name, folder)
    if version is None and name in OWN_BUILDERS:
        version = prepare_own(name, folder)
    if version is None:
        known = {*OWN_BUILDERS, *(info.parent.parent.name for info in folder.glob("*/*/dataset_info.json"))}
        raise UserError(
            f"config.data.name: {name!r} is not prepared in {folder}{did_you_mean(name, known)}; "
            f"set TFDS_DATA_DIR or config.data.data_dir to the folder that has it (known: {', '.join(sorted(known))}), "
            f"or prepare it: python -m tools.prepare_data {name}; a folder of images is folder:PATH"
        )
    builder = tfds.builder_from_directory(version)
    features = dict(sorted(builder.info.features.items()))  # as they are read, their order differs from run to run
    images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    if not images:
        raise UserError(f"config.data.name: {name} has no images; its features: {', '.join(features)}")
    chosen = split or held_out(list(builder.info.splits), name)
    image = "image" if "image" in images else images[0]
    source = TfdsSource(version, chosen, image=image, caption=_caption_of(features), **_classes(features, label, name))
    try:
        empty = not len(source)
    except (RuntimeError, OSError) as error:
        raise UserError(f"{version}, split {chosen!r} cannot be read: {_first_line(error)}") from error
    except (ValueError, KeyError, AssertionError) as error:
        splits = ", ".join(builder.info.splits)
        raise UserError(f"data split {chosen!r} of {name}: {_first_line(error)}; its splits: {splits}") from error
    if empty:
        raise UserError(f"data split {chosen!r} of {name} is empty")
    return source


def _classes(features: Mapping[str, Any], label: str | None, name: str) -> dict[str, Any]:
    """The arguments of :class:`TfdsSource` that are about labels."""
    import tensorflow_datasets as tfds

    def of(feature: Any) -> Any:
        inner = getattr(feature, "feature", None)
        return feature if isinstance(feature, tfds.features.ClassLabel) else inner

    known = [key for key, feature in features.items() if isinstance(of(feature), tfds.features.ClassLabel)]
    if label is not None and label not in known:
        raise UserError(
            f"config.data.label: {name} has no class feature {label!r}{did_you_mean(label, known)}; "
            f"known: {', '.join(known) or 'none'}"
        )
    usual = [key for key in ("label", "labels") if key in known] + known
    chosen = label or (usual[0] if usual else None)
    if chosen is None:
        return {}
    classes = of(features[chosen])
    several = not isinstance(features[chosen], tfds.features.ClassLabel)
    names = tuple(classes.names or ())
    return {"label": chosen, "num_classes": classes.num_classes, "class_names": names, "several": several}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _caption_of(features: Mapping[str, Any]) -> str | None:
    return next((key for key in ("captions", "caption") if key in features), None)


def _texts(value: Any) -> list[str]:
    """The texts of a feature: one, a sequence, or a sequence of records with a text each."""
    if isinstance(value, Mapping):
        value = value.get("text", ())
    if isinstance(value, bytes | str):
        value = [value]
    found = [_texts(item)[0] if isinstance(item, Mapping) else item for item in value]
    return [text.decode(errors="replace") if isinstance(text, bytes) else str(text) for text in found] or [""]
