"""Maps of levels (solarize, posterize, equalize, ...) and sharpness, as Pillow's ImageOps and ImageEnhance have them.

All are bit for bit Pillow's on uint8 images. Floating images are changed without steps, except where the docstring
says otherwise.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, UInt8

from vision.data.augment.base import Augmentation, Image, Registry, check_probability, with_probability
from vision.data.augment.color import Scalar, blend
from vision.data.augment.levels import Levels, from_levels, to_levels

Table = UInt8[Array, "256 channels"]
Extreme = Int[Array, " channels"]
_MOST_FALLS = 17


def invert(image: Image) -> Image:
    """Returns 255 minus each level: ImageOps.invert."""
    return from_levels(255.0 - to_levels(image), image)


def solarize(image: Image, threshold: Scalar = 128.0) -> Image:
    """Returns the image with the levels at or above ``threshold`` (0 to 255) inverted: ImageOps.solarize."""
    levels = to_levels(image)
    return from_levels(jnp.where(levels < threshold, levels, 255.0 - levels), image)


def solarize_add(image: Image, addition: Scalar, threshold: Scalar = 128.0) -> Image:
    """Returns the image with ``addition`` added to the levels below ``threshold``, clipped to 0..255.

    Pillow has no such function; it is the SolarizeAdd of RandAugment (Cubuk et al. 2020, arXiv:1909.13719).
    """
    levels = to_levels(image)
    return from_levels(jnp.where(levels < threshold, jnp.clip(levels + addition, 0.0, 255.0), levels), image)


def posterize(image: Image, bits: int | Int[Array, ""]) -> Image:
    """Returns the image with the highest ``bits`` (0 to 8) bits of each level: ImageOps.posterize.

    Floating images are rounded to 256 levels first.
    """
    dropped = (8 - jnp.asarray(bits)).astype(jnp.int32)
    whole = quantised(image).astype(jnp.int32)
    return restored(((whole >> dropped) << dropped).astype(jnp.uint8), image)


def autocontrast(image: Image) -> Image:
    """Returns the image with each channel stretched to 0..255: ImageOps.autocontrast.

    A channel of one level stays as it is.
    """
    levels = to_levels(image)
    low, high = jnp.min(levels, axis=(0, 1)), jnp.max(levels, axis=(0, 1))
    if not jnp.issubdtype(image.dtype, jnp.floating):
        return lookup(image, autocontrast_table(low.astype(jnp.int32), high.astype(jnp.int32)))
    stretched = (levels - low) * (255.0 / jnp.where(high > low, high - low, 255.0))
    return from_levels(jnp.where(high > low, stretched, levels), image)


def equalize(image: Image) -> Image:
    """Returns the image with the histogram of each channel levelled: ImageOps.equalize.

    Floating images are rounded to 256 levels first.
    """
    whole = quantised(image)
    return restored(lookup(whole, equalize_table(histogram(whole))), image)


def sharpness(image: Image, factor: Scalar) -> Image:
    """Returns the image blended with its smoothed self: ImageEnhance.Sharpness.

    Factor 0 smooths, 1 keeps, 2 sharpens. The border of one pixel stays as it is.
    """
    return from_levels(blend(smooth(image), to_levels(image), factor), image, truncate=True)


def smooth(image: Image) -> Levels:
    """Returns levels of the 3x3 weighted mean of ImageFilter.SMOOTH: centre 5, neighbours 1, borders copied."""
    levels = to_levels(image)
    height, width, _ = image.shape
    if height < 3 or width < 3:
        return levels
    padded = jax.lax.optimization_barrier(jnp.pad(levels, ((1, 1), (1, 1), (0, 0))))  # made once, not for every use
    rows = [padded[top : top + height] for top in range(3)]
    total = 4.0 * levels + sum(row[:, left : left + width] for row in rows for left in range(3))
    # A sum of levels over 13 is never halfway between whole numbers, so every device rounds it alike.
    mean = total * (1.0 / 13.0)
    mean = mean if jnp.issubdtype(image.dtype, jnp.floating) else jnp.floor(mean + 0.5)
    row, column = jnp.arange(height)[:, None, None], jnp.arange(width)[:, None]
    inside = (row > 0) & (row < height - 1) & (column > 0) & (column < width - 1)
    return jnp.where(inside, mean, levels)


def quantised(image: Image) -> UInt8[Array, "height width channels"]:
    """Returns the image in whole levels: floating ones are rounded to 256."""
    return from_levels(to_levels(image), image.astype(jnp.uint8))


def restored(image: UInt8[Array, "height width channels"], like: Image) -> Image:
    """Returns whole levels as an image of the type of ``like``."""
    if not jnp.issubdtype(like.dtype, jnp.floating):
        return image
    return (image.astype(jnp.float32) * (1.0 / 255.0)).astype(like.dtype)


def lookup(image: UInt8[Array, "height width channels"], table: Table) -> UInt8[Array, "height width channels"]:
    """Returns the image with each level replaced by its entry in the table of its channel."""
    channels = image.shape[-1]
    # XLA on CPU would compute the entry anew for every pixel that looks into it; it keeps the result of a product.
    kept = jnp.dot(table.astype(jnp.float32), jnp.eye(channels), precision="highest").astype(jnp.uint8)
    return kept.at[image.astype(jnp.int32), jnp.arange(channels)].get(mode="promise_in_bounds")


def histogram(image: UInt8[Array, "height width channels"]) -> Int[Array, "256 channels"]:
    """Returns how many pixels of each channel have each level.

    A scatter-add of integers: exact, and on CPU the fastest of the ways tried (at 224 pixels 6 times faster than a
    sort, 14 times than a product of one-hot vectors).
    """
    channels = image.shape[-1]
    place = image.astype(jnp.int32) * channels + jnp.arange(channels)
    counts = jnp.zeros(256 * channels, jnp.int32).at[place.ravel()].add(1, mode="promise_in_bounds")
    return counts.reshape(256, channels)


def equalize_table(counts: Int[Array, "256 channels"]) -> Table:
    """Returns the levels that ImageOps.equalize gives to each level of each channel with such a histogram."""
    up_to = jnp.cumsum(counts, axis=0)
    step = jnp.max(jnp.where(up_to < up_to[-1], up_to, 0), axis=0) // 255  # all pixels but the brightest
    table = jnp.minimum((step // 2 + up_to - counts) // jnp.maximum(step, 1), 255)
    return jnp.where(step > 0, table, _ramp()).astype(jnp.uint8)


def extremes(counts: Int[Array, "256 channels"]) -> tuple[Extreme, Extreme]:
    """Returns the lowest and the highest level of each channel with such a histogram."""
    up_to = jnp.cumsum(counts, axis=0)
    return jnp.sum(up_to == 0, axis=0), jnp.sum(up_to < up_to[-1], axis=0)


def autocontrast_table(low: Extreme, high: Extreme) -> Table:
    """Returns the levels that ImageOps.autocontrast gives to each level of each channel with such extremes."""
    ramp = _ramp()
    exact = jnp.clip(ramp - low, 0, high - low) * 255 // jnp.maximum(high - low, 1)
    first = (low * 256 + high) * 256
    falls_below = jnp.asarray(_autocontrast_falls_below())
    near = jnp.searchsorted(falls_below, first) + jnp.arange(_MOST_FALLS)[:, None]
    level = falls_below.at[near].get(mode="clip") - first
    ours = jnp.where(level < 256, level, 256)  # places of other extremes lie further on and are dropped
    lower = jnp.zeros_like(exact).at[ours, jnp.arange(len(low))].set(1, mode="drop")
    return jnp.where(high > low, exact - lower, ramp).astype(jnp.uint8)


@functools.cache
def _autocontrast_falls_below() -> Int[np.ndarray, " places"]:
    """Where Pillow's ``int(level * scale + offset)`` is one below the exact ratio, as double arithmetic has it.

    Sorted numbers ``(low * 256 + high) * 256 + level``, and one that is above all of them: some 12,000 of 2.8 million,
    at most ``_MOST_FALLS`` for one pair of extremes, among them many whose brightest level becomes 254.
    """
    low, level = np.arange(256)[:, None], np.arange(256)
    places = []
    for width in range(1, 256):
        scale = 255.0 / width
        inside = (low <= level) & (level <= low + width) & (low + width <= 255)
        below = (level * scale + -low * scale).astype(int) < (level - low) * 255 // width
        low_of, level_of = np.nonzero(inside & below)
        places.append((low_of * 256 + low_of + width) * 256 + level_of)
    return np.append(np.sort(np.concatenate(places)), 2**24).astype(np.int32)


def _ramp() -> Int[Array, "256 1"]:
    return jnp.arange(256)[:, None]


def random_invert(*, probability: float = 0.5) -> Augmentation:
    """Inverts the image with the given probability; see :func:`invert`.

    Raises:
      ValueError: ``probability`` is not in [0, 1].
    """
    return _sometimes(probability, invert)


def random_solarize(*, threshold: float = 128.0, probability: float = 0.5) -> Augmentation:
    """Inverts the levels at or above ``threshold`` with the given probability; see :func:`solarize`.

    BYOL and DINO solarize one of the two views with probability 0.2 (Grill et al. 2020, arXiv:2006.07733, table 6).

    Raises:
      ValueError: ``threshold`` is not in [0, 256], or ``probability`` not in [0, 1].
    """
    _check_level("threshold", threshold)
    return _sometimes(probability, lambda image: solarize(image, threshold))


def random_solarize_add(*, addition: float = 64.0, threshold: float = 128.0, probability: float = 0.5) -> Augmentation:
    """Adds to the levels below ``threshold`` with the given probability; see :func:`solarize_add`.

    Raises:
      ValueError: ``threshold`` is not in [0, 256], or ``probability`` not in [0, 1].
    """
    _check_level("threshold", threshold)
    return _sometimes(probability, lambda image: solarize_add(image, addition, threshold))


def random_posterize(*, bits: int = 4, probability: float = 0.5) -> Augmentation:
    """Keeps the highest bits of each level with the given probability; see :func:`posterize`.

    Raises:
      ValueError: ``bits`` is not in 1..8, or ``probability`` not in [0, 1].
    """
    if not 1 <= bits <= 8:
        raise ValueError(f"bits must be in 1..8, got {bits}")
    return _sometimes(probability, lambda image: posterize(image, bits))


def random_autocontrast(*, probability: float = 0.5) -> Augmentation:
    """Stretches each channel to 0..255 with the given probability; see :func:`autocontrast`.

    Raises:
      ValueError: ``probability`` is not in [0, 1].
    """
    return _sometimes(probability, autocontrast)


def random_equalize(*, probability: float = 0.5) -> Augmentation:
    """Levels the histogram of each channel with the given probability; see :func:`equalize`.

    Raises:
      ValueError: ``probability`` is not in [0, 1].
    """
    return _sometimes(probability, equalize)


def random_sharpness(*, factor: float = 2.0, probability: float = 0.5) -> Augmentation:
    """Smooths (factor below 1) or sharpens the image with the given probability; see :func:`sharpness`.

    Raises:
      ValueError: ``factor`` is negative, or ``probability`` is not in [0, 1].
    """
    if factor < 0:
        raise ValueError(f"factor must be >= 0, got {factor}")
    return _sometimes(probability, lambda image: sharpness(image, factor))


def _check_level(name: str, level: float) -> None:
    if not 0.0 <= level <= 256.0:
        raise ValueError(f"{name} must be in [0, 256], got {level}")


def _sometimes(probability: float, change: Callable[[Image], Image]) -> Augmentation:
    check_probability(probability)

    def apply(key: Key[Array, ""], image: Image) -> Image:
        return with_probability(probability, key, change(image), image)

    return apply


AUGMENTATIONS: Registry = {
    "random_invert": random_invert,
    "random_solarize": random_solarize,
    "random_solarize_add": random_solarize_add,
    "random_posterize": random_posterize,
    "random_autocontrast": random_autocontrast,
    "random_equalize": random_equalize,
    "random_sharpness": random_sharpness,
}
