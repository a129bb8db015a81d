"""The host's part of an example: which part of an image is taken, and its resizing to a fixed size."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

Size = tuple[int, int]
Interpolation = Literal["bilinear", "bicubic"]


class Box(NamedTuple):
    """A rectangle in pixels; from the middle of the image its sides may be fractions."""

    top: float
    left: float
    height: float
    width: float


class Uniforms:
    """Numbers uniform in [0, 1), a pure function of (seed, visit, index).

    They are raw draws of Philox, whose stream NumPy keeps fixed for good (NEP 19).
    """

    def __init__(self, seed: int, visit: int, index: int):
        # The second word of the key keeps these draws apart from those of the order, whose second word is an epoch.
        self._bits = np.random.Philox(key=np.array([seed, 2**63 | visit << 32 | index], np.uint64))

    def __call__(self, low: float = 0.0, high: float = 1.0) -> float:
        """Returns the next number, uniform in [low, high)."""
        return low + (high - low) * (int(self._bits.random_raw()) >> 11) * 2.0**-53

    def integer(self, count: int) -> int:
        """Returns the next whole number, uniform in [0, count)."""
        return int(self() * count)


Crop = Callable[[Size, Size, Uniforms], Box]


def center(*, fraction: float = 1.0) -> Crop:
    """Takes the middle of the image, in the shape of the output.

    ``fraction`` 0.875 with an output of 224 is "resize the shorter side to 256, crop the central 224", in one step.

    Raises:
      ValueError: ``fraction`` is not in (0, 1].
    """
    if not 0.0 < fraction <= 1.0:
        raise ValueError(f"fraction must be in (0, 1], got {fraction}")

    def crop(size: Size, output: Size, uniforms: Uniforms) -> Box:
        scale = fraction * min(size[0] / output[0], size[1] / output[1])
        height, width = min(output[0] * scale, size[0]), min(output[1] * scale, size[1])  # not beyond, by rounding
        return Box((size[0] - height) / 2, (size[1] - width) / 2, height, width)

    return crop


def whole(*, fraction: float = 1.0) -> Crop:
    """Takes the whole image, or the middle ``fraction`` of each side; another shape than the output's is stretched.

    Raises:
      ValueError: ``fraction`` is not in (0, 1].
    """
    if not 0.0 < fraction <= 1.0:
        raise ValueError(f"fraction must be in (0, 1], got {fraction}")

    def crop(size: Size, output: Size, uniforms: Uniforms) -> Box:
        height, width = size[0] * fraction, size[1] * fraction
        return Box((size[0] - height) / 2, (size[1] - width) / 2, height, width)

    return crop


def random_resized(*, scale: tuple[float, float] = (0.08, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3)) -> Crop:
    """Takes a rectangle of random area and shape, the "Inception crop" (Szegedy et al. 2015, section 6).

    The area is uniform in ``scale`` times the image's, the logarithm of width / height uniform in that of
    ``ratio``; of ten such draws the first that fits is taken at a uniform place, and where none fits the central
    rectangle of the nearest allowed shape, as torchvision's RandomResizedCrop does.

    Raises:
      ValueError: a range is not positive and ascending, or ``scale`` reaches beyond 1.
    """
    for name, (low, high) in (("scale", scale), ("ratio", ratio)):
        if not 0.0 < low <= high:
            raise ValueError(f"{name} must be a positive, ascending range, got {(low, high)}")
    if scale[1] > 1.0:
        raise ValueError(f"scale must end at 1 or below, got {scale}")

    def crop(size: Size, output: Size, uniforms: Uniforms) -> Box:
        for _ in range(10):
            area = size[0] * size[1] * uniforms(*scale)
            shape = math.exp(uniforms(math.log(ratio[0]), math.log(ratio[1])))
            height, width = round(math.sqrt(area / shape)), round(math.sqrt(area * shape))
            if 0 < height <= size[0] and 0 < width <= size[1]:
                top, left = uniforms.integer(size[0] - height + 1), uniforms.integer(size[1] - width + 1)
                return Box(top, left, height, width)
        height, width = size
        if width < height * ratio[0]:
            height = max(round(width / ratio[0]), 1)
        elif width > height * ratio[1]:
            width = max(round(height * ratio[1]), 1)
        return Box((size[0] - height) // 2, (size[1] - width) // 2, height, width)

    return crop


CROPS: dict[str, Callable[..., Crop]] = {"center": center, "whole": whole, "random_resized": random_resized}
DRAWS = ("random_resized",)


def resize(pixels: np.ndarray, box: Box, output: Size, *, interpolation: Interpolation, library: str) -> np.ndarray:
    """Returns the part of an image in ``box``, resized to ``output``.

    Pillow's filters widen when they shrink an image (antialiasing). OpenCV's do not: the part is first halved by
    averaging 2x2 pixels while it is more than twice too large, and then interpolated, five times faster; its box is
    rounded to whole pixels.

    Args:
      pixels: uint8 ``[height, width, channels]``.
      box: within the image.
      output: ``(height, width)``.
      interpolation: filter.
      library: ``opencv`` or ``pillow``.
    """
    if box == (0, 0, *output) and pixels.shape[:2] == tuple(output):
        return pixels
    if library == "pillow":
        return _with_pillow(pixels, box, output, interpolation)
    return _with_opencv(pixels, box, output, interpolation)


def _with_pillow(pixels: np.ndarray, box: Box, output: Size, interpolation: Interpolation) -> np.ndarray:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    right, bottom = min(box.left + box.width, pixels.shape[1]), min(box.top + box.height, pixels.shape[0])
    kind = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[interpolation]
    resized = np.asarray(image.resize(output[::-1], kind, box=(box.left, box.top, right, bottom)))
    return resized if resized.ndim == 3 else resized[..., None]


def _with_opencv(pixels: np.ndarray, box: Box, output: Size, interpolation: Interpolation) -> np.ndarray:
    import cv2

    top, left = min(round(box.top), pixels.shape[0] - 1), min(round(box.left), pixels.shape[1] - 1)
    part = pixels[top : max(top + round(box.height), top + 1), left : max(left + round(box.width), left + 1)]
    while part.shape[0] >= 2 * output[0] and part.shape[1] >= 2 * output[1]:
        # An odd side is not first cut to an even one, which would be ten times faster and shift the image.
        part = cv2.resize(part, (part.shape[1] // 2, part.shape[0] // 2), interpolation=cv2.INTER_AREA)
        part = part if part.ndim == 3 else part[..., None]
    kind = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}[interpolation]
    resized = cv2.resize(part, output[::-1], interpolation=kind)
    return resized if resized.ndim == 3 else resized[..., None]
