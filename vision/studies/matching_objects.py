"""Where the objects of the matching trials come from: photographs of libraries, drawn shapes, data of one's own."""

from dataclasses import dataclass

import cv2
import numpy as np
from skimage import data
from sklearn.datasets import load_sample_image

from vision.data.builders.shape_raster import render
from vision.data.builders.shape_scenes import SHAPES, draw
from vision.data.decode import DecodeError, decode
from vision.data.source import Source
from vision.errors import UserError

_LARGEST = 320  # side of an image that is not made smaller, pixels
_SMALLEST = 160  # smaller images are enlarged before keypoints are looked for
_READ = 400  # images of one's own that are looked at


@dataclass(frozen=True)
class Objects:
    """Images of objects with a class each.

    Attributes:
      images: each uint8 ``[height, width, 3]``.
      classes: int ``[n]``.
      others: what another image of the same class is, and what one of another class is, in words.
      upsample: how many times larger they are made before keypoints are looked for.
    """

    images: list[np.ndarray]
    classes: np.ndarray
    others: tuple[str, str] = ("another of its class", "one of another class")
    upsample: int = 1

    def another(self, index: int, generator: np.random.Generator, *, same_class: bool) -> int | None:
        """Returns another image of the class of one, or of another class; None where there is none."""
        fitting = (self.classes == self.classes[index]) == same_class
        fitting[index] = False
        return int(generator.choice(np.flatnonzero(fitting))) if fitting.any() else None


def photographs() -> Objects:
    """Returns halves of the photographs that come with scikit-learn and scikit-image; the photograph is the class."""
    pictures = [load_sample_image("china.jpg"), load_sample_image("flower.jpg")]
    pictures += [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
    halves = [_small_enough(half) for picture in pictures for half in np.array_split(picture, 2, axis=1)]
    classes = np.repeat(np.arange(len(pictures)), 2)
    return Objects(halves, classes, ("other half of its photograph", "half of another photograph"))


def shapes(count: int) -> Objects:
    """Returns pictures of coloured shapes; the colour and shape of the main one is the class."""
    scenes = draw("train", count)
    return Objects(list(render(scenes)), scenes.color[:, 0] * len(SHAPES) + scenes.shape[:, 0], upsample=4)


def own(source: Source, seed: int) -> Objects:
    """Returns some images of a source.

    Raises:
      UserError: it has no labels of one class each, or an image does not decode.
    """
    if "label" not in source.fields or source.labels().ndim != 1:
        raise UserError("--data: pairs of one class need images with one label each, such as a folder for each class")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(source))[:_READ])
    images = []
    for index, example in zip(chosen, source.read(chosen.tolist()), strict=True):
        try:
            image = example["image"]
            image = decode(image, channels=3) if isinstance(image, bytes) else image
        except DecodeError as error:
            raise UserError(f"{source.where(int(index))} does not decode: {error}") from error
        images.append(_small_enough(image if image.shape[-1] == 3 else np.repeat(image, 3, axis=-1)))
    shorter = int(np.median([min(image.shape[:2]) for image in images]))
    return Objects(images, source.labels()[chosen], upsample=max(1, round(_SMALLEST / shorter)))


def _small_enough(image: np.ndarray) -> np.ndarray:
    scale = _LARGEST / max(image.shape[:2])
    if scale >= 1:
        return image
    size = (max(8, round(image.shape[1] * scale)), max(8, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
