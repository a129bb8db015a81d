"""Moves by whole pixels."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from vision.data.augment.base import Augmentation, Image, Registry

Padding = Literal["zero", "reflect"]


def random_shift(*, pixels: int = 1, padding: Padding = "zero") -> Augmentation:
    """Moves the image by a whole number of pixels, uniform in [-pixels, pixels] in each direction.

    What comes in from outside is zero, or the image mirrored at its border without repeating it. For 32-pixel
    images and ``pixels=4`` this is the pad-and-crop of He et al. 2016 (section 4.2).

    Raises:
      ValueError: ``pixels`` is negative.
    """
    if pixels < 0:
        raise ValueError(f"pixels must be >= 0, got {pixels}")
    mode = {"zero": "constant", "reflect": "reflect"}[padding]

    def apply(key: Key[Array, ""], image: Image) -> Image:
        padded = jnp.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)), mode)
        top, left = jax.random.randint(key, (2,), 0, 2 * pixels + 1)
        return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)

    return apply


AUGMENTATIONS: Registry = {"random_shift": random_shift}
