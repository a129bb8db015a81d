"""The projection head of self-distillation: an MLP to a narrow unit vector, and its cosines to many prototypes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vision.models.activations import gelu
from vision.models.normalization import batch_norm

_SHORTEST = 1e-12  # what is shorter has no direction


class PrototypeHead(nn.Module):
    """``in -> hidden -> ... -> bottleneck``, normalised to length 1, then a linear layer with unit rows and gains.

    A logit is ``gain_k cos(z, w_k)`` (Caron et al. 2021, appendix C; the last layer is weight-normalised, Salimans
    and Kingma 2016, equation 2). The lengths are taken in float32 whatever the type of the computation, and the
    logits are float32.

    Attributes:
      num_prototypes: size of the output.
      hidden_dim: width of the hidden layers.
      bottleneck_dim: of the unit vector.
      num_layers: of the MLP, the bottleneck's among them; at least 1.
      trained_gain: one gain for each prototype is a parameter, 1 at first; otherwise all are 1 (``norm_last_layer``).
      with_batch_norm: after each hidden layer.
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    num_prototypes: int
    hidden_dim: int = 2048
    bottleneck_dim: int = 256
    num_layers: int = 3
    trained_gain: bool = False
    with_batch_norm: bool = False
    dtype: jnp.dtype = jnp.dtype("float32")
    param_dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x: Float[Array, "rows in"], *, train: bool = False) -> Float[Array, "rows prototypes"]:
        """Returns the logits of features; ``train`` says whether batch statistics are those of ``x``."""
        init = nn.initializers.normal(0.02)
        x = x.astype(self.dtype)
        for number in range(self.num_layers):
            last = number == self.num_layers - 1
            width, name = (self.bottleneck_dim, "bottleneck") if last else (self.hidden_dim, f"hidden_{number}")
            # A bias before a normalisation would only be subtracted again.
            bias = last or not self.with_batch_norm
            x = nn.Dense(width, bias, self.dtype, self.param_dtype, kernel_init=init, name=name)(x)
            if not last and self.with_batch_norm:
                x = batch_norm(train=train, dtype=self.dtype, param_dtype=self.param_dtype, name=f"norm_{number}")(x)
            x = x if last else gelu(x)
        # Only directions count here; this is how PyTorch draws a linear layer.
        shape = (self.bottleneck_dim, self.num_prototypes)
        uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        prototypes = jnp.asarray(self.param("prototypes", uniform, shape, self.param_dtype))
        embedding = unit(x, axis=-1).astype(self.dtype)
        logits = jnp.matmul(embedding, prototypes.astype(self.dtype), preferred_element_type=jnp.float32)
        # Divided by their lengths here and not before, as prototypes are many more than logits.
        square = jnp.sum(jnp.square(prototypes.astype(jnp.float32)), axis=0)
        there = square > _SHORTEST**2
        logits = logits * jnp.where(there, jax.lax.rsqrt(jnp.where(there, square, 1.0)), 0.0)
        if self.trained_gain:
            gain = self.param("gain", nn.initializers.ones, (self.num_prototypes,), self.param_dtype)
            logits = logits * gain.astype(jnp.float32)
        return logits


def unit(x: Float[Array, "..."], *, axis: int) -> Float[Array, "..."]:
    """Returns ``x / ||x||`` along an axis, in float32; what is shorter than 1e-12 becomes 0, with a gradient of 0."""
    x = x.astype(jnp.float32)
    square = jnp.sum(jnp.square(x), axis=axis, keepdims=True)
    there = square > _SHORTEST**2
    return jnp.where(there, x * jnp.reciprocal(jnp.sqrt(jnp.where(there, square, 1.0))), 0.0)
