"""The test images that all runs are shown: chosen once, corrupted once, then framed as each run expects."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vision.data.host import HostPart, probe
from vision.data.materialize import materialize, usable
from vision.data.source import ArraySource, Subset, has_several_labels
from vision.data.sources import Opener
from vision.errors import UserError
from vision.training.predictor import Predictor

Note = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """A run under test: its name on the page, its folder, and what it answers."""

    name: str
    workdir: str
    predictor: Predictor


def test_images(runs: Sequence[Run], split: str | None, examples: int, *, note: Note) -> ArraySource:
    """Returns labelled images of the split, in their own size where they share one.

    Args:
      runs: all of the same data.
      split: of these data; None for the held-out one.
      examples: how many, drawn from the split, always the same; more than there are take all.
      note: told what people should know.

    Raises:
      UserError: the runs are of different data, or the data have no single label for each image.
    """
    first, data = runs[0], runs[0].predictor.config["data"]
    for run in runs[1:]:
        other = run.predictor.config["data"]
        if (other["name"], other.get("classes")) != (data["name"], data.get("classes")):
            raise UserError(
                f"runs of different data: {first.workdir} of {_told(data)}, {run.workdir} of {_told(other)}"
            )
    opener = Opener.of(data, note=note)
    parts = [run.predictor.part for run in runs]
    whole = usable(opener(split), parts[0], data["on_error"], note)
    if "label" not in whole.fields or has_several_labels(whole):
        raise UserError(f"{data['name']}: robustness needs one label for each image")
    source = Subset(whole, np.sort(np.random.default_rng(0).permutation(len(whole))[:examples]))
    found = probe(source)
    largest = max(parts, key=lambda part: part.size[0] * part.size[1])
    size = found.common or largest.size
    channels = max(part.channels for part in parts)
    # In their own size images stay whole, and the crop is left to what each run does; others are cropped here.
    crop = {"name": "whole"} if found.common else largest.crop
    images = materialize(source, replace(largest, size=size, channels=channels, crop=crop))
    for run in runs:
        classes = run.predictor.scores(framed(images.arrays["image"][:1], run.predictor.part)).shape[1]
        if classes != images.num_classes:
            raise UserError(
                f"{run.workdir} tells {classes} classes apart, {data['name']} has {images.num_classes} as it is now"
            )
    return images


def _told(data: Mapping[str, Any]) -> str:
    classes = data.get("classes")
    return data["name"] if classes is None else f"the classes {', '.join(map(str, classes))} of {data['name']}"


def framed(images: np.ndarray, part: HostPart) -> np.ndarray:
    """Returns uint8 images ``[n, height, width, channels]`` cropped and resized to what a run expects."""
    return materialize(ArraySource({"image": images}, 0), part).arrays["image"]
