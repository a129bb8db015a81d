"""The multilayer perceptron."""

from functools import partial
from typing import Any

import einops
import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vision.models.activations import relu
from vision.models.interface import Features, Variant
from vision.models.layers import Dropout
from vision.models.normalization import batch_norm


class MLP(nn.Module):
    """Dense layers with ReLU between them (Rumelhart, Hinton and Williams 1986; ReLU and He initialisation since).

    Attributes:
      num_classes: size of the output.
      hidden_sizes: units of each hidden layer.
      batch_norm: batch normalisation of each hidden layer, before its ReLU.
      dropout: rate after each hidden layer, in [0, 1).
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    num_classes: int
    hidden_sizes: tuple[int, ...] = (256, 256)
    batch_norm: bool = False
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.dtype("float32")
    param_dtype: jnp.dtype = jnp.dtype("float32")

    def __post_init__(self):
        if not self.hidden_sizes or min(self.hidden_sizes) < 1:
            raise ValueError(f"hidden_sizes must be positive whole numbers, got {self.hidden_sizes}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool = False,
        keys: Key[Array, " batch"] | None = None,
    ) -> tuple[Float[Array, "batch num_classes"], Features]:
        """Returns the outputs and the activations of each hidden layer, the last also as ``pre_logits``."""
        x = einops.rearrange(images, "b h w c -> b (h w c)").astype(self.dtype)
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        dense = partial(nn.Dense, dtype=self.dtype, param_dtype=self.param_dtype)
        features = {}
        for index, size in enumerate(self.hidden_sizes):
            x = dense(size, kernel_init=nn.initializers.he_normal(), name=f"hidden_{index}")(x)
            if self.batch_norm:
                x = batch_norm(train=train, **types, name=f"norm_{index}")(x)
            x = relu(x)
            features[f"block{index:02}"] = x
            x = Dropout(self.dropout)(x, keys=keys if train else None)
        features["pre_logits"] = x
        return (dense(self.num_classes, name="head")(x) if self.num_classes else x), features


VARIANTS = {
    f"mlp/{'-'.join(map(str, sizes))}": Variant(MLP, {"hidden_sizes": sizes}, (28, 28, 1), 10)
    for sizes in ((128,), (256, 256), (300, 100), (512, 512))
}
