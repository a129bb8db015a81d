"""Parameters of unrolled blocks to those of scanned ones, and back."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Params = Mapping[str, Any]
_BLOCK = re.compile(r"block(\d+)")


def stack_blocks(params: Params) -> dict[str, Any]:
    """Returns parameters with every run of ``block00``, ``block01``, ... stacked along a first axis as ``blocks``.

    What has no blocks comes back as it is; a model with ``scan=True`` takes the result.

    Raises:
      ValueError: blocks that are missing, or that differ in their arrays.
    """
    blocks = {int(match.group(1)): value for name, value in params.items() if (match := _BLOCK.fullmatch(name))}
    rest = {
        name: stack_blocks(value) if isinstance(value, Mapping) else value
        for name, value in params.items()
        if not _BLOCK.fullmatch(name)
    }
    if not blocks:
        return rest
    if sorted(blocks) != list(range(len(blocks))) or len({_described(block) for block in blocks.values()}) != 1:
        raise ValueError(f"blocks {sorted(blocks)} cannot be stacked: one is missing, or they are not alike")
    return {**rest, "blocks": jax.tree.map(_stack, *(blocks[index] for index in range(len(blocks))))}


def unstack_blocks(params: Params) -> dict[str, Any]:
    """Returns the inverse of :func:`stack_blocks`, bit for bit."""
    result: dict[str, Any] = {}
    for name, value in params.items():
        if name == "blocks":
            depth = len(jax.tree.leaves(value)[0])
            for index in range(depth):
                result[f"block{index:02}"] = jax.tree.map(lambda x, i=index: x[i], value)
        else:
            result[name] = unstack_blocks(value) if isinstance(value, Mapping) else value
    return result


def _stack(*arrays: Any) -> Any:
    return np.stack(arrays) if isinstance(arrays[0], np.ndarray) else jnp.stack(arrays)


def _described(block: Any) -> str:
    return str(jax.tree.map(lambda x: (x.shape, str(x.dtype)), block))
