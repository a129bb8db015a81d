"""A convolution of few channels as one product with a banded matrix, which a CPU computes faster."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Images = Float[Array, "batch height width inputs"]
Kernels = Float[Array, "kernel_height kernel_width inputs outputs"]
Padding = Sequence[tuple[int, int]]

_MOST_PRODUCTS = 100  # of input and output channels
_MOST_WASTE = 7  # times the products of the convolution


def pays(images: tuple[int, ...], kernels: tuple[int, ...], padding: Padding) -> bool:
    """Returns whether :func:`banded` is the faster form of a convolution of these shapes at stride 1, on a CPU.

    Vectors of a CPU have eight numbers or more, and XLA's convolution leaves them half empty where there are fewer
    channels. The banded product fills them, with zeros too: it has as many times more products as the width of an image
    has kernels. LeNet-5's first convolution takes a fifth of the time, its second half of it.
    """
    _, kernel_width, inputs, outputs = kernels
    width = images[2] + sum(padding[1])
    return min(inputs, outputs) < 8 and inputs * outputs <= _MOST_PRODUCTS and width <= _MOST_WASTE * kernel_width


def banded(images: Images, kernels: Kernels, padding: Padding) -> Float[Array, "batch new_height new_width outputs"]:
    """Returns the correlation at stride 1: rows of the images, side by side, times a matrix that holds every shift.

    The matrix has a block for each row of the kernel; the block's entry of an input column and an output column is the
    kernel's at their distance, and zero outside it (a Toeplitz matrix).

    Args:
      images: feature maps.
      kernels: of any size.
      padding: pixels before and after, of each axis.
    """
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    batch, height, width, inputs = padded.shape
    rows, columns, _, outputs = kernels.shape
    new_height, new_width = height - rows + 1, width - columns + 1
    shifts = np.stack([np.eye(width, new_width, -shift) for shift in range(columns)])
    matrix = jnp.einsum("jwv,ijco->iwcvo", jnp.asarray(shifts, kernels.dtype), kernels)
    lines = padded.reshape(batch, height, width * inputs)
    seen = jnp.concatenate([lines[:, row : row + new_height] for row in range(rows)], axis=-1)
    product = seen.reshape(batch * new_height, -1) @ matrix.reshape(-1, new_width * outputs)
    return product.reshape(batch, new_height, new_width, outputs)
