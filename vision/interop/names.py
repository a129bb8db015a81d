"""How an array of ours corresponds to arrays of another library: the names on both sides, and the layout."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Arrays = tuple[np.ndarray, ...]


class Pair(NamedTuple):
    """Arrays of ours and the arrays of theirs that hold the same numbers.

    Attributes:
      ours: paths such as ``params/stem/kernel`` or ``batch_stats/stem_norm/mean``.
      theirs: names such as ``conv1.weight``.
      to_ours: their arrays to ours.
      to_theirs: the inverse, bit for bit.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    to_ours: Callable[..., Arrays]
    to_theirs: Callable[..., Arrays]


class Naming(NamedTuple):
    """A library's names for the arrays of one of our families.

    Attributes:
      module: our class.
      pairs: from an instance of it to every pair of arrays.
      ignored: regular expressions of names of theirs that hold no weights, such as counters.
    """

    module: type
    pairs: Callable[[Any], list[Pair]]
    ignored: tuple[str, ...] = ()


def transposed(ours: str, theirs: str, axes: tuple[int, ...]) -> Pair:
    """Our axis i is their axis ``axes[i]``."""
    back = tuple(int(axis) for axis in np.argsort(axes))
    return Pair((ours,), (theirs,), lambda x: (np.transpose(x, axes),), lambda x: (np.transpose(x, back),))


def same(ours: str, theirs: str) -> Pair:
    """The same array."""
    return Pair((ours,), (theirs,), lambda x: (x,), lambda x: (x,))


def conv(ours: str, theirs: str) -> Pair:
    """A kernel of a convolution: theirs is ``[out, in, height, width]``, ours ``[height, width, in, out]``."""
    return transposed(ours, theirs, (2, 3, 1, 0))


def dense(ours: str, theirs: str) -> Pair:
    """A matrix: theirs is ``[out, in]``, ours ``[in, out]``."""
    return transposed(ours, theirs, (1, 0))


def flattened(ours: str, theirs: str, *, channels: int) -> Pair:
    """A matrix over a flat, square feature map: theirs in the order channels, rows, columns, ours rows first.

    Both functions raise ValueError where the inputs are no square of so many channels.
    """

    def to_ours(x: np.ndarray) -> Arrays:
        side = _side(x.shape[1], channels)
        return (x.reshape(len(x), channels, side, side).transpose(2, 3, 1, 0).reshape(-1, len(x)),)

    def to_theirs(x: np.ndarray) -> Arrays:
        side = _side(len(x), channels)
        return (x.reshape(side, side, channels, -1).transpose(3, 2, 0, 1).reshape(x.shape[1], -1),)

    return Pair((ours,), (theirs,), to_ours, to_theirs)


def _side(inputs: int, channels: int) -> int:
    side = math.isqrt(inputs // channels)
    if side * side * channels != inputs:
        raise ValueError(f"{inputs} inputs are no square map of {channels} channels")
    return side


def patch_kernel(ours: str, theirs: str, patch_size: int) -> Pair:
    """A patch embedding: theirs is a convolution's kernel, ours a matrix over rows, columns, channels of a patch."""

    def to_ours(x: np.ndarray) -> Arrays:
        return (x.transpose(2, 3, 1, 0).reshape(-1, len(x)),)

    def to_theirs(x: np.ndarray) -> Arrays:
        return (x.reshape(patch_size, patch_size, -1, x.shape[1]).transpose(3, 2, 0, 1),)

    return Pair((ours,), (theirs,), to_ours, to_theirs)


def token(ours: str, theirs: str, axes: int = 1) -> Pair:
    """A learned token: theirs has ``axes`` more leading axes of length 1, for -1 one less."""
    if axes < 0:
        return Pair((ours,), (theirs,), lambda x: (x[None],), lambda x: (x[0],))
    ones = (1,) * axes
    return Pair((ours,), (theirs,), lambda x: (x.reshape(x.shape[axes:]),), lambda x: (x.reshape(ones + x.shape),))


def fused(ours: str, theirs: str, parts: int) -> list[Pair]:
    """Projections of the same tokens in one matrix: theirs is ``[parts * out, in]``, ours ``[in, parts, out]``."""
    kernel = Pair(
        (f"params/{ours}/kernel",),
        (f"{theirs}weight",),
        lambda x: (x.reshape(parts, -1, x.shape[1]).transpose(2, 0, 1),),
        lambda x: (x.transpose(1, 2, 0).reshape(-1, len(x)),),
    )
    bias = Pair(
        (f"params/{ours}/bias",),
        (f"{theirs}bias",),
        lambda x: (x.reshape(parts, -1),),
        lambda x: (x.reshape(-1),),
    )
    return [kernel, bias]


def separate(ours: str, theirs: tuple[str, ...]) -> list[Pair]:
    """Projections of the same tokens, a layer for each: theirs are ``[out, in]``, ours ``[in, parts, out]``."""
    kernel = Pair(
        (f"params/{ours}/kernel",),
        tuple(f"{name}.weight" for name in theirs),
        lambda *each: (np.stack([x.T for x in each], axis=1),),
        lambda x: tuple(x[:, part].T for part in range(x.shape[1])),
    )
    bias = Pair(
        (f"params/{ours}/bias",),
        tuple(f"{name}.bias" for name in theirs),
        lambda *each: (np.stack(each),),
        lambda x: tuple(x),
    )
    return [kernel, bias]


def dense_layer(ours: str, theirs: str) -> list[Pair]:
    """A linear layer with bias; ``ours`` and ``theirs`` name the layer."""
    return [dense(f"params/{ours}/kernel", f"{theirs}.weight"), same(f"params/{ours}/bias", f"{theirs}.bias")]


def conv_layer(ours: str, theirs: str, *, bias: bool) -> list[Pair]:
    """A convolution."""
    pairs = [conv(f"params/{ours}/kernel", f"{theirs}.weight")]
    return [*pairs, same(f"params/{ours}/bias", f"{theirs}.bias")] if bias else pairs


def norm_layer(ours: str, theirs: str) -> list[Pair]:
    """Scale and bias of a normalisation, which others call weight and bias."""
    return [same(f"params/{ours}/scale", f"{theirs}.weight"), same(f"params/{ours}/bias", f"{theirs}.bias")]


def batch_norm(ours: str, theirs: str) -> list[Pair]:
    """Scale, bias and running statistics."""
    return [
        *norm_layer(ours, theirs),
        same(f"batch_stats/{ours}/mean", f"{theirs}.running_mean"),
        same(f"batch_stats/{ours}/var", f"{theirs}.running_var"),
    ]
