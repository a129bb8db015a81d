"""The scale that augmentations compute on: float32 levels of 0 to 255, whatever the image is stored as."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from vision.data.augment.base import Image

Levels = Float[Array, "height width channels"]


def to_levels(image: Image) -> Levels:
    """Returns an image as float32 levels: uint8 as it is, floating images from [0, 1] times 255."""
    levels = image.astype(jnp.float32)
    return levels * 255.0 if jnp.issubdtype(image.dtype, jnp.floating) else levels


def from_levels(levels: Levels, like: Image, *, truncate: bool = False) -> Image:
    """Returns levels as an image of the type of ``like``.

    For uint8 they are clipped to 0..255 and rounded, half up, or cut off where ``truncate`` says so, as Pillow does
    where it blends; floating images keep every fraction and what lies outside [0, 1].
    """
    if jnp.issubdtype(like.dtype, jnp.floating):
        return (levels * (1.0 / 255.0)).astype(like.dtype)  # a division rounds otherwise in some sizes of batch
    clipped = jnp.clip(levels, 0.0, 255.0)
    return jnp.floor(clipped if truncate else clipped + 0.5).astype(like.dtype)
