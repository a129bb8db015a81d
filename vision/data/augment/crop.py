"""Crops: of random area and shape, resized, and of the middle."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from vision.data.augment.base import Augmentation, Image, Registry
from vision.data.augment.resample import Filter, Resized, resize_crop

Range = tuple[float, float]
Place = Int[Array, ""]
_TRIES = 10


def random_resized_crop(
    *,
    size: int | None = None,
    scale: Range = (0.08, 1.0),
    ratio: Range = (3 / 4, 4 / 3),
    interpolation: Filter = "bilinear",
) -> Augmentation:
    """Cuts out a box of random area and shape and resizes it (Szegedy et al. 2015, section 6).

    Draws as torchvision's ``RandomResizedCrop`` does, see :func:`draw_resized_crop`, and resizes as Pillow does, see
    :func:`vision.data.augment.resample.resize_crop`.

    Args:
      size: side of the square result in pixels; None keeps the size of the image.
      scale: least and largest share of the image's area.
      ratio: least and largest width over height of the box.
      interpolation: bilinear or bicubic, antialiased.

    Raises:
      ValueError: ``size`` is not positive, ``scale`` is not an ascending range in (0, 1], or ``ratio`` not one of
        positive numbers.
    """
    check_size(size)
    check_area(scale, ratio)

    def apply(key: Key[Array, ""], image: Image) -> Resized:
        height, width, _ = image.shape
        top, left, crop_height, crop_width = draw_resized_crop(key, height, width, scale, ratio)
        return resize_crop(
            image,
            top=top,
            left=left,
            crop_height=crop_height,
            crop_width=crop_width,
            size=(height, width) if size is None else (size, size),
            filter=interpolation,
        )

    return apply


def draw_resized_crop(
    key: Key[Array, ""], height: int, width: int, scale: Range, ratio: Range
) -> tuple[Place, Place, Place, Place]:
    """Returns the top, left, height and width of a random box in pixels, as torchvision draws it.

    The area is uniform in ``scale`` times that of the image, the logarithm of width over height is uniform, and the
    first of ten boxes whose rounded sides fit is placed uniformly. Where none fits, it is the largest box in the
    middle of a shape within ``ratio``. Boxes that do not fit are drawn anew, so large areas are rarer than small.

    Source: torchvision.transforms.RandomResizedCrop.get_params.
    """
    heights, widths, place = draw_sides(key, height, width, scale, ratio)
    fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
    first = jnp.argmax(fits)
    any_fits = fits[first]
    middle_height, middle_width = _largest_within(height, width, ratio)
    crop_height = jnp.where(any_fits, heights[first], middle_height)
    crop_width = jnp.where(any_fits, widths[first], middle_width)
    top, left = place_within(place, height - crop_height, width - crop_width)
    top = jnp.where(any_fits, top, (height - middle_height) // 2)
    left = jnp.where(any_fits, left, (width - middle_width) // 2)
    return top, left, crop_height, crop_width


def draw_sides(
    key: Key[Array, ""], height: int, width: int, scale: Range, ratio: Range
) -> tuple[Int[Array, "10"], Int[Array, "10"], Float[Array, "2"]]:
    """Returns heights and widths of ten boxes in pixels, which need not fit, and a place for :func:`place_within`.

    All of it is one call of the generator, each of which takes a compiler long.
    """
    drawn = jax.random.uniform(key, (2 * _TRIES + 2,))
    area = height * width * (scale[0] + (scale[1] - scale[0]) * drawn[:_TRIES])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    width_over_height = jnp.exp(low + (high - low) * drawn[_TRIES:-2])
    sides = jnp.sqrt(area / width_over_height), jnp.sqrt(area * width_over_height)
    return jnp.round(sides[0]).astype(jnp.int32), jnp.round(sides[1]).astype(jnp.int32), drawn[-2:]


def place_within(place: Float[Array, "2"], free_rows: Place, free_columns: Place) -> tuple[Place, Place]:
    """Returns a top and left from 0 up to and with what a box leaves free, uniform if ``place`` is in [0, 1)."""
    top, left = jnp.floor(place * (jnp.stack([free_rows, free_columns]) + 1)).astype(jnp.int32)
    return top, left


def center_crop(*, size: int | None = None) -> Augmentation:
    """Cuts out the square in the middle, as evaluation does.

    Args:
      size: its side in pixels; None keeps the whole image. Half of an odd rest is rounded to even, as in torchvision.

    Raises:
      ValueError: ``size`` is not positive, or larger than an image.
    """
    check_size(size)

    def apply(key: Key[Array, ""], image: Image) -> Resized:
        del key  # nothing is drawn
        height, width, _ = image.shape
        if size is None:
            return image
        if size > min(height, width):
            raise ValueError(f"an image of {height} by {width} pixels has no square of {size}")
        top, left = round((height - size) / 2), round((width - size) / 2)
        return image[top : top + size, left : left + size]

    return apply


def check_size(size: int | None) -> None:
    """Raises a ValueError for a size that is not positive."""
    if size is not None and size < 1:
        raise ValueError(f"size must be >= 1, got {size}")


def check_area(scale: Range, ratio: Range) -> None:
    """Raises a ValueError for ranges of area and shape that no box can have."""
    if not 0.0 < scale[0] <= scale[1] <= 1.0:
        raise ValueError(f"scale must ascend within (0, 1], got {scale}")
    if not 0.0 < ratio[0] <= ratio[1]:
        raise ValueError(f"ratio must be positive and ascend, got {ratio}")


def _largest_within(height: int, width: int, ratio: Range) -> tuple[int, int]:
    """The height and width of the largest box of the image whose shape is within the ratio."""
    if width / height < ratio[0]:
        return round(width / ratio[0]), width
    if width / height > ratio[1]:
        return height, round(height * ratio[1])
    return height, width


AUGMENTATIONS: Registry = {"random_resized_crop": random_resized_crop, "center_crop": center_crop}
