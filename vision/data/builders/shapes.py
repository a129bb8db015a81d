"""A TFDS builder for captioned scenes of colored shapes; it needs neither download nor TensorFlow."""

import io
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from vision.data.builders.shape_captions import captions
from vision.data.builders.shape_raster import PIXELS, render
from vision.data.builders.shape_scenes import (
    BACKGROUNDS,
    CELLS,
    CLASSES,
    COLORS,
    SHAPES,
    SHAPES_8,
    SIZES,
    SPLITS,
    Recipe,
    Scenes,
    draw,
)

_CHUNK = 1000


class Shapes(tfds.core.GeneratorBasedBuilder):
    """26,000 scenes of one to three colored shapes, 64 x 64 RGB, with captions, drawn by a fixed recipe.

    A scene has a background out of 5 and 1, 2 or 3 objects, each equally often. An object is one of 8 colors and
    8 shapes, small (radius 5 to 6.5 pixels) or large (8.5 to 10), anywhere inside one of the 3 x 3 cells of the
    picture; no two objects share a cell, overlap, or agree in both color and shape. Each color channel varies by up
    to 6 levels from object to object and from background to background. Edges are antialiased.

    The first object is the main one. Among several it is the only large one, so the picture tells which it is; alone
    it has either size. ``label`` is its color and shape, 64 classes; ``color``, ``shape``, ``size`` and ``cell`` are
    its too; ``objects`` has the same of all objects, the main one first. ``captions`` has 6 captions, or 8 where
    there are several objects, in the order of ``shape_captions.FORMS``.

    8 of the 64 combinations of color and shape, one of each color and one of each shape, appear in no object of
    train (20,000), val and test (2,000 each); ``heldout`` (2,000) has no others. As the class list has all 64,
    accuracy on it tells whether a model that knows both words understands them together; chance is 1/64.

    Draws, geometry and blending are integer arithmetic on raw draws of Philox: the pixels are the same on every
    machine and with every library; the bytes of a PNG may differ.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        label = tfds.features.ClassLabel
        one = {"color": COLORS, "shape": SHAPES, "size": SIZES, "cell": CELLS}
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(PIXELS, PIXELS, 3)),
                "label": label(names=list(CLASSES)),
                "captions": tfds.features.Sequence(tfds.features.Text()),
                "background": label(names=list(BACKGROUNDS)),
                "num_objects": np.int64,
                **{name: label(names=list(names)) for name, names in one.items()},
                "objects": tfds.features.Sequence({name: label(names=list(names)) for name, names in one.items()}),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self, description=self.__doc__, features=features, supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        return examples(split, SHAPES_8)


def examples(split: str, recipe: Recipe) -> Iterator[tuple[int, dict]]:
    """Yields the number and the features of every scene of a split."""
    scenes = draw(split, SPLITS[split], recipe)
    for start in range(0, SPLITS[split], _CHUNK):
        chunk = Scenes(**{name: column[start : start + _CHUNK] for name, column in vars(scenes).items()})
        for offset, picture in enumerate(render(chunk)):
            yield start + offset, {"image": _png(picture), **_annotations(chunk, offset)}


def _annotations(scenes: Scenes, index: int) -> dict:
    """Returns all features of one scene but the image."""
    there = range(scenes.num_objects[index])
    columns = {"color": scenes.color, "shape": scenes.shape, "size": scenes.size, "cell": scenes.cell}
    objects = [{name: int(column[index, each]) for name, column in columns.items()} for each in there]
    return {
        "label": objects[0]["color"] * len(SHAPES) + objects[0]["shape"],
        "captions": list(captions(scenes, index).values()),
        "background": int(scenes.background[index]),
        "num_objects": len(objects),
        **objects[0],
        "objects": objects,
    }


def _png(picture: np.ndarray) -> io.BytesIO:
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, format="PNG", compress_level=6)
    encoded.seek(0)
    return encoded
