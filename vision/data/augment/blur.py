"""Gaussian blur."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vision.data.augment.base import Augmentation, Image, Registry, check_probability, with_probability
from vision.data.augment.color import Scalar
from vision.data.augment.levels import Levels, from_levels, to_levels


def blur(image: Image, sigma: Scalar, *, radius: int) -> Image:
    """Returns the image convolved with a Gaussian of standard deviation ``sigma`` in pixels, cut at ``radius``.

    The image is continued by reflection that does not repeat the border. torchvision's gaussian_blur with a kernel of
    ``2 radius + 1`` is the same in another order of sums: uint8 images differ by at most one level, where the exact
    value is halfway between two. Images too small to be reflected that far have a kernel as wide as they allow.
    """
    height, width, _ = image.shape
    if radius == 0 or (height == 1 and width == 1):
        return image
    levels = _along(to_levels(image), sigma, min(radius, height - 1), axis=0)
    return from_levels(_along(levels, sigma, min(radius, width - 1), axis=1), image)


def _along(levels: Levels, sigma: Scalar, radius: int, *, axis: int) -> Levels:
    """One pass; taps are added one by one, so the order, and with it every bit, is that of a single image."""
    if radius == 0:
        return levels
    # exp2: the last bit of XLA's exp on CPU can depend on how many are computed at once, so on the size of the batch.
    density = jnp.exp2(-0.5 * math.log2(math.e) * jnp.square(jnp.arange(radius + 1) / sigma))
    weights = density / (2.0 * sum(density[1:]) + density[0])
    widths = [(radius, radius) if each == axis else (0, 0) for each in range(3)]
    # Without the barrier XLA would work the padding out anew for every tap, at more than twice the time.
    padded = jax.lax.optimization_barrier(jnp.pad(levels, widths, mode="reflect"))
    size = levels.shape[axis]

    def shifted(by: int) -> Levels:
        return jax.lax.slice_in_dim(padded, radius + by, radius + by + size, axis=axis)

    total = weights[0] * levels
    for tap in range(1, radius + 1):
        total += weights[tap] * (shifted(-tap) + shifted(tap))
    return total


def gaussian_blur(
    *, sigma: tuple[float, float] = (0.1, 2.0), kernel_size: int | None = None, probability: float = 0.5
) -> Augmentation:
    """Blurs the image with the given probability, with ``sigma`` in pixels uniform between two numbers.

    ``kernel_size`` cuts the kernel off as torchvision's GaussianBlur does; None keeps four times the largest sigma on
    either side. SimCLR (Chen et al. 2020, arXiv:2002.05709, appendix A) blurs half of its images of 224 pixels with
    sigma in [0.1, 2.0] and a kernel of 23.

    DINO's first release called Pillow's ImageFilter.GaussianBlur instead, which puts three box blurs in place of the
    Gaussian (BoxBlur.c) and repeats the border. On photographs, at sigma 0.1, 0.5, 1 and 2, it lies 0.7 levels from
    this on average, at most 4 where the kernel stays inside and at most 32 near the border. Between 0.1 and 0.5 it lies
    further, 20 levels at sigma 0.3 (1.7 on average): it blurs there, where a Gaussian at whole pixels is nearly flat 0.

    Raises:
      ValueError: ``sigma`` is not an increasing pair of positive numbers, ``kernel_size`` is not odd and positive, or
        ``probability`` is not in [0, 1].
    """
    check_probability(probability)
    low, high = sigma
    if not 0.0 < low <= high:
        raise ValueError(f"sigma must be two positive numbers, the smaller first, got {sigma}")
    if kernel_size is not None and (kernel_size < 1 or kernel_size % 2 == 0):
        raise ValueError(f"kernel_size must be odd and positive, got {kernel_size}")
    radius = math.ceil(4.0 * high) if kernel_size is None else kernel_size // 2

    def apply(key: Key[Array, ""], image: Image) -> Image:
        of_chance, of_sigma = jax.random.split(key)
        drawn: Float[Array, ""] = jax.random.uniform(of_sigma, minval=low, maxval=high)
        return with_probability(probability, of_chance, blur(image, drawn, radius=radius), image)

    return apply


AUGMENTATIONS: Registry = {"gaussian_blur": gaussian_blur}
