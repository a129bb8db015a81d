"""Resizing with an antialiasing filter, as Pillow does it, of a box that may be drawn at random."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from vision.data.augment.base import Image

Filter = Literal["bilinear", "bicubic"]
Resized = Num[Array, "new_height new_width channels"]
Whole = int | Int[Array, ""]
Weights = Int[Array, "outputs inputs"]
_SUPPORT = {"bilinear": 1, "bicubic": 2}  # pixels of the coarser of the two images, to each side
_WEIGHT_BITS, _HALF_BITS = 22, 11
_CUBIC_BITS = 24
_ONE = 1 << _CUBIC_BITS


def resize_crop(
    image: Image,
    *,
    top: Whole,
    left: Whole,
    crop_height: Whole,
    crop_width: Whole,
    size: tuple[int, int],
    filter: Filter = "bilinear",
) -> Resized:
    """Cuts a box out of an image and resizes it, as Pillow's ``image.crop(box).resize(size, filter)`` does.

    Pixels outside the box count for nothing (Pillow's ``resize(box=...)`` would let the filter reach over its edge).
    One dense matrix of weights for each direction makes it two matrix products, whatever box is drawn: first along
    the rows, then along the columns.

    uint8 images are rounded and clipped to 8 bits after each of them, and the weights are integers of 2**-22, as in
    Pillow. Every sum is of integers that float32 holds exactly, so neither batch size nor device changes a bit.
    ``bilinear`` equals Pillow up to version 12 bit for bit. ``bicubic`` differs from it by one level where the exact
    value is halfway between two: for noise in 1 of 10,000 values, and in 4 of 1,000 where the scale is as simple a
    fraction as 2/3 and such values are common, because the cubic is taken to 2**-24. Pillow 13 goes along the
    columns first where the height shrinks by more than twice the pixels that the width does, and so rounds and clips
    other numbers: there a third of the values of bicubic noise differ, most by one level.

    Floating images are neither rounded nor clipped. Pillow's mode ``F`` differs by 1e-6.

    Args:
      image: uint8, or floating; its sides at most 40 times those of the result, so that 32 bits suffice.
      top: first row of the box.
      left: first column of the box.
      crop_height: rows of the box, at least 1; may be traced, as may the other three.
      crop_width: columns of the box.
      size: height and width of the result.
      filter: ``bilinear``, a triangle, or ``bicubic``, Keys 1981 with a = -0.5; each as wide as the scale asks.

    Source: Pillow, src/libImaging/Resample.c.
    """
    height, width, _ = image.shape
    across = _shares(left, crop_width, inputs=width, outputs=size[1], filter=filter)
    down = _shares(top, crop_height, inputs=height, outputs=size[0], filter=filter)
    weigh = _weigh_floating if jnp.issubdtype(image.dtype, jnp.floating) else _weigh_integers
    rows = weigh(across, image.transpose(1, 0, 2)).transpose(1, 0, 2)
    return weigh(down, rows).astype(image.dtype)


def _shares(first: Whole, length: Whole, *, inputs: int, outputs: int, filter: Filter) -> Weights:
    """What each of ``inputs`` pixels of a line counts for in each output pixel, in no particular unit.

    The distance to the output pixel's centre, in units of the coarser grid, is a fraction of two whole numbers;
    whole numbers do not care how a compiler groups multiplications and additions.
    """
    pixel = jnp.arange(inputs) - first
    numerator = jnp.abs((2 * pixel + 1) * outputs - (2 * jnp.arange(outputs)[:, None] + 1) * length)
    denominator = jnp.broadcast_to(2 * jnp.maximum(length, outputs), (1, 1))
    inside = (pixel >= 0) & (pixel < length) & (numerator < _SUPPORT[filter] * denominator)
    if filter == "bilinear":
        shares = denominator - numerator
    else:
        shares = _cubic(_quotient(jnp.where(inside, numerator, 0), denominator, _CUBIC_BITS))
    return jnp.where(inside, shares, 0)


def _cubic(distance: Weights) -> Weights:
    """Keys' kernel with a = -0.5 (IEEE Trans. ASSP 29(6), 1981, equation 15) for distances of 0 to 2, in 2**-24."""
    near = _times(_times(3 * distance // 2 - 5 * _ONE // 2, distance), distance) + _ONE
    far = _times(_times(distance - 5 * _ONE, distance) + 8 * _ONE, distance) - 4 * _ONE
    return jnp.where(distance < _ONE, near, -far // 2)


def _times(a: Weights, b: Weights) -> Weights:
    """The product of two numbers in 2**-24 that stays in 32 bits."""
    (high_a, low_a), (high_b, low_b) = ((number >> 12, number & 0xFFF) for number in (a, b))
    middle = high_a * low_b + low_a * high_b + (low_a * low_b >> 12)
    return high_a * high_b + (middle + (1 << 11) >> 12)


def _weigh_integers(shares: Weights, lines: Num[Array, "inputs more channels"]) -> Array:
    """Rounded and clipped sums of 8-bit lines.

    The weights go in two halves of 11 bits, so that the sums stay below 2**24: float32 has them exactly, in
    whatever order they are taken.
    """
    whole = _quotient(shares, jnp.sum(shares, axis=1, keepdims=True), _WEIGHT_BITS)
    high = whole + (1 << _HALF_BITS - 1) >> _HALF_BITS
    halves = jnp.concatenate([high, whole - (high << _HALF_BITS)]).astype(jnp.float32)
    high, low = jnp.split(_product(halves, lines.astype(jnp.float32)).astype(jnp.int32), 2)
    total = (high << _HALF_BITS) + low + (1 << _WEIGHT_BITS - 1)
    return jnp.clip(total >> _WEIGHT_BITS, 0, 255).astype(jnp.uint8)


def _quotient(numerator: Weights, denominator: Int[Array, "#outputs #inputs"], bits: int) -> Weights:
    """The quotient in ``2**-bits``, rounded half up.

    That of float32 may be off by a few. What it leaves is small, so 32 bits that wrap around have it exactly.
    """
    nearly = numerator.astype(jnp.float32) / denominator.astype(jnp.float32)
    whole = jnp.round(nearly * 2.0**bits).astype(jnp.int32)
    rest = (numerator << bits) - whole * denominator
    return whole + (2 * rest + denominator) // (2 * denominator)


def _weigh_floating(shares: Weights, lines: Num[Array, "inputs more channels"]) -> Array:
    """Sums of floating lines."""
    weights = shares.astype(jnp.float32) / jnp.sum(shares, axis=1, keepdims=True).astype(jnp.float32)
    return _product(weights, lines.astype(jnp.float32))


def _product(weights: Float[Array, "outputs inputs"], lines: Float[Array, "inputs more channels"]) -> Array:
    flat = lines.reshape(lines.shape[0], -1)
    summed = jnp.matmul(weights, flat, precision=jax.lax.Precision.HIGHEST)
    return summed.reshape(-1, *lines.shape[1:])
