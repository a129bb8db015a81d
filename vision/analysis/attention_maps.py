"""Where a transformer looks: attention to the patches, and the patches that take most of it."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def attention_to_patches(
    weights: Float[Array, "images heads tokens tokens"], patches: int, *, class_token: bool
) -> Float[Array, "images heads patches"]:
    """Returns how much each patch is attended to (Caron et al. 2021, DINO, figure 1).

    The queries are the class token alone, or, where there is none, the mean over all patches. What goes to tokens
    that are no patches is left out, so that a map sums to 1 or less.

    Args:
      weights: of one block; queries before keys, tokens without a place before the patches.
      patches: how many of the tokens are patches.
      class_token: whether the first token is one.
    """
    queries = weights[:, :, :1] if class_token else weights[:, :, -patches:]
    return jnp.mean(queries[..., -patches:], axis=2)


def mass_mask(maps: np.ndarray, keep: float) -> np.ndarray:
    """Returns the patches with the largest attention that together hold ``keep`` of it (DINO, figure 4).

    These are all but the smallest whose sum is at most ``1 - keep`` of the whole.

    Args:
      maps: attention, ``[..., patches]``.
      keep: share of the attention, in (0, 1].

    Returns:
      bool ``[..., patches]``.

    Raises:
      ValueError: ``keep`` is no such share.
    """
    if not 0 < keep <= 1:
        raise ValueError(f"the share of attention that is kept must be in (0, 1], got {keep}")
    order = np.argsort(maps, axis=-1, kind="stable")
    ascending = np.take_along_axis(np.asarray(maps, np.float64), order, axis=-1)
    total = ascending.sum(axis=-1, keepdims=True)
    kept = np.cumsum(ascending, axis=-1) > (1 - keep) * total
    mask = np.empty(maps.shape, bool)
    np.put_along_axis(mask, order, kept, axis=-1)
    return mask
