"""The images that a network is looked at with: files, or a run's own data."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vision.config.loading import plain
from vision.data.decode import DecodeError
from vision.data.host import HostPart
from vision.data.loader import columns
from vision.data.materialize import usable
from vision.data.sources import Opener
from vision.errors import UserError
from vision.training.predict import find_images
from vision.training.pretrained import Pretrained
from vision.training.workdir import read_json

Note = Callable[[str], None]


class Sample(NamedTuple):
    """Some images, as a model sees them but for the normalisation.

    Attributes:
      images: uint8 ``[n, height, width, channels]``.
      names: of each.
      labels: int ``[n]``; None where an image has no single class.
      class_names: of all classes.
      where: what they are of, for people.
    """

    images: np.ndarray
    names: tuple[str, ...]
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    where: str

    def captions(self) -> tuple[str, ...]:
        """Returns the class of each image, where there are classes."""
        if self.labels is None:
            return ("",) * len(self.images)
        return tuple(self.class_names[label] for label in self.labels.tolist())

    def browsed(self) -> "Browsed":
        """Returns the images as those that are read when they are needed."""
        return Browsed(len(self.images), lambda rows: self.images[rows], self.where)


class Browsed(NamedTuple):
    """Images that are read as they are needed.

    Attributes:
      total: how many.
      read: numbers from 0 to ``total`` to uint8 images ``[n, height, width, channels]``.
      where: what they are of, for people.
    """

    total: int
    read: Callable[[np.ndarray], np.ndarray]
    where: str


def host_part_of(pretrained: Pretrained) -> HostPart:
    """Returns what brings an image to the shape that a model takes."""
    height, width, channels = pretrained.image_shape
    expected = pretrained.preprocessing
    return HostPart((height, width), channels, expected.crop, expected.decoder, expected.filter)


def of_files(paths: Sequence[Path], part: HostPart, *, most: int) -> tuple[Sample, list[tuple[Path, str]]]:
    """Returns ``most`` images spread evenly over files, and those of them that do not decode, with the reason.

    Raises:
      UserError: none decodes.
    """
    images: list[np.ndarray] = []
    names: list[str] = []
    broken: list[tuple[Path, str]] = []
    for path in (paths[position] for position in _spread(len(paths), most)):
        try:
            images.append(part(path.read_bytes(), visit=0, index=0))
            names.append(path.name)
        except (DecodeError, OSError) as error:
            broken.append((path, str(error)))
    if not images:
        raise UserError(f"none of {len(broken)} images decodes, the first: {broken[0][0]}: {broken[0][1]}")
    where = f"{len(images)} of {len(paths)} files" if len(images) < len(paths) else f"{len(images)} files"
    return Sample(np.stack(images), tuple(names), None, (), where), broken


def _spread(count: int, most: int) -> list[int]:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()


def choose_images(
    places: Sequence[str] | None, data: "RunData | None", part: HostPart, *, most: int, note: Note
) -> tuple[Sample, list[tuple[Path, str]]]:
    """Returns the images in folders and files, or examples of the run's evaluation, and the files that do not decode.

    Raises:
      UserError: there are none.
    """
    if places:
        paths = find_images(places)
        sample, broken = of_files(paths, part, most=most)
        if len(paths) > most:
            note(f"{most} of {len(paths)} images are taken, spread evenly (--count)")
        return sample, broken
    if data is None:
        raise UserError("these weights are no run with data of its own: give --images")
    return data.held_out(most), []


class RunData(NamedTuple):
    """The data of a run, of which samples are drawn.

    Attributes:
      config: of the run.
      part: what brings an image to the shape that its model takes.
      note: told what people should know.
    """

    config: Mapping[str, Any]
    part: HostPart
    note: Note

    def training(self, most: int) -> Sample:
        """Returns training examples, see :meth:`sample`."""
        return self.sample(self.config["data"]["split"], most)

    def held_out(self, most: int) -> Sample:
        """Returns examples of the first evaluation's split, or training examples where there is none."""
        return self.sample(self._held_out_split(), most)

    def sample(self, split: str | None, most: int) -> Sample:
        """Returns up to ``most`` examples of a split, spread evenly over it.

        Args:
          split: None for the held-out one.
          most: how many.

        Raises:
          UserError: there are no such data here, or an image does not decode.
        """
        source, positions, where = self._chosen(split, most)
        arrays = columns(source, self.part, positions, np.zeros_like(positions))
        labels = arrays.get("label")
        if labels is not None and (labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer)):
            labels = None
        class_names = tuple(source.class_names) or tuple(map(str, range(source.num_classes)))
        names = tuple(f"example {position}" for position in positions.tolist())
        if labels is not None:
            names = tuple(f"{name}: {class_names[label]}" for name, label in zip(names, labels.tolist(), strict=True))
        return Sample(arrays["image"], names, labels, class_names, where)

    def browsed(self, most: int) -> "Browsed":
        """Returns the examples of :meth:`held_out`, to be read a part at a time.

        Raises:
          UserError: there are no such data here.
        """
        source, positions, where = self._chosen(self._held_out_split(), most)

        def read(rows: np.ndarray) -> np.ndarray:
            chosen = positions[rows]
            return columns(source, self.part, chosen, np.zeros_like(chosen))["image"]

        return Browsed(len(positions), read, where)

    def _held_out_split(self) -> str | None:
        splits = [section.get("split") for section in (self.config.get("evals") or {}).values()]
        return splits[0] if splits else self.config["data"]["split"]

    def _chosen(self, split: str | None, most: int) -> tuple[Any, np.ndarray, str]:
        """A split, the positions of examples spread evenly over it, and what they are for people."""
        data = self.config["data"]
        opener = Opener.of(data, note=self.note)
        source = usable(opener(split), self.part, opener.on_error, self.note)
        positions = np.array(_spread(len(source), most))
        count = f"{len(positions):,}" if len(positions) == len(source) else f"{len(positions):,} of {len(source):,}"
        return source, positions, f"{count} examples of {data['name']}, {split or 'held out'}"


def config_of_run(path: str) -> Mapping[str, Any] | None:
    """Returns the config of a run's folder; None where weights are no run.

    Raises:
      UserError: the run is the fit of an estimator.
    """
    file = Path(path) / "config.json"
    if not file.is_file():
        return None
    config = plain(read_json(file))
    if "estimator" in config:
        raise UserError(f"{path} is a fitted estimator, and these pictures are of networks")
    return config
