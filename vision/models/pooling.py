"""Pooling over windows, over a grid of any size, over the whole map and across channels.

Written with slices and reshapes and not with XLA's window reduction, whose gradient is two to three times slower
on a CPU. On a TPU the largest value of a window comes from that, as slices take some passes over a large map.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from vision.models.convolution import output_size
from vision.models.platform import platform

Maps = Float[Array, "batch height width channels"]


def max_pool(
    x: Maps, size: int, *, stride: int | None = None, padding: int = 0
) -> Float[Array, "batch new_height new_width channels"]:
    """Returns the largest value of each window of ``size`` x ``size`` pixels.

    Args:
      x: feature maps.
      size: of a window.
      stride: from one window to the next; ``size`` by default, and smaller makes windows overlap (Krizhevsky et al.
        2012, section 3.4).
      padding: pixels of minus infinity on each side, as in PyTorch.

    Rows and columns at the end that fill no window are left out. Where several values of a window are the largest, the
    gradient goes to the first of them on a TPU, as in PyTorch, and elsewhere in parts to each.
    """
    stride = stride or size
    if platform() == "tpu":
        return nn.max_pool(x, (size, size), (stride, stride), ((padding, padding), (padding, padding)))
    for axis in (1, 2):
        x = _max_along(x, axis, size, stride, padding)
    return x


def _max_along(
    x: Maps, axis: int, size: int, stride: int, padding: int
) -> Float[Array, "batch new_height new_width channels"]:
    count = output_size(x.shape[axis], kernel=size, stride=stride, padding=padding)
    pads = [(padding, padding, 0) if each == axis else (0, 0, 0) for each in range(x.ndim)]
    x = lax.pad(x, jnp.asarray(-jnp.inf, x.dtype), pads)
    end = (count - 1) * stride + 1
    largest = lax.slice_in_dim(x, 0, end, stride, axis)
    for offset in range(1, size):
        largest = jnp.maximum(largest, lax.slice_in_dim(x, offset, offset + end, stride, axis))
    return largest


def average_pool(x: Maps, size: int) -> Float[Array, "batch new_height new_width channels"]:
    """Returns the mean of each window of ``size`` x ``size`` pixels; windows lie side by side.

    Rows and columns at the end that fill no window are left out.
    """
    batch, height, width, channels = x.shape
    height, width = height // size, width // size
    windows = x[:, : height * size, : width * size].reshape(batch, height, size, width, size, channels)
    return windows.mean(axis=(2, 4))


def global_average_pool(x: Maps) -> Float[Array, "batch channels"]:
    """Returns the mean of each map (Lin et al. 2014, section 3.2)."""
    return x.mean(axis=(1, 2))


def adaptive_average_pool(x: Maps, size: int) -> Float[Array, "batch size size channels"]:
    """Returns maps of ``size`` x ``size`` pixels from maps of any size, smaller ones too, as PyTorch does.

    Pixel i is the mean of the input's pixels from ``floor(i n / size)`` up to, but not with,
    ``ceil((i + 1) n / size)``; windows overlap where ``size`` does not divide n.
    """
    batch, height, width, channels = x.shape
    if (height, width) == (size, size):
        return x
    if height % size == 0 and width % size == 0:
        windows = x.reshape(batch, size, height // size, size, width // size, channels)
        return windows.mean(axis=(2, 4))
    rows, columns = (jnp.asarray(_averaging(length, size), x.dtype) for length in (height, width))
    return jnp.einsum("ih,jw,bhwc->bijc", rows, columns, x)


def _averaging(length: int, size: int) -> np.ndarray:
    """The ``[size, length]`` matrix whose row i averages the pixels of window i."""
    index = np.arange(size)
    starts, ends = index * length // size, -(-(index + 1) * length // size)
    positions = np.arange(length)
    inside = (positions >= starts[:, None]) & (positions < ends[:, None])
    return inside / inside.sum(axis=1, keepdims=True)


def maxout(x: Float[Array, "... channels"], pieces: int) -> Float[Array, "... groups"]:
    """Returns the largest of each ``pieces`` consecutive channels (Goodfellow et al. 2013, section 3).

    Raises:
      ValueError: ``pieces`` does not divide the channels.
    """
    if pieces < 1 or x.shape[-1] % pieces:
        raise ValueError(f"{x.shape[-1]} channels cannot be cut into groups of {pieces}")
    return x.reshape(*x.shape[:-1], -1, pieces).max(axis=-1)
