"""Mean attention distance: how far from a patch its attention reaches, in pixels."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def patch_distances(grid: tuple[int, int], patch_size: int) -> Float[np.ndarray, "patches patches"]:
    """Returns the distances of the centres of all pairs of patches, row by row, in pixels."""
    places = np.argwhere(np.ones(grid)) * float(patch_size)
    return np.linalg.norm(places[:, None] - places[None], axis=-1).astype(np.float32)


def mean_attention_distance(
    weights: Float[Array, "images heads tokens tokens"], distances: Float[Array, "patches patches"]
) -> Float[Array, "images heads"]:
    """Returns the mean over queries of the distance to the keys, weighted by attention.

    That of Dosovitskiy et al. 2021, figure 7 (right) and appendix D.7. Tokens that are no patches have no place: they
    are left out, and the weights of the patches scaled up to the sum 1.

    Args:
      weights: of one block; queries before keys, tokens without a place before the patches.
      distances: of the patches, see :func:`patch_distances`.
    """
    patches = len(distances)
    among = weights[:, :, -patches:, -patches:]
    total = jnp.sum(among, axis=-1)
    reach = jnp.sum(among * distances, axis=-1) / jnp.maximum(total, jnp.finfo(total.dtype).tiny)
    return jnp.mean(reach, axis=-1)
