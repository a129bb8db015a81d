"""Masks of blocks of patches, at static shapes (Bao et al. 2022, BEiT, algorithm 1; as in DINOv2)."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

_TRIES = 10
_SMALLEST = 4  # patches in a block


class Masked(NamedTuple):
    """Masked patches of one crop as an array of fixed length.

    Attributes:
      mask: True for masked patches, row by row.
      places: where they are; what fills the array up points at patches that are not masked.
      valid: 1 for masked patches, 0 for what fills the array up.
    """

    mask: Bool[Array, "*batch patches"]
    places: Int[Array, "*batch most"]
    valid: Float[Array, "*batch most"]


def block_mask(key: Key[Array, ""], grid: tuple[int, int], share: Float[Array, ""]) -> Bool[Array, " patches"]:
    """Returns a mask of ``floor(share patches)`` patches at most, made of rectangles that may overlap.

    A rectangle has about 4 patches at least, an area drawn evenly up to what is still to be masked, and an aspect ratio
    drawn evenly in its logarithm from 0.3 to 1 / 0.3. One that does not fit, masks nothing new or masks too many is
    drawn again, ten times at most; then the mask is as it is. (DINOv2 also keeps a rectangle below half of all
    patches, which matters for shares above one half alone.)
    """
    height, width = grid
    wanted = jnp.floor(share * (height * width)).astype(jnp.int32)
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)[None, :]

    def draw(state):
        mask, count, tries, number = state
        keys = jax.random.split(jax.random.fold_in(key, number), 4)
        left = wanted - count
        area = _SMALLEST + jax.random.uniform(keys[0]) * (left - _SMALLEST)
        log_aspect = math.log(0.3)
        aspect = jnp.exp(jax.random.uniform(keys[1], (), minval=log_aspect, maxval=-log_aspect))
        high = jnp.round(jnp.sqrt(area * aspect)).astype(jnp.int32)
        wide = jnp.round(jnp.sqrt(area / aspect)).astype(jnp.int32)
        # As in the original a block is smaller than the grid in both directions.
        fits = (high < height) & (wide < width)
        top = jax.random.randint(keys[2], (), 0, jnp.maximum(height - high + 1, 1))
        side = jax.random.randint(keys[3], (), 0, jnp.maximum(width - wide + 1, 1))
        inside = (rows >= top) & (rows < top + high) & (columns >= side) & (columns < side + wide)
        more = jnp.sum(inside & ~mask)
        taken = fits & (more > 0) & (more <= left)
        mask = jnp.where(taken, mask | inside, mask)
        return mask, count + jnp.where(taken, more, 0), jnp.where(taken, 0, tries + 1), number + 1

    start = (jnp.zeros(grid, bool), jnp.int32(0), jnp.int32(0), jnp.uint32(0))
    unfinished = lambda state: (state[1] < wanted) & (state[2] < _TRIES)  # noqa: E731
    return jax.lax.while_loop(unfinished, draw, start)[0].reshape(-1)


def masked_patches(keys: Key[Array, " batch"], grid: tuple[int, int], ratio: tuple[float, float]) -> Masked:
    """Returns a block mask for each example, its share of the patches drawn evenly from ``ratio``."""
    most = max(int(ratio[1] * grid[0] * grid[1]), 1)

    def of_example(key):
        own, blocks = jax.random.split(key)
        return block_mask(blocks, grid, jax.random.uniform(own, (), minval=ratio[0], maxval=ratio[1]))

    mask = jax.vmap(of_example)(keys)
    places = jnp.argsort(~mask, axis=1, stable=True)[:, :most]
    return Masked(mask, places, jnp.take_along_axis(mask, places, axis=1).astype(jnp.float32))
