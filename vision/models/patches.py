"""An image as patches."""

import einops
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from vision.models.interface import ImageShape


def patch_grid(image_shape: ImageShape, patch_size: int) -> tuple[int, int]:
    """Returns the rows and columns of patches.

    Raises:
      ValueError: they do not divide the image.
    """
    height, width, _ = image_shape
    if height % patch_size or width % patch_size or not height or not width:
        raise ValueError(
            f"patches of {patch_size}x{patch_size} do not divide an image of {height}x{width}; "
            f"{max(height // patch_size, 1) * patch_size}x{max(width // patch_size, 1) * patch_size} would do"
        )
    return height // patch_size, width // patch_size


def patchify(
    images: Float[Array, "batch height width channels"], patch_size: int
) -> Float[Array, "batch patches pixels"]:
    """Returns the patches row by row, each in the order rows, columns, channels.

    A matrix times these is a convolution with stride ``patch_size``, whose gradients XLA makes far faster so.
    """
    return einops.rearrange(images, "b (h p) (w q) c -> b (h w) (p q c)", p=patch_size, q=patch_size)


def drop_patches(
    x: Float[Array, "batch patches width"],
    rate: float,
    keys: Key[Array, " batch"],
    layer: Key[Array, ""],
) -> tuple[Float[Array, "batch kept width"], Int[Array, "batch kept"]]:
    """Keeps ``round(patches (1 - rate))`` patches of each example at random, at least one, in their order.

    Returns:
      The patches, and which they were.
    """
    kept = max(1, round(x.shape[1] * (1.0 - rate)))
    fold = jax.random.bits(layer)
    draws = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, fold), x.shape[1:2]))(keys)
    index = jnp.sort(jnp.argsort(draws, axis=1)[:, :kept], axis=1)
    return jnp.take_along_axis(x, index[..., None], axis=1), index
