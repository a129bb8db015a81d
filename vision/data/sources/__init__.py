"""Sources by name: one line of a config says where the examples come from."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vision.data.host import OnError
from vision.data.source import Source, Subset
from vision.data.sources import arrays, features, folder, mixture, table, tar, tfds
from vision.data.sources.classes import of_classes
from vision.data.sources.folder import Note, Splits
from vision.data.sources.splits import TRAIN, held_out, hold_out, positions_of
from vision.errors import ConfigError, UserError, did_you_mean

Given = Mapping[str, Source | Mapping[str, np.ndarray]]
KINDS = ("folder", "captions", "tar", "npz", "features", "mixture")


def to_stderr(text: str) -> None:
    """Prints a note for people."""
    print(f"data: {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Opener:
    """Opens splits of the data that a config names.

    Attributes:
      name: a TFDS name; ``folder:PATH``, ``captions:FILE``, ``tar:SHARDS``, ``npz:FILE``, ``features:FOLDER``;
        ``arrays`` for what is given in memory; or ``mixture:NAME=WEIGHT,NAME=WEIGHT`` of such names.
      data_dir: folder of prepared TFDS data sets.
      label: the TFDS feature that is the label, where it is not the usual one.
      on_error: what a folder, table or shard does about entries that cannot be used.
      note: told what a person should know; the same thing once.
      given: split -> source, or its arrays, for the name ``arrays``.
      classes: numbers or names of those whose examples are taken, numbered anew in this order; None for all.
    """

    name: str
    data_dir: str | None = None
    label: str | None = None
    on_error: OnError = "error"
    note: Note = to_stderr
    given: Given | None = None
    classes: tuple[int | str, ...] | None = None
    _read: dict[str, tuple[Source, Splits]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, data: Mapping[str, Any], *, note: Note = to_stderr, given: Given | None = None) -> "Opener":
        """Returns the opener of a ``config.data``; what older configs do not have is as it was then."""
        known = {key: data[key] for key in ("data_dir", "label", "on_error", "classes") if key in data}
        return cls(data["name"], **known, note=note, given=given)

    def __call__(self, split: str | None) -> Source:
        """Returns a split; None for the held-out one: the first there is of validation, val, valid and test.

        A slice such as ``train[:10%]`` is a part of all examples, of which those of :attr:`classes` are then taken.

        Raises:
          UserError: the data are not there, or cannot be used.
        """
        source = self._open(self.name, split)
        if self.classes is None:
            return source
        if isinstance(source, mixture.Mixture):
            raise ConfigError("config.data.classes: not together with a mixture, whose parts have classes of their own")
        return of_classes(source, self.classes, f"{self.name}, {split or 'the held-out split'}")

    def _open(self, name: str, split: str | None) -> Source:
        kind, colon, rest = name.partition(":")
        if kind == "mixture" and colon:
            parts = mixture.parse(rest)
            try:
                return mixture.Mixture(
                    tuple(self._open(each, split) for each, _ in parts), tuple(weight for _, weight in parts)
                )
            except ValueError as error:
                raise UserError(f"config.data.name: {name}: {error}") from error
        if kind in ("folder", "captions", "tar") and colon:
            return self._part(name, split, *self._whole(kind, rest))
        if (kind == "npz" and colon) or name == "arrays":
            return self._of_arrays(name, split, arrays.read(Path(rest).expanduser()) if colon else self._in_memory())
        if kind == "features" and colon:
            return self._of_arrays(name, split, features.read(Path(rest).expanduser()))
        if ("/" in name or "\\" in name) and Path(name).expanduser().exists():
            raise UserError(
                f"config.data.name: {name} is a path; write its kind before it: {', '.join(KINDS)}, as folder:{name}"
            )
        if colon and not rest[:1].isdigit():
            raise UserError(
                f"config.data.name: unknown kind {kind!r}{did_you_mean(kind, KINDS)}; known: {', '.join(KINDS)}"
            )
        return tfds.read(name, split, data_dir=self.data_dir, label=self.label)

    def _whole(self, kind: str, rest: str) -> tuple[Source, Splits]:
        """All examples of a folder, table or set of shards; what is in them is looked up once."""
        key = f"{kind}:{rest}"
        if key not in self._read:
            options: dict[str, Any] = {"on_error": self.on_error, "note": self.note}
            try:
                if kind == "tar":
                    self._read[key] = tar.read(str(Path(rest).expanduser()), **options)
                else:
                    reader = folder.read if kind == "folder" else table.read
                    self._read[key] = reader(Path(rest).expanduser(), **options)
            except OSError as error:
                raise UserError(f"config.data.name: {rest} cannot be read: {error}") from error
            self._read[key] = self._with_held_out(rest, *self._read[key])
        return self._read[key]

    def _with_held_out(self, rest: str, whole: Source, splits: Splits) -> tuple[Source, Splits]:
        """Where there is training data alone, a tenth of it is held out."""
        (name, positions), *others = splits.items()
        if others or name not in TRAIN or len(positions) < len(whole):
            return whole, splits
        labels = whole.labels() if "label" in whole.fields else None
        parts = hold_out([str(n) for n in positions], labels if labels is not None and labels.ndim == 1 else None)
        if "val" not in parts:
            return whole, splits  # so few that a tenth is none
        self.note(f"{rest}: a tenth of the only split, {name}, is held out as val; {name}+val has all")
        return whole, {name if part == "train" else part: positions[chosen] for part, chosen in parts.items()}

    def _part(self, name: str, split: str | None, whole: Source, splits: Splits) -> Source:
        return Subset(whole, positions_of(split or held_out(list(splits), name), splits, name))

    def _in_memory(self) -> dict[str, Source]:
        if not self.given:
            raise UserError(
                "config.data.name: 'arrays' are those that a program hands over: train(config, workdir, "
                "sources={'train': {'image': ..., 'label': ...}, 'test': ...}); a file of them is npz:FILE"
            )
        classes = 1 + max((_largest_label(each) for each in self.given.values()), default=-1)
        return {
            split: arrays.from_arrays(each, num_classes=classes or None, what=split)
            if isinstance(each, Mapping)
            else each
            for split, each in self.given.items()
        }

    def _of_arrays(self, name: str, split: str | None, splits: Mapping[str, Source]) -> Source:
        wanted = split or held_out(list(splits), name)
        if wanted in splits:
            return splits[wanted]
        base = wanted.split("[")[0].strip()
        if base not in splits or "+" in wanted:
            raise UserError(
                f"data split {wanted!r} of {name}{did_you_mean(base, splits)}; its splits: {', '.join(splits)}"
            )
        source = splits[base]
        return Subset(source, positions_of(wanted, {base: np.arange(len(source))}, name))


def _largest_label(each: Source | Mapping[str, np.ndarray]) -> int:
    """Of arrays with one whole number for each example, else -1."""
    label = np.asarray(each.get("label", ())) if isinstance(each, Mapping) else np.zeros(0)
    return int(label.max()) if label.size and label.size == len(label) and label.dtype.kind in "iu" else -1
