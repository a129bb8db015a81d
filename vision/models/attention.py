"""Multi-head self-attention, and pooling by attention."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vision.models.platform import platform
from vision.models.positions import rotate
from vision.models.softmax_attention import attend, attention_weights, up_to_itself

Initializer = nn.initializers.Initializer


def flat(layer: Any, x: Float[Array, "batch tokens width"]) -> Any:
    """Applies a layer of single tokens to all, on a CPU as one matrix, which it multiplies faster than a stack of them.

    On a TPU tokens of an image fill whole tiles, and to put them together is a copy where they do not divide.

    Args:
      layer: of one output or of several, each of which is ``[batch, tokens, ...]`` again.
      x: tokens.
    """
    if platform() != "cpu":
        return layer(x)
    return jax.tree.map(lambda y: y.reshape(*x.shape[:2], *y.shape[1:]), layer(x.reshape(-1, x.shape[-1])))


def stacked(initializer: Initializer) -> Initializer:
    """Returns an initializer of ``[in, parts, out]`` that draws every part as a matrix of its own."""

    def init(key, shape, dtype=jnp.float32):
        keys = jax.random.split(key, shape[1])
        return jnp.stack([initializer(each, (shape[0], shape[2]), dtype) for each in keys], axis=1)

    return init


class Projections(nn.Module):
    """Several projections of the same tokens, such as query, key and value, each a product of its own, in heads.

    Attributes:
      parts: how many.
      width: of each.
      num_heads: that each is cut into.
      use_bias: whether they are affine.
      kernel_init: of each part on its own.
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    parts: int
    width: int
    num_heads: int
    use_bias: bool
    kernel_init: Initializer
    dtype: jnp.dtype
    param_dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "*rows in"]) -> tuple[Float[Array, "*rows heads head_width"], ...]:
        """Returns the projections."""
        shape = (x.shape[-1], self.parts, self.width)
        kernel = self.param("kernel", stacked(self.kernel_init), shape, self.param_dtype).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, shape[1:], self.param_dtype) if self.use_bias else None
        heads = (self.num_heads, self.width // self.num_heads)
        # One product of all would be cut into parts and, on the way back, put together, each with copies; and written
        # as one matrix, the width, which may be divided over devices, would be hidden behind the parts.
        products = [self._product(x, kernel[:, part], heads) for part in range(self.parts)]
        if bias is not None:
            products = [each + bias[part].reshape(heads).astype(self.dtype) for part, each in enumerate(products)]
        return tuple(products)

    def _product(self, x: Array, kernel: Any, heads: tuple[int, int]) -> Array:
        """In heads from the start, where a TPU would copy; a CPU multiplies matrices faster."""
        if platform() == "cpu":
            return (x @ kernel).reshape(*x.shape[:-1], *heads)
        return jnp.einsum("...i,ihw->...hw", x, kernel.reshape(-1, *heads))


class SelfAttention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017, section 3.2); the softmax is in float32.

    Attributes:
      num_heads: must divide the width.
      qkv_bias: whether query, key and value are affine.
      kernel_init: of every matrix.
      dtype: type of the computation.
      param_dtype: type of the parameters.
      causal: whether a token sees only those up to itself (Vaswani et al. 2017, section 3.2.3).
      out_init: of the last matrix, where it has another than ``kernel_init``.
    """

    num_heads: int
    qkv_bias: bool
    kernel_init: Initializer
    dtype: jnp.dtype
    param_dtype: jnp.dtype
    causal: bool = False
    out_init: Initializer | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch tokens width"],
        *,
        angles: Float[Array, "*each patches half"] | None = None,
        mask: Bool[Array, "batch tokens"] | None = None,
        return_weights: bool = False,
    ) -> tuple[Float[Array, "batch tokens width"], Float[Array, "batch heads tokens tokens"] | None]:
        """Returns the new tokens, and the attention weights where asked for.

        Args:
          x: tokens.
          angles: rotary positions of the last tokens.
          mask: False for tokens that none attends to; at least one of each example has to be left.
          return_weights: the weights are a large array that is not made otherwise.
        """
        width = x.shape[-1]
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        projections = Projections(3, width, self.num_heads, self.qkv_bias, self.kernel_init, name="qkv", **types)
        query, key, value = flat(projections, x)
        if angles is not None:
            query, key = rotate(query, angles), rotate(key, angles)
        seen = None if mask is None else mask[:, None, None, :]
        weights = None
        if return_weights:
            weights = attention_weights(query, key, up_to_itself(seen, x.shape[1]) if self.causal else seen)
            mixed = jnp.einsum("bhqk,bkhd->bqhd", weights.astype(value.dtype), value)
        else:
            mixed = attend(query, key, value, seen=seen, causal=self.causal)
        out = nn.Dense(width, kernel_init=self.out_init or self.kernel_init, name="out", **types)
        return flat(out, mixed.reshape(x.shape)), weights


class AttentionPool(nn.Module):
    """One learned query that attends to all tokens: the MAP head (Zhai et al. 2022, section 3.2; Lee et al. 2019).

    Attributes:
      num_heads: must divide the width.
      mlp_dim: width of the hidden layer of the residual block after it.
      epsilon: of its layer normalisation.
      kernel_init: of every matrix.
      activation: of the hidden layer.
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    num_heads: int
    mlp_dim: int
    epsilon: float
    kernel_init: Initializer
    activation: Any
    dtype: jnp.dtype
    param_dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch tokens width"], *, mask: Bool[Array, "batch tokens"] | None = None
    ) -> Float[Array, "batch width"]:
        """Returns one vector for each example; tokens where ``mask`` is False are not looked at."""
        width = x.shape[-1]
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        probe = self.param("probe", nn.initializers.xavier_uniform(), (1, width), self.param_dtype)
        parts: dict[str, Any] = {
            "num_heads": self.num_heads,
            "use_bias": True,
            "kernel_init": self.kernel_init,
            **types,
        }
        (query,) = Projections(1, width, name="query", **parts)(jnp.asarray(probe, self.dtype))
        key, value = flat(Projections(2, width, name="key_value", **parts), x)
        query = jnp.broadcast_to(query[None], (len(x), 1, *key.shape[2:]))
        dense: dict[str, Any] = {"kernel_init": self.kernel_init, **types}
        seen = None if mask is None else mask[:, None, None, :]
        mixed = attend(query, key, value, seen=seen).reshape(-1, width)
        pooled = nn.Dense(width, name="out", **dense)(mixed)
        hidden = nn.LayerNorm(epsilon=self.epsilon, name="norm", **types)(pooled)
        hidden = self.activation(nn.Dense(self.mlp_dim, name="hidden", **dense)(hidden))
        return pooled + nn.Dense(width, name="mlp_out", **dense)(hidden)
