"""A digest per array that does not depend on where the array's parts live.

A checkpoint library that reads flipped bytes returns other numbers and no error, so every checkpoint carries the
digests of its arrays. Each element's bits are hashed together with its position and the hashes are added modulo
2**32; integer addition is associative and commutative, so any sharding gives the same sum. Two sums with
different constants make 64 bits. It detects accidents, not adversaries.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt32

from vision.training.rules import path_of

PyTree = Any
_SALTS = (0x9E3779B9, 0x85EBCA6B)


@jax.jit
def digests(tree: PyTree) -> PyTree:
    """Returns a tree of two uint32 sums for each array."""
    return jax.tree.map(_digest, tree)


def as_text(tree: PyTree) -> dict[str, str]:
    """Fetches digests and returns ``{path: 16 hexadecimal digits}``."""
    flat, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(tree), is_leaf=lambda x: hasattr(x, "shape"))
    return {path_of(path): f"{int(pair[0]):08x}{int(pair[1]):08x}" for path, pair in flat}


def _digest(x: Array) -> UInt32[Array, "2"]:
    bits = _as_words(x).reshape(-1)
    position = jax.lax.iota(jnp.uint32, bits.shape[0])
    return jnp.stack(
        [jnp.sum(_mix(bits ^ _mix(position + salt)), dtype=jnp.uint32) for salt in map(jnp.uint32, _SALTS)]
    )


def _as_words(x: Array) -> UInt32[Array, "..."]:
    """Returns the bits of each element as uint32 (8-byte elements as two words)."""
    if x.dtype == jnp.bool_:
        return x.astype(jnp.uint32)
    unsigned = {1: jnp.uint8, 2: jnp.uint16}.get(x.dtype.itemsize, jnp.uint32)
    return jax.lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32)


def _mix(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """The finaliser of MurmurHash3 (Appleby 2011): every input bit flips every output bit half of the time."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
