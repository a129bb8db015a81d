"""Local descriptors: as many for each image as it has places worth describing."""

from typing import NamedTuple

import numpy as np


class Descriptors(NamedTuple):
    """The descriptors of some images, those of one image after those of the other.

    Attributes:
      values: uint8 or float16 ``[descriptors, 128]``.
      places: float32 ``[descriptors, 2]``, x and y as a share of width and height.
      counts: int64 ``[images]``, how many each image has; may be 0.
    """

    values: np.ndarray
    places: np.ndarray
    counts: np.ndarray

    @property
    def image(self) -> np.ndarray:
        """int64 ``[descriptors]``, the image of each descriptor."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def of_images(self, start: int, stop: int) -> "Descriptors":
        """Returns the descriptors of the images from ``start`` to before ``stop``."""
        first, last = self.counts[:start].sum(), self.counts[:stop].sum()
        return Descriptors(self.values[first:last], self.places[first:last], self.counts[start:stop])


def concatenate(parts: list[Descriptors]) -> Descriptors:
    """Returns the descriptors of all images of the parts, in order."""
    values, places, counts = zip(*parts, strict=True)
    return Descriptors(np.concatenate(values), np.concatenate(places), np.concatenate(counts))
