"""Which outputs a linear classifier is given: class tokens of the last blocks, the mean of the patch tokens."""

import re
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from vision.errors import UserError
from vision.evaluation.outputs import MEAN, Gathered

BLOCKS = (1, 4)
_PATCHES = f"patch_tokens{MEAN}"


class Input(NamedTuple):
    """What a classifier is given.

    Attributes:
      blocks: how many of the last blocks' class tokens; 0 for one output alone.
      average_pool: whether the mean of the patch tokens stands beside them.
    """

    blocks: int
    average_pool: bool


class View(NamedTuple):
    """The columns of all features side by side that a classifier is given.

    Attributes:
      first: column.
      end: column after the last.
      number: what its initial weights are drawn from.
    """

    first: int
    end: int
    number: int


def probed(
    outputs: Collection[str],
    *,
    blocks: tuple[int, ...] | None,
    average_pool: tuple[bool, ...] | None,
    output: str | None,
) -> tuple[tuple[str, ...], tuple[Input, ...]]:
    """Returns the names of the outputs that are needed, and the inputs that are made of them.

    Args:
      outputs: names of all that the model has.
      blocks: see :func:`vision.evaluation.linear_probe.linear_probe`.
      average_pool: likewise.
      output: likewise.

    Raises:
      ValueError: options that exclude each other, or that the model has nothing for.
    """
    tokens = sorted(name for name in outputs if re.fullmatch(r"block\d+/class_token", name))
    if output is not None or not tokens:
        if blocks is not None or average_pool is not None:
            why = "the model has no class tokens" if output is None else f"output {output!r} is probed alone"
            raise ValueError(f"no blocks and no average_pool here: {why}")
        return (output or "pre_logits",), (Input(0, False),)
    blocks = tuple(number for number in BLOCKS if number <= len(tokens)) if blocks is None else blocks
    average_pool = (False, True) if average_pool is None else average_pool
    for name, values in (("blocks", blocks), ("average_pool", average_pool)):
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{name} must be one or several different values, got {values}")
    if not 1 <= min(blocks) <= max(blocks) <= len(tokens):
        raise ValueError(f"blocks must be in [1, {len(tokens)}], as many as the model has, got {blocks}")
    # The class tokens end where the patch tokens begin, so that every input's columns lie side by side.
    names = (*tokens[-max(blocks) :], *((_PATCHES,) if True in average_pool else ()))
    return names, tuple(Input(number, pooled) for number in blocks for pooled in average_pool)


def columns(
    gathered: Gathered, names: tuple[str, ...], inputs: tuple[Input, ...]
) -> tuple[np.ndarray, tuple[View, ...]]:
    """Returns float32 ``[n, features]``, all outputs side by side, and the columns of each input.

    Raises:
      UserError: a feature is not finite.
    """
    whole = np.concatenate([gathered.outputs[name] for name in names], axis=1)
    finite = np.isfinite(whole).all(axis=0)
    if not finite.all():
        raise UserError(f"linear_probe: {np.sum(~finite)} of {len(finite)} features are not finite somewhere")
    if inputs == (Input(0, False),):
        return whole, (View(0, whole.shape[1], 0),)
    width = gathered.outputs[names[0]].shape[1]
    end = whole.shape[1] - (gathered.outputs[_PATCHES].shape[1] if _PATCHES in names else 0)
    return whole, tuple(
        View(end - number * width, whole.shape[1] if pooled else end, 2 * number + pooled) for number, pooled in inputs
    )
