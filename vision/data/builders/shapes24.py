"""The captioned shapes with three combinations of every color and of every shape held out."""

from collections.abc import Iterator

import tensorflow_datasets as tfds

from vision.data.builders.shape_scenes import SHAPES_24
from vision.data.builders.shapes import Shapes, examples


class Shapes24(Shapes):
    """26,000 scenes like those of ``shapes``, other draws, with 24 of the 64 combinations of color and shape held out.

    Three combinations of each color and three of each shape, those that ``shapes`` holds out among them, appear in no
    object of train (20,000), val and test (2,000 each); ``heldout`` (2,000) has no others. Each word is known from
    five combinations. As the class list has all 64, accuracy among the 24 tells whether a model that knows both words
    understands them together (chance is 1/24), and accuracy among all 64 whether it takes what it has seen for what it
    has not.

    Features, captions, sizes of splits and the reproducible pixels are those of ``shapes``.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        return examples(split, SHAPES_24)
