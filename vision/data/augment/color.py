"""Brightness, contrast, saturation and hue, as Pillow's ImageEnhance and torchvision's PIL backend change them."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from vision.data.augment.base import Augmentation, Image, Registry, check_probability, with_probability
from vision.data.augment.levels import Levels, from_levels, to_levels

Scalar = int | float | Float[Array, ""]
Luma = Float[Array, "height width 1"]
Degenerate = Float[Array, "#height #width #channels"]
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


def blend(degenerate: Scalar | Degenerate, levels: Levels, factor: Scalar) -> Levels:
    """Returns ``degenerate + factor * (levels - degenerate)``, clipped to 0..255: Pillow's Image.blend (Blend.c).

    Pillow rounds the product to float32 before it adds. Compilers may fuse the two, and then a level at the edge
    comes out one off; here the product is the sum of two exact ones, which rounds the same way fused or not. That
    holds for differences of whole levels.
    """
    factor = jnp.asarray(factor, jnp.float32)
    bits = jax.lax.bitcast_convert_type(factor, jnp.int32)
    high = jax.lax.bitcast_convert_type(bits & -512, jnp.float32)  # 15 binary digits; a difference has 9
    difference = levels - degenerate
    return jnp.clip(degenerate + (high * difference + (factor - high) * difference), 0.0, 255.0)


def luma(image: Image) -> Luma:
    """Returns levels of grey: ITU-R 601-2 in Pillow's 16-bit weights (Convert.c), whole ones for uint8 images.

    An image without three channels is its own first channel.
    """
    levels = to_levels(image)
    if image.shape[-1] != 3:
        return levels[..., :1]
    # Of whole levels these are whole numbers below 2**24, which float32 holds without error.
    weighted = 19595.0 * levels[..., :1] + 38470.0 * levels[..., 1:2] + 7471.0 * levels[..., 2:]
    return weighted / 65536.0 if _continuous(image) else jnp.floor((weighted + 32768.0) / 65536.0)


def mean_luma(image: Image) -> Float[Array, ""]:
    """Returns the mean level of grey, for uint8 images a whole one: Pillow's ``int(mean + 0.5)``.

    The sum is one of integers, so the order in which a device adds does not show; the pixels of floating images are
    rounded to whole levels for it.

    Raises:
      ValueError: the image has so many pixels that the sum could leave 32 bits.
    """
    pixels = image.shape[0] * image.shape[1]
    if pixels * 255 >= 2**31:
        raise ValueError(f"an image of {pixels} pixels is too large for an exact sum")
    whole = jnp.floor(luma(image) + 0.5).astype(jnp.int32)
    quotient, remainder = jnp.divmod(jnp.sum(whole), pixels)
    if _continuous(image):
        return quotient.astype(jnp.float32) + remainder.astype(jnp.float32) * (1.0 / pixels)
    return (quotient + (remainder >= pixels - remainder)).astype(jnp.float32)


def to_grayscale(image: Image) -> Image:
    """Returns the image in grey, with as many channels as before; see :func:`luma`."""
    return from_levels(jnp.broadcast_to(luma(image), image.shape), image)


def adjust_brightness(image: Image, factor: Scalar) -> Image:
    """Returns the image times ``factor``: ImageEnhance.Brightness, bit for bit on uint8."""
    return _adjust(image, jnp.int32(BRIGHTNESS), factor)


def adjust_contrast(image: Image, factor: Scalar) -> Image:
    """Returns the image blended with its mean grey: ImageEnhance.Contrast, bit for bit on uint8."""
    return _adjust(image, jnp.int32(CONTRAST), factor)


def adjust_saturation(image: Image, factor: Scalar) -> Image:
    """Returns the image blended with its grey pixels: ImageEnhance.Color, bit for bit on uint8.

    An image without three channels stays as it is.
    """
    return _adjust(image, jnp.int32(SATURATION), factor)


def _adjust(image: Image, kind: Int[Array, ""], factor: Scalar) -> Image:
    """One of the three blends, whichever ``kind`` says: they differ only in what is blended with."""
    levels = to_levels(image)
    grey = luma(image) if image.shape[-1] == 3 else levels
    degenerate = jnp.where(kind == SATURATION, grey, jnp.where(kind == CONTRAST, mean_luma(image), 0.0))
    return from_levels(blend(degenerate, levels, factor), image, truncate=True)


def adjust_hue(image: Image, factor: Scalar) -> Image:
    """Returns the image with its hue turned by ``factor``, in [-0.5, 0.5], of the full circle.

    uint8 images equal torchvision's PIL backend bit for bit: hue, saturation and value in 256 levels each (Convert.c),
    hue plus ``int(factor * 255)`` modulo 256. Floating images are turned without steps. An image without three channels
    stays as it is.
    """
    if image.shape[-1] != 3:
        return image
    factor = jnp.asarray(factor, jnp.float32)
    if not _continuous(image):
        hue, saturation, value = _to_hsv(image)
        return _to_rgb((hue + jnp.trunc(factor * 255.0).astype(jnp.int32)) & 255, saturation, value)
    sixths, chroma, value = _sixths(image)
    angle = sixths / jnp.where(chroma == 0, 1, chroma) + 6.0 * factor
    position = (angle[..., None] + jnp.array([5.0, 3.0, 1.0], jnp.float32)) % 6.0
    away = jnp.clip(jnp.minimum(position, 4.0 - position), 0.0, 1.0)
    return (value[..., None] - chroma[..., None] * away).astype(image.dtype)


def _sixths(colors: Image) -> tuple[Array, Array, Array]:
    """Hue in sixths of the circle times chroma, within [0, 6 chroma]; chroma; value (Smith 1978, HSV)."""
    red, green, blue = colors[..., 0], colors[..., 1], colors[..., 2]
    value, least = jnp.max(colors, axis=-1), jnp.min(colors, axis=-1)
    chroma = value - least
    sixths = jnp.where(
        red == value,
        green - blue,
        jnp.where(green == value, 2 * chroma + blue - red, 4 * chroma + red - green),
    )
    return jnp.where(sixths < 0, sixths + 6 * chroma, sixths), chroma, value


def _to_hsv(image: UInt8[Array, "height width 3"]) -> tuple[Array, Array, Array]:
    """Pillow's levels of hue, saturation and value, from whole numbers only, so that every device has the same."""
    sixths, chroma, value = _sixths(image.astype(jnp.int32))
    scale = jnp.maximum(6 * chroma, 1)
    hue = _divide(255 * sixths, scale)
    hue -= ((255 * sixths == hue * scale) & jnp.asarray(_hue_falls_below())[hue]).astype(jnp.int32)
    return hue, _divide(255 * chroma, jnp.maximum(value, 1)), value


def _to_rgb(hue: Array, saturation: Array, value: Array) -> UInt8[Array, "height width 3"]:
    """Back from Pillow's levels: ``value (1 - saturation away)``, where ``away`` is from the hue of the channel."""
    position = 6 * hue[..., None] + jnp.array([1275, 765, 255])
    position = jnp.where(position < 1530, position, position - 1530)
    away = jnp.clip(jnp.minimum(position, 1020 - position), 0, 255)
    whole = 255 * 255
    numerator = value[..., None] * (whole - saturation[..., None] * away)
    near = (numerator.astype(jnp.float32) / whole).astype(jnp.int32)
    return (near + (2 * (numerator - near * whole) > whole)).astype(jnp.uint8)


def _divide(numerator: Array, denominator: Array) -> Int[Array, "height width"]:
    """``numerator // denominator`` for 0 <= numerator < 2**23 and denominator < 2**11, faster than the integer kind.

    The half keeps quotients away from whole numbers by more than a division of float32 can err.
    """
    return jnp.floor((numerator.astype(jnp.float32) + 0.5) / denominator.astype(jnp.float32)).astype(jnp.int32)


@functools.cache
def _hue_falls_below() -> Bool[np.ndarray, "256"]:
    """Levels of hue that come out one lower in Pillow where they are exact: its mixed float and double fall below.

    Only the level decides (checked for all colours), so they are worked out at full chroma, where each level is exact.
    """
    sixths = 6 * np.arange(256)
    sector = 2 * ((sixths + 255) // 510)
    across = (255 - abs(sixths - 255 * sector)).astype(np.float32) / np.float32(255)
    rising = sixths >= 255 * sector
    leading = np.where(rising, np.float32(1), across).astype(np.float64)
    trailing = np.where(rising, across, np.float32(1)).astype(np.float64)
    angle = (sector % 6 + leading - trailing).astype(np.float32).astype(np.float64)
    hue = np.fmod(angle / 6.0 + 1.0, 1.0).astype(np.float32).astype(np.float64)
    return (hue * 255.0).astype(int) < np.arange(256)


def _continuous(image: Image) -> bool:
    return bool(jnp.issubdtype(image.dtype, jnp.floating))


class Jitter(NamedTuple):
    """What :func:`jitter` does to one image.

    Attributes:
      factors: of brightness, contrast, saturation and hue.
      order: indices into ``factors``, each at most once, in the order in which they are applied.
    """

    factors: Float[Array, "4"]
    order: Int[Array, " steps"]


def jitter(image: Image, drawn: Jitter, *, with_hue: bool = True) -> Image:
    """Returns the image after the adjustments of ``drawn``, one after another.

    Hue costs most and may stand anywhere, so it is computed once, between two rounds of the other adjustments of which
    each takes effect in one. ``with_hue`` says whether it is among those of ``order``.
    """
    is_hue = drawn.order == HUE
    others = drawn.order[jnp.argsort(is_hue, stable=True)][: drawn.order.shape[0] - with_hue]
    before_hue = jnp.arange(others.shape[0]) < (jnp.argmax(is_hue) if with_hue else others.shape[0])

    def step(image: Image, turn: tuple[Int[Array, ""], Bool[Array, ""]]) -> tuple[Image, None]:
        kind, happens = turn
        return jnp.where(happens, _adjust(image, kind, drawn.factors[kind]), image), None

    # A loop keeps the image between two steps; unrolled, XLA on CPU may compute the first steps anew for every use.
    image, _ = jax.lax.scan(step, image, (others, before_hue))
    if not with_hue:
        return image
    return jax.lax.scan(step, adjust_hue(image, drawn.factors[HUE]), (others, ~before_hue))[0]


def draw_jitter(key: Key[Array, ""], *, brightness: float, contrast: float, saturation: float, hue: float) -> Jitter:
    """Draws factors uniform in [max(0, 1 - x), 1 + x], hue in [-x, x], and a uniform order of those with x > 0."""
    widths = (brightness, contrast, saturation, hue)
    low = jnp.array([*(max(0.0, 1.0 - width) for width in widths[:HUE]), -hue], jnp.float32)
    high = jnp.array([*(1.0 + width for width in widths[:HUE]), hue], jnp.float32)
    of_factors, of_order = jax.random.split(key)
    kinds = jnp.array([kind for kind, width in enumerate(widths) if width > 0], jnp.int32)
    factors = jax.random.uniform(of_factors, (4,), minval=low, maxval=high)
    return Jitter(factors, jax.random.permutation(of_order, kinds))


def color_jitter(
    *,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.2,
    hue: float = 0.1,
    probability: float = 1.0,
) -> Augmentation:
    """Changes brightness, contrast, saturation and hue by random factors in a random order: torchvision's ColorJitter.

    The defaults are those of BYOL (Grill et al. 2020, arXiv:2006.07733, table 6), which applies it with probability
    0.8. An adjustment of width 0 is left out.

    Raises:
      ValueError: a width is negative, ``hue`` exceeds 0.5, or ``probability`` is not in [0, 1].
    """
    check_probability(probability)
    widths = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
    for name, width in widths.items():
        if width < 0 or (name == "hue" and width > 0.5):
            raise ValueError(f"{name} must be {'in [0, 0.5]' if name == 'hue' else '>= 0'}, got {width}")

    def apply(key: Key[Array, ""], image: Image) -> Image:
        of_chance, of_jitter = jax.random.split(key)
        changed = jitter(image, draw_jitter(of_jitter, **widths), with_hue=hue > 0)
        return with_probability(probability, of_chance, changed, image)

    return apply


def random_grayscale(*, probability: float = 0.1) -> Augmentation:
    """Makes the image grey with the given probability; it keeps its channels.

    Raises:
      ValueError: ``probability`` is not in [0, 1].
    """
    check_probability(probability)

    def apply(key: Key[Array, ""], image: Image) -> Image:
        return with_probability(probability, key, to_grayscale(image), image)

    return apply


AUGMENTATIONS: Registry = {"color_jitter": color_jitter, "random_grayscale": random_grayscale}
