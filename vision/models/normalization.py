"""Batch normalisation and where it stands, and local response normalisation."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vision.models.activations import relu
from vision.models.batch_norm import BatchNorm

NormOrder = Literal["before", "after"]


def batch_norm(
    *,
    train: bool,
    dtype: jnp.dtype,
    param_dtype: jnp.dtype,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
    scale: bool = True,
    zero: bool = False,
    name: str,
) -> Callable[[Array], Array]:
    """Returns batch normalisation (Ioffe and Szegedy 2015, algorithm 1) over all axes but the last.

    In training it uses the mean and the biased variance of the batch, taken in float32 whatever the type of the
    computation; under ``jit`` these are the statistics of the global batch, on however many devices it lies. Running
    statistics move by a tenth towards them at each step (what PyTorch calls momentum 0.1), or ``1 - momentum``, and are
    used in evaluation.

    Running variances are kept biased. PyTorch keeps n / (n - 1) times that, for n values in a channel of the batch,
    so its running variances are larger by this factor after the same steps: 1.0001 for a batch of 128 maps of 8x8.

    Args:
      train: whether this is a training step.
      dtype: type of the computation.
      param_dtype: type of the parameters.
      momentum: what stays of the running statistics at a step.
      epsilon: added to the variance.
      scale: whether there is one beside the bias.
      zero: start from a scale of zero, so that a residual branch that ends here is silent at first (Goyal et al. 2017,
        section 5.1).
      name: of the layer.
    """
    layer = BatchNorm(
        momentum=momentum,
        epsilon=epsilon,
        use_scale=scale,
        scale_init=nn.initializers.zeros if zero else nn.initializers.ones,
        dtype=dtype,
        param_dtype=param_dtype,
        name=name,
    )
    return partial(layer, use_running_average=not train)  # not an attribute, so that a frozen part can have it changed


def normalized(
    x: Float[Array, "batch height width channels"], norm: Callable[[Array], Array], order: NormOrder
) -> Float[Array, "batch height width channels"]:
    """Returns ReLU and normalisation of ``x``, with the normalisation ``before`` or ``after`` the ReLU.

    Before is how it was published (Ioffe and Szegedy 2015, section 3.2); which is better is an experiment (Mishkin et
    al. 2016).
    """
    return relu(norm(x)) if order == "before" else norm(relu(x))


def local_response_norm(
    x: Float[Array, "batch height width channels"],
    *,
    bias: float = 2.0,
    size: int = 5,
    alpha: float = 1e-4,
    beta: float = 0.75,
) -> Float[Array, "batch height width channels"]:
    """Divides by ``(bias + alpha * sum of squares over size neighbouring channels) ** beta``.

    Krizhevsky et al. 2012, section 3.3, with its constants. Channels beyond the ends count as zero. PyTorch and Caffe
    take the mean where the paper takes the sum: their alpha for the same function is ``size * alpha``.
    """
    before = size // 2
    squares = jnp.pad(jnp.square(x), ((0, 0), (0, 0), (0, 0), (before, size - 1 - before)))
    total = sum(squares[..., offset : offset + x.shape[-1]] for offset in range(size))
    return x * (bias + alpha * total) ** -beta
