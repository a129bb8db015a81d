"""The blocks of a transformer and their stack: unrolled or scanned, with or without rematerialisation."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from vision.models.activations import Activation, activation_function
from vision.models.attention import Initializer, SelfAttention, flat
from vision.models.layers import DropMode, Dropout, Residual, drop_rates
from vision.models.platform import recomputed, rows_divided

Remat = Literal["none", "dots", "full"]
Keys = Key[Array, " batch"] | None
Features = dict[str, Array]


def clip_inits(width: int, depth: int) -> dict[str, Initializer]:
    """Returns the initializers of a :class:`Block` as in CLIP (Radford et al. 2021, its code): normal, by the width.

    Deviations are ``width**-0.5`` for query, key and value, ``(2 width)**-0.5`` for the hidden layer, and
    ``width**-0.5 (2 depth)**-0.5`` for what ends in the residual stream.
    """
    normal = nn.initializers.normal
    last = normal(width**-0.5 * (2 * depth) ** -0.5)
    return {"kernel_init": normal(width**-0.5), "hidden_init": normal((2 * width) ** -0.5), "out_init": last}


class Mlp(nn.Module):
    """Two layers applied to every token on its own (Vaswani et al. 2017, section 3.3), or SwiGLU.

    Attributes:
      mlp_dim: width of the hidden layer.
      swiglu: ``(silu(x W) * (x V)) U`` (Shazeer 2020, equation 6, with biases as in DINOv2) for ``f(x W) U``.
      activation: f.
      dropout: rate after either layer.
      kernel_init: of every matrix.
      bias_init: of every bias.
      dtype: type of the computation.
      param_dtype: type of the parameters.
      out_init: of the last matrix, where it has another than ``kernel_init``.
    """

    mlp_dim: int
    swiglu: bool
    activation: Activation
    dropout: float
    kernel_init: Initializer
    bias_init: Initializer
    dtype: jnp.dtype
    param_dtype: jnp.dtype
    out_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch tokens width"], *, keys: Keys) -> Float[Array, "batch tokens width"]:
        """Returns the new tokens."""

        def dense(features: int, name: str) -> nn.Dense:
            kernel_init = self.out_init or self.kernel_init if name == "out" else self.kernel_init
            inits: dict[str, Any] = {"kernel_init": kernel_init, "bias_init": self.bias_init}
            return nn.Dense(features, name=name, dtype=self.dtype, param_dtype=self.param_dtype, **inits)

        if self.swiglu:
            gated = recomputed(lambda gate, value: jax.nn.silu(gate) * value)
            hidden = gated(flat(dense(self.mlp_dim, "gate"), x), flat(dense(self.mlp_dim, "value"), x))
        else:
            hidden = recomputed(activation_function(self.activation))(flat(dense(self.mlp_dim, "hidden"), x))
        hidden = Dropout(self.dropout)(rows_divided(hidden), keys=keys)
        return Dropout(self.dropout)(flat(dense(x.shape[-1], "out"), hidden), keys=keys)


class Block(nn.Module):
    """A pre-norm block: ``x + s1 attention(norm(x))``, then ``x + s2 mlp(norm(x))`` (Dosovitskiy et al. 2021, (2-3)).

    Attributes:
      num_heads: of the attention.
      mlp_dim: width of the hidden layer.
      swiglu: see :class:`Mlp`.
      activation: see :class:`Mlp`.
      epsilon: of the layer normalisations.
      qkv_bias: whether query, key and value are affine.
      layer_scale: initial value of the learned scales s1, s2 per channel (Touvron et al. 2021, CaiT, section 2.1),
        or None for none.
      dropout: rate after the attention and in the MLP.
      drop_rate: of stochastic depth.
      drop_mode: see :class:`vision.models.layers.Residual`.
      return_weights: whether attention weights are among the features.
      kernel_init: of every matrix.
      bias_init: of the MLP's biases.
      dtype: type of the computation.
      param_dtype: type of the parameters.
      causal: whether a token sees only those up to itself.
      hidden_init: of the first matrices of the MLP, where they have another than ``kernel_init``.
      out_init: of the last matrix of the attention and of the MLP, likewise.
    """

    num_heads: int
    mlp_dim: int
    swiglu: bool
    activation: Activation
    epsilon: float
    qkv_bias: bool
    layer_scale: float | None
    dropout: float
    drop_rate: float
    drop_mode: DropMode
    return_weights: bool
    kernel_init: Initializer
    bias_init: Initializer
    dtype: jnp.dtype
    param_dtype: jnp.dtype
    causal: bool = False
    hidden_init: Initializer | None = None
    out_init: Initializer | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch tokens width"],
        rate: Float[Array, ""] | None,
        keys: Keys,
        angles: Float[Array, "*each patches half"] | None,
        mask: Bool[Array, "batch tokens"] | None = None,
    ) -> tuple[Float[Array, "batch tokens width"], Features]:
        """Returns the new tokens and the features of this block.

        Args:
          x: tokens.
          rate: of stochastic depth, in place of ``drop_rate`` where a scan brings each block its own.
          keys: one per example; None in evaluation.
          angles: rotary positions.
          mask: False for tokens that none attends to; not for ``drop_mode`` ``batch_subset``.
        """
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype, "out_init": self.out_init}
        inits: dict[str, Any] = {"kernel_init": self.hidden_init or self.kernel_init, "bias_init": self.bias_init}
        of_attention: dict[str, Any] = {"kernel_init": self.kernel_init, "causal": self.causal, **types}
        attention = SelfAttention(self.num_heads, self.qkv_bias, name="attention", **of_attention)
        mlp = Mlp(self.mlp_dim, self.swiglu, self.activation, self.dropout, name="mlp", **inits, **types)
        of_norm: dict[str, Any] = {"epsilon": self.epsilon, "dtype": self.dtype, "param_dtype": self.param_dtype}
        norms = [nn.LayerNorm(name=f"{which}_norm", **of_norm) for which in ("attention", "mlp")]
        scales = [self._scale(f"{which}_scale", x.shape[-1:]) for which in ("attention", "mlp")]
        drop = Dropout(self.dropout)
        features: Features = {}
        x = rows_divided(x)

        def attend(x, keys):
            y, weights = attention(norms[0](x), angles=angles, mask=mask, return_weights=self.return_weights)
            if weights is not None:
                features["attention"] = weights
            return drop(y, keys=keys) * scales[0]

        def transform(x, keys):
            return mlp(norms[1](x), keys=keys) * scales[1]

        residual: dict[str, Any] = {"rate": self.drop_rate if rate is None else rate, "keys": keys}
        x = Residual(self.drop_mode)(x, attend, **residual)
        x = Residual(self.drop_mode)(x, transform, **residual)
        return x, {"": x, **features}

    def _scale(self, name: str, shape: tuple[int, ...]) -> Array | float:
        if self.layer_scale is None:
            return 1.0
        return self.param(name, nn.initializers.constant(self.layer_scale), shape, self.param_dtype).astype(self.dtype)


class Stack(nn.Module):
    """Blocks one after another.

    Attributes:
      depth: how many.
      block: arguments of :class:`Block` but for ``drop_rate``.
      stochastic_depth: rate of the last block, or of all.
      uniform_depth: whether all blocks have the same rate.
      scan: compile one block and loop over it; parameters are then stacked under ``blocks``, see
        :mod:`vision.models.scanning`.
      remat: what is computed again in the backward pass to save memory: nothing, all but products of matrices, all.
    """

    depth: int
    block: dict[str, Any]
    stochastic_depth: float
    uniform_depth: bool
    scan: bool
    remat: Remat

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch tokens width"],
        *,
        keys: Keys,
        angles: Float[Array, "*each patches half"] | None = None,
        mask: Bool[Array, "batch tokens"] | None = None,
    ) -> tuple[Float[Array, "batch tokens width"], Features]:
        """Returns the last tokens, and each block's features as ``block00``, ``block00/attention``, ..."""
        rates = drop_rates(self.stochastic_depth, self.depth, uniform=self.uniform_depth)
        block: Any = Block
        if self.remat != "none":
            policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if self.remat == "dots" else None
            block = nn.remat(Block, policy=policy, prevent_cse=not self.scan)
        if not self.scan:
            features: Features = {}
            for index, rate in enumerate(rates):
                x, found = block(**self.block, drop_rate=rate, name=f"block{index:02}")(x, None, keys, angles, mask)
                features |= _named(index, found)
            return x, features
        each_its_own = len(set(rates)) > 1
        scanned = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(0 if each_its_own else nn.broadcast, nn.broadcast, nn.broadcast, nn.broadcast),
            length=self.depth,
        )
        per_block = jnp.asarray(rates, jnp.float32) if each_its_own else None
        x, found = scanned(**self.block, drop_rate=rates[0], name="blocks")(x, per_block, keys, angles, mask)
        unstacked = [jax.tree.map(lambda each, i=i: each[i], found) for i in range(self.depth)]
        return x, {name: value for i, each in enumerate(unstacked) for name, value in _named(i, each).items()}


def _named(index: int, features: Features) -> Features:
    return {f"block{index:02}{'/' if name else ''}{name}": value for name, value in features.items()}
