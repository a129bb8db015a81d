"""Affine maps of one image as Pillow computes them: the matrix and the resampling."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from vision.data.augment.base import Image

Interpolation = Literal["nearest", "bilinear"]
Matrix = Float[Array, "6"]
Scalar = int | float | Num[Array, ""]
_Words = tuple[Int[Array, "3"], Int[Array, "3"]]
_LOW_BITS = 14  # below the 16 of the high words


def warp(image: Image, matrix: Matrix, *, interpolation: Interpolation = "nearest", fill: Scalar = 0.0) -> Image:
    """Moves the pixels of an image by an affine map, as Pillow's ``Image.transform(size, AFFINE, matrix)`` does.

    The source of the pixel whose centre is ``(x, y)`` is ``(a x + b y + c, d x + e y + f)`` for the matrix
    ``(a, b, c, d, e, f)``; pixels whose source lies outside the image become ``fill``. For uint8 images everything
    is computed in integers, so that neither batch size nor device changes a bit:

    - ``nearest`` equals Pillow bit for bit for the same matrix, with its 16.16 fixed-point coordinates and the
      finer ones that it uses where the matrix only scales and moves;
    - ``bilinear`` takes coordinates to 2**-17 of a pixel, interpolates exactly and cuts the fraction off as Pillow
      does. It differs by one level, never more, where the exact value is within 2**-16 times the local contrast of
      an integer: 0.1% of the values for noise, and whole rows where the map sends pixels onto pixels up to the
      rounding of its matrix, since there Pillow cuts off what its own rounding left.

    Args:
      image: uint8, or floating in [0, 1], which keeps its fractions.
      matrix: from output to input coordinates, in pixels; these must stay within 16,384 of the origin.
      interpolation: nearest or bilinear; bilinear repeats the border pixels over half a pixel.
      fill: level of 0 to 255 for every channel.

    Source: Pillow, src/libImaging/Geometry.c: affine_fixed, ImagingScaleAffine, bilinear_filter.
    """
    height, width, channels = image.shape
    only_scales = (matrix[1] == 0) & (matrix[3] == 0)
    across, down = _split(matrix[:3]), _split(matrix[3:])
    if interpolation == "nearest":
        across, down = (_fixed_unless(only_scales, words) for words in (across, down))
    x, y = (_coordinates(words, height, width) for words in (across, down))  # in 2**-17 of a pixel, cut off
    column, row = x >> 17, y >> 17
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    pixels = image.reshape(height * width, channels)

    def pixel(row: Int[Array, "height width"], column: Int[Array, "height width"]) -> Image:
        return pixels[jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1)]

    if interpolation == "nearest":
        moved = pixel(row, column)
    else:
        x, y = ((axis + 1 >> 1) - (1 << 15) for axis in (x, y))  # in 2**-16 of a pixel, from the centre of the first
        column, row = x >> 16, y >> 16
        corners = [pixel(row + below, column + right) for below in (0, 1) for right in (0, 1)]
        blend = _blend_floating if jnp.issubdtype(image.dtype, jnp.floating) else _blend_integers
        moved = blend(corners, (x & 0xFFFF)[..., None], (y & 0xFFFF)[..., None]).astype(image.dtype)
    outside = jnp.asarray(fill, jnp.float32)
    outside = outside / 255.0 if jnp.issubdtype(image.dtype, jnp.floating) else jnp.round(outside)
    return jnp.where(inside[..., None], moved, outside.astype(image.dtype))


def affine_matrix(
    *,
    angle: Scalar = 0.0,
    translate: tuple[Scalar, Scalar] = (0.0, 0.0),
    scale: Scalar = 1.0,
    shear: tuple[Scalar, Scalar] = (0.0, 0.0),
    height: int,
    width: int,
    center: tuple[Scalar, Scalar] | None = None,
) -> Matrix:
    """Returns the matrix for :func:`warp` that turns, scales, shears and moves an image.

    Follows torchvision's ``functional.affine`` on PIL images; ``functional.rotate`` and Pillow's ``Image.rotate``,
    which turn the other way, are ``angle=-angle``. Multiples of 90 degrees give sines and cosines that are exactly
    0 and 1, as Pillow's rotation has them (it rounds to 15 digits), where torchvision's affine leaves 6e-17.

    Args:
      angle: degrees, clockwise.
      translate: pixels to the right and down, after turning.
      scale: above 1 enlarges.
      shear: degrees, parallel to the x and to the y axis.
      height: of the image in pixels.
      width: of the image in pixels.
      center: the point ``(x, y)`` in pixels that turning keeps; None is the middle ``(width / 2, height / 2)``.

    Source: torchvision.transforms.functional._get_inverse_affine_matrix.
    """
    center_x, center_y = (width / 2, height / 2) if center is None else center
    cos_shear, _ = _cos_sin(shear[1])
    cos_x, sin_x = _cos_sin(shear[0])
    cos_turn, sin_turn = _cos_sin(angle)
    cos_both, sin_both = _cos_sin(jnp.float32(angle) - shear[1])
    a, c = cos_both / cos_shear, sin_both / cos_shear
    slope = sin_x / cos_x
    b, d = -a * slope - sin_turn, -c * slope + cos_turn
    inverse = [value / scale for value in (d, -b, -c, a)]
    from_x, from_y = center_x + translate[0], center_y + translate[1]
    across = center_x - (inverse[0] * from_x + inverse[1] * from_y)
    down = center_y - (inverse[2] * from_x + inverse[3] * from_y)
    return jnp.stack([inverse[0], inverse[1], across, inverse[2], inverse[3], down])


def _cos_sin(degrees: Scalar) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Cosine and sine, exact at quarter turns: only what remains of them is turned into radians."""
    degrees = jnp.asarray(degrees, jnp.float32)
    quarters = jnp.round(degrees / 90.0)
    radians = (degrees - 90.0 * quarters) * (jnp.pi / 180.0)
    cos, sin = jnp.cos(radians), jnp.sin(radians)
    quadrant = quarters.astype(jnp.int32) & 3
    swapped_cos, swapped_sin = jnp.where(quadrant & 1, -sin, cos), jnp.where(quadrant & 1, cos, sin)
    sign = jnp.where(quadrant & 2, -1.0, 1.0)
    return sign * swapped_cos, sign * swapped_sin


def _split(row: Float[Array, "3"]) -> _Words:
    """A row of the matrix as two integers per value, of 2**-16 and of 2**-30; the constants are doubled.

    So ``a (2 x + 1) + b (2 y + 1) + c`` is the source of a pixel's centre, in 2**-17 and 2**-31 of a pixel.
    """
    scaled = row.astype(jnp.float32) * 2.0**16
    high = jnp.round(scaled)
    doubled = jnp.array([1, 1, 2])
    return high.astype(jnp.int32) * doubled, jnp.round((scaled - high) * 2.0**_LOW_BITS).astype(jnp.int32) * doubled


def _fixed_unless(exact: Bool[Array, ""], words: _Words) -> _Words:
    """The words as Pillow rounds them, half up to 2**-16: the slopes, and the source of the first pixel's centre."""
    high, low = words
    slopes = high[:2] + (low[:2] + (1 << _LOW_BITS - 1) >> _LOW_BITS)
    first = jnp.sum(high) + 1 + (jnp.sum(low) >> _LOW_BITS) >> 1
    rounded = jnp.append(slopes, 2 * first - slopes[0] - slopes[1])
    return jnp.where(exact, high, rounded), jnp.where(exact, low, 0)


def _coordinates(words: _Words, height: int, width: int) -> Int[Array, "height width"]:
    """The source coordinate of every pixel's centre in 2**-17 of a pixel, cut off downwards."""
    across, down = 2 * jnp.arange(width) + 1, 2 * jnp.arange(height)[:, None] + 1
    high, low = (word[0] * across + word[1] * down + word[2] for word in words)
    return high + (low >> _LOW_BITS)


def _blend_integers(corners: list[Image], x: Int[Array, "height width 1"], y: Int[Array, "height width 1"]) -> Array:
    """The bilinear mean of four corners for fractions in 2**-16, cut off to whole levels; exact in 32 bits."""
    top, bottom = (
        (left.astype(jnp.int32) << 16) + (right.astype(jnp.int32) - left.astype(jnp.int32)) * x
        for left, right in (corners[:2], corners[2:])
    )
    difference = bottom - top
    below = (difference & 0xFFFF).astype(jnp.uint32) * y.astype(jnp.uint32) >> 16
    return top + (difference >> 16) * y + below.astype(jnp.int32) >> 16


def _blend_floating(corners: list[Image], x: Int[Array, "height width 1"], y: Int[Array, "height width 1"]) -> Array:
    """The bilinear mean of four corners for fractions in 2**-16."""
    right, below = x.astype(jnp.float32) * 2.0**-16, y.astype(jnp.float32) * 2.0**-16
    top, bottom = (a + (b - a) * right for a, b in ((corners[0], corners[1]), (corners[2], corners[3])))
    return top + (bottom - top) * below
