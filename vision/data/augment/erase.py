"""Erasing a rectangle of the image."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

from vision.data.augment.base import Augmentation, Image, Registry, check_probability
from vision.data.augment.crop import Range, check_area, draw_sides, place_within
from vision.data.augment.levels import from_levels

Value = Literal["zero", "mean", "noise"]
Place = Int[Array, ""]


def random_erasing(
    *,
    probability: float = 0.25,
    scale: Range = (0.02, 0.33),
    ratio: Range = (0.3, 3.3),
    value: Value = "zero",
    mean: tuple[float, ...] | None = None,
) -> Augmentation:
    """Erases a rectangle of random area, shape and place with the given probability (Zhong et al. 2020, algorithm 1).

    Augmentations act on raw images, before they are normalised, and so do the values:

    - ``zero`` is black, which normalising makes ``-mean / std``;
    - ``mean`` are the levels of ``mean``; with those of the data set it is what torchvision and timm call 0, since
      they erase after normalising;
    - ``noise`` draws every pixel and channel uniformly from 0 to 255, as the paper does.

    Args:
      probability: of erasing.
      scale: least and largest share of the image's area.
      ratio: least and largest height over width; its logarithm is uniform, as in torchvision.
      value: what the rectangle is filled with.
      mean: levels of 0 to 255, one per channel or one for all; needed for, and only for, ``mean``.

    Raises:
      ValueError: a probability outside [0, 1], ranges as in :func:`vision.data.augment.crop.check_area`, ``mean``
        missing, out of range or without use, or of another length than the image has channels.
    """
    check_probability(probability)
    check_area(scale, ratio)
    _check_mean(value, mean)

    def apply(key: Key[Array, ""], image: Image) -> Image:
        happens_key, box_key, noise_key = jax.random.split(key, 3)
        height, width, _ = image.shape
        top, left, rows, columns = draw_erasing(box_key, height, width, scale, ratio)
        erased = _inside(image, top, left, rows, columns) & jax.random.bernoulli(happens_key, probability)
        return jnp.where(erased, _filling(noise_key, image, value, mean), image)

    return apply


def draw_erasing(
    key: Key[Array, ""], height: int, width: int, scale: Range, ratio: Range
) -> tuple[Place, Place, Place, Place]:
    """Returns the top, left, height and width of the rectangle in pixels, as torchvision draws it.

    It is the first of ten whose rounded sides are both shorter than the image's, placed uniformly; where none is,
    its height and width are 0 and nothing is erased.

    Source: torchvision.transforms.RandomErasing.get_params.
    """
    columns, rows, place = draw_sides(key, height, width, scale, ratio)  # the ratio is height over width here
    fits = (rows < height) & (columns < width)
    first = jnp.argmax(fits)
    chosen_rows, chosen_columns = (jnp.where(fits[first], sides[first], 0) for sides in (rows, columns))
    top, left = place_within(place, height - chosen_rows, width - chosen_columns)
    return top, left, chosen_rows, chosen_columns


def cutout(*, size: int = 16, value: Value = "zero", mean: tuple[float, ...] | None = None) -> Augmentation:
    """Erases a square whose centre is uniform over the pixels; what reaches over the border is lost.

    The least that is erased is so a quarter of the square (DeVries & Taylor 2017, arXiv:1708.04552, section 3.2).

    Args:
      size: side in pixels.
      value: as in :func:`random_erasing`; the paper's 0 comes after normalising and is ``mean`` here.
      mean: as in :func:`random_erasing`.

    Raises:
      ValueError: ``size`` is negative, or ``mean`` as in :func:`random_erasing`.
    """
    if size < 0:
        raise ValueError(f"size must be >= 0, got {size}")
    _check_mean(value, mean)

    def apply(key: Key[Array, ""], image: Image) -> Image:
        center_key, noise_key = jax.random.split(key)
        row, column = draw_center(center_key, *image.shape[:2])
        erased = _inside(image, row - size // 2, column - size // 2, size, size)
        return jnp.where(erased, _filling(noise_key, image, value, mean), image)

    return apply


def draw_center(key: Key[Array, ""], height: int, width: int) -> tuple[Place, Place]:
    """Returns the row and column of a pixel, uniform over the image."""
    row, column = jax.random.randint(key, (2,), 0, jnp.array([height, width]))
    return row, column


def _inside(
    image: Image, top: Place, left: Place, rows: int | Place, columns: int | Place
) -> Bool[Array, "height width 1"]:
    row, column = jnp.arange(image.shape[0])[:, None], jnp.arange(image.shape[1])
    return ((row >= top) & (row < top + rows) & (column >= left) & (column < left + columns))[..., None]


def _filling(key: Key[Array, ""], image: Image, value: Value, mean: tuple[float, ...] | None) -> Image:
    """The image's values inside the rectangle, in its type."""
    if value == "noise":
        levels = jax.random.bits(key, image.shape, jnp.uint8).astype(jnp.float32)
    else:
        given = (0.0,) if mean is None else mean
        if len(given) not in (1, image.shape[2]):
            raise ValueError(f"mean has {len(given)} values, the images have {image.shape[2]} channels")
        levels = jnp.broadcast_to(jnp.array(given, jnp.float32), image.shape)
    return from_levels(levels, image)


def _check_mean(value: Value, mean: tuple[float, ...] | None) -> None:
    if (value == "mean") != (mean is not None):
        raise ValueError(f"mean belongs to the value 'mean' and is needed there, got {value!r} with {mean}")
    if mean is not None and not (len(mean) > 0 and 0.0 <= min(mean) <= max(mean) <= 255.0):
        raise ValueError(f"mean must be levels in [0, 255], got {mean}")


AUGMENTATIONS: Registry = {"random_erasing": random_erasing, "cutout": cutout}
