"""Whole random numbers from as few draws as possible: what is drawn costs most of the time that compiling takes."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

_BITS = 16


def below(key: Key[Array, ""], counts: Sequence[int | Int[Array, ""]]) -> Int[Array, " draws"]:
    """Returns one uniform number from 0 up to, and without, each of ``counts``, which may be up to 65,536.

    A number grows with its count for the same key, so that a smaller room is the larger one scaled down. With 16 bits
    no probability is off by more than the share count / 65,536.
    """
    bits = jax.random.bits(key, (len(counts),), jnp.uint32) >> _BITS
    return (bits * jnp.stack([jnp.asarray(count, jnp.uint32) for count in counts]) >> _BITS).astype(jnp.int32)
