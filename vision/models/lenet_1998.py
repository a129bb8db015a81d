"""LeNet-5 as it was published: sparse connections, pooling with parameters, distances to pictures as its output."""

from collections.abc import Sequence
from typing import Any

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from vision.models.convolution import conv, framed
from vision.models.digit_codes import digit_codes
from vision.models.interface import Features
from vision.models.pooling import average_pool

FIELD = 32
# Maps of S2 that each map of C3 sees (LeCun et al. 1998, table I).
CONNECTIONS = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)
# Map of S2 and map of C3 of each connection, in the order of the table.
PAIRS = np.array([(seen, here) for here, group in enumerate(CONNECTIONS) for seen in group])


def scaled_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns ``1.7159 tanh(2 x / 3)``, which takes 1 to 1 and -1 to -1 (LeCun et al. 1998, equation 6, appendix A)."""
    return 1.7159 * jnp.tanh(x * (2 / 3))


def uniform_over_inputs(inputs: int | np.ndarray) -> jax.nn.initializers.Initializer:
    """Returns an initializer, uniform within 2.4 / number of inputs of a unit (LeCun et al. 1998, appendix A)."""

    def draw(key: Array, shape: Sequence[Any], dtype: Any = jnp.float32, out_sharding: Any = None) -> Array:
        bound = jnp.asarray(2.4 / np.asarray(inputs), dtype)
        return bound * jax.random.uniform(key, shape, dtype, -1.0, 1.0, out_sharding=out_sharding)

    return draw


class TrainablePool(nn.Module):
    """The sum of each window of 2x2, times a coefficient, plus a bias, one of each per map (section II-B, layer S2).

    Attributes:
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    dtype: jnp.dtype
    param_dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch new_height new_width channels"]:
        """Returns the pooled maps."""
        channels = x.shape[-1:]
        coefficient = self.param("coefficient", uniform_over_inputs(4), channels, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, channels, self.param_dtype)
        return 4 * average_pool(x, 2) * coefficient.astype(self.dtype) + bias.astype(self.dtype)


class SparseConv(nn.Module):
    """A 5x5 convolution from 6 to 16 maps with the 60 connections of table I only.

    The kernels of the connections are the parameter, ``[5, 5, 60]``; the full one with zeros elsewhere is made of it.

    Attributes:
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    dtype: jnp.dtype
    param_dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width 6"]) -> Float[Array, "batch new_height new_width 16"]:
        """Returns the 16 maps."""
        seen, here = PAIRS.T
        inputs = 25 * np.array([len(CONNECTIONS[each]) for each in here])
        kernel = self.param("kernel", uniform_over_inputs(inputs), (5, 5, len(PAIRS)), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (len(CONNECTIONS),), self.param_dtype)
        full = jnp.zeros((5, 5, 6, len(CONNECTIONS)), self.dtype).at[:, :, seen, here].set(kernel.astype(self.dtype))
        y = lax.conv_general_dilated(x, full, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y + bias.astype(self.dtype)


class LeNet1998(nn.Module):
    """LeNet-5 (LeCun et al. 1998, section II-B): 60,000 trainable parameters.

    C1 and C3 convolve, S2 and S4 pool, C5 and F6 are dense, each followed by a scaled tanh. The output is minus the
    squared distance of F6 to a fixed picture of each digit (equation 7, with the sign that makes the largest the
    answer). Softmax cross-entropy on it is the paper's loss (equation 9) without the constant j, which stands there
    for the distance of a rubbish class.

    Attributes:
      num_classes: digits from 0 on that are told apart, at most 10; 0 for no output layer.
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    num_classes: int
    dtype: jnp.dtype = jnp.dtype("float32")
    param_dtype: jnp.dtype = jnp.dtype("float32")

    has_convolutions = True

    def __post_init__(self):
        if not 0 <= self.num_classes <= 10:
            raise ValueError(
                f"this network has a fixed picture of each of the ten digits, not of {self.num_classes} "
                "classes; lenet/5 takes any number"
            )
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool = False,
        keys: Key[Array, " batch"] | None = None,
    ) -> tuple[Float[Array, "batch outputs"], Features]:
        """Returns the negative distances; features are S2, S4, C5 and F6, the last also as ``pre_logits``."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = framed(images, FIELD).astype(self.dtype)
        init = uniform_over_inputs(25 * x.shape[-1])
        x = scaled_tanh(conv(6, 5, padding=0, bias=True, kernel_init=init, **types, name="conv_0")(x))
        features = {"block00": scaled_tanh(TrainablePool(**types, name="pool_0")(x))}
        x = scaled_tanh(SparseConv(**types, name="conv_1")(features["block00"]))
        features["block01"] = scaled_tanh(TrainablePool(**types, name="pool_1")(x))
        x = einops.rearrange(features["block01"], "b h w c -> b (h w c)")
        for index, size in enumerate((120, 84)):
            init = uniform_over_inputs(x.shape[-1])
            x = scaled_tanh(nn.Dense(size, kernel_init=init, **types, name=f"hidden_{index}")(x))
            features[f"block{index + 2:02}"] = x
        features["pre_logits"] = x
        if not self.num_classes:
            return x, features
        codes = jnp.asarray(digit_codes()[: self.num_classes], self.dtype)
        return -jnp.sum(jnp.square(x[:, None] - codes), axis=-1), features
