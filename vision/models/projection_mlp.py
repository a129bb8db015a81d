"""The projection head of contrastive learning: a small MLP between the features and the loss."""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vision.models.activations import relu
from vision.models.batch_norm import BatchNorm


class ProjectionMlp(nn.Module):
    """Dense layers with ReLU between them (Chen et al. 2020, SimCLR, section 2.1).

    With batch normalisation it is the head of the released code of SimCLR: normalisation after every layer, before the
    ReLU, and after the last layer one without a bias.

    Attributes:
      hidden_size: units of each hidden layer.
      out_size: size of an embedding.
      num_layers: 2 in the paper, 3 in the released code.
      batch_norm: whether layers are normalised.
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    hidden_size: int
    out_size: int
    num_layers: Literal[2, 3]
    batch_norm: bool
    dtype: jnp.dtype
    param_dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "batch width"], *, train: bool) -> Float[Array, "batch out_size"]:
        """Returns the embeddings, not normalised to a length; in training batch statistics are those of ``x``."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        for layer in range(self.num_layers):
            last = layer == self.num_layers - 1
            x = nn.Dense(
                self.out_size if last else self.hidden_size,
                use_bias=not self.batch_norm,
                kernel_init=nn.initializers.lecun_normal() if last else nn.initializers.he_normal(),
                name=f"layer_{layer}",
                **types,
            )(x)
            if self.batch_norm:
                norm: dict[str, Any] = {"momentum": 0.9, "epsilon": 1e-5, **types}
                x = BatchNorm(not train, use_bias=not last, name=f"norm_{layer}", **norm)(x)
            x = x if last else relu(x)
        return x
