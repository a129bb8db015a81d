"""A transformer over the tokens of a text: CLIP's and SigLIP's text towers, and small language models."""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from vision.models.activations import Activation, activation_function
from vision.models.attention import AttentionPool
from vision.models.interface import Features
from vision.models.layers import Dropout
from vision.models.text_variants import text_variants
from vision.models.transformer import Remat, Stack, clip_inits

TextPool = Literal["end", "last", "map"]


class TextTransformer(nn.Module):
    """A pre-norm transformer over tokens (Radford et al. 2021, CLIP, section 2.4; Zhai et al. 2023, SigLIP).

    The largest id of the vocabulary ends a text. What stands after the first ``end`` is padding and may be any id;
    a text without one fills all places.

    Everything starts from CLIP's normal draws: tokens with deviation 0.02, positions with 0.01, blocks as in
    :func:`vision.models.transformer.clip_inits`, the projection with ``width**-0.5``.

    Attributes:
      vocab_size: number of ids; the last one is ``end``.
      length: places of a text.
      width: of a token.
      depth: number of blocks.
      num_heads: of the attention.
      mlp_dim: width of the hidden layer of a block.
      causal: whether a token sees only those up to itself.
      pool: which of the normalised tokens stands for the text: that at the first ``end``, that at the last place
        (SigLIP's, see ``sticky_end``), or a learned query's attention to all (MAP).
      sticky_end: with ``pool="last"``, whether every place after the first ``end`` is read as ``end``, as SigLIP pads
        its texts; whatever pads the tokens, the last place then stands for a text that has ended. Without, tokens are
        read as they are: imported weights have another vocabulary, whose largest id may be a word and end nothing.
      activation: of the MLP; ``quick_gelu`` is that of OpenAI's weights, ``gelu`` that of most of open_clip's,
        ``gelu_tanh`` that of SigLIP's.
      epsilon: of the layer normalisations.
      out_size: size of the embedding; 0 for no projection.
      projection_bias: whether the projection has one, as in SigLIP.
      mask_padding: whether nothing attends to what stands after the first ``end``; only without ``causal``, which sees
        none of it anyway.
      dropout: rate after the embeddings, the attention and the layers of the MLP.
      scan: compile one block and loop over it.
      remat: what the backward pass computes again to save memory.
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    vocab_size: int
    length: int = 77
    width: int = 512
    depth: int = 12
    num_heads: int = 8
    mlp_dim: int = 2048
    causal: bool = True
    pool: TextPool = "end"
    activation: Activation = "gelu"
    epsilon: float = 1e-5
    out_size: int = 0
    projection_bias: bool = False
    mask_padding: bool = False
    sticky_end: bool = True
    dropout: float = 0.0
    scan: bool = False
    remat: Remat = "none"
    dtype: jnp.dtype = jnp.dtype("float32")
    param_dtype: jnp.dtype = jnp.dtype("float32")

    def __post_init__(self):
        for name in ("length", "width", "depth", "num_heads", "mlp_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.vocab_size < 2:
            raise ValueError(f"vocab_size must be at least 2, got {self.vocab_size}")
        if self.out_size < 0:
            raise ValueError(f"out_size must be 0 or more, got {self.out_size}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.width % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide the width {self.width}")
        if self.causal and self.mask_padding:
            raise ValueError("mask_padding is for causal=False: a causal model sees no padding before the end")
        if self.causal and self.pool != "end":
            raise ValueError(f"pool {self.pool!r} looks at the padding of a causal model; take pool='end'")
        if self.pool == "last" and self.mask_padding:
            raise ValueError("pool 'last' takes a place that mask_padding hides; take pool='end'")
        if self.projection_bias and not self.out_size:
            raise ValueError("projection_bias needs a projection; set out_size")
        super().__post_init__()

    @property
    def any_length(self) -> bool:
        """Whether a text that fits comes out the same with fewer places."""
        return self.causal or self.mask_padding

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "batch length"],
        *,
        train: bool = False,
        keys: Key[Array, " batch"] | None = None,
    ) -> tuple[Float[Array, "batch outputs"], Features]:
        """Returns the projected embeddings (the pooled ones where there is no projection) and features.

        These are ``block00`` and so on, ``tokens`` (normalised, ``[batch, length, width]``) and ``pre_logits``, the
        pooled ones before the projection.

        Args:
          tokens: ids.
          train: whether anything is dropped.
          keys: one per example.
        """
        keys = keys if train else None
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        normal = nn.initializers.normal
        ends = first_end(tokens, self.vocab_size - 1)
        if self.pool == "last" and self.sticky_end:
            tokens = jnp.where(jnp.arange(tokens.shape[1]) <= ends[:, None], tokens, self.vocab_size - 1)
        table: Any = self.param("token_embedding", normal(0.02), (self.vocab_size, self.width), self.param_dtype)
        places: Any = self.param("position_embedding", normal(0.01), (self.length, self.width), self.param_dtype)
        x = jnp.asarray(table)[tokens].astype(self.dtype) + places[: tokens.shape[1]].astype(self.dtype)
        x = Dropout(self.dropout)(x, keys=keys)
        mask = jnp.arange(tokens.shape[1]) <= ends[:, None] if self.mask_padding else None
        x, features = self._stack()(x, keys=keys, mask=mask)
        x = nn.LayerNorm(epsilon=self.epsilon, name="norm", **types)(x)
        features["tokens"] = x
        features["pre_logits"] = pooled = self._pooled(x, ends, mask)
        if not self.out_size:
            return pooled, features
        projection: dict[str, Any] = {"use_bias": self.projection_bias, "kernel_init": normal(self.width**-0.5)}
        return nn.Dense(self.out_size, name="projection", **projection, **types)(pooled), features

    def _stack(self) -> Stack:
        block: dict[str, Any] = {
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "swiglu": False,
            "activation": self.activation,
            "epsilon": self.epsilon,
            "qkv_bias": True,
            "layer_scale": None,
            "dropout": self.dropout,
            "drop_mode": "example",
            "return_weights": False,
            "causal": self.causal,
            **clip_inits(self.width, self.depth),
            "bias_init": nn.initializers.zeros,
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
        }
        return Stack(self.depth, block, 0.0, uniform_depth=False, scan=self.scan, remat=self.remat, name="encoder")

    def _pooled(self, x: Array, ends: Array, mask: Array | None) -> Array:
        if self.pool == "last":
            return x[:, -1]
        if self.pool == "end":
            return jnp.take_along_axis(x, ends[:, None, None], axis=1)[:, 0]
        pool: dict[str, Any] = {
            "epsilon": self.epsilon,
            "kernel_init": clip_inits(self.width, self.depth)["kernel_init"],
            "activation": activation_function(self.activation),
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
        }
        return AttentionPool(self.num_heads, self.mlp_dim, **pool, name="pool")(x, mask=mask)


def first_end(tokens: Int[Array, "batch length"], end: int) -> Int[Array, " batch"]:
    """Returns where each text ends: the place of its first ``end``, or the last place where it has none."""
    found = tokens == end
    return jnp.where(found.any(axis=1), jnp.argmax(found, axis=1), tokens.shape[1] - 1)


def until_end(tokens: Int[Array, "batch length"], end: int) -> Bool[Array, "batch length"]:
    """Returns True up to and including the first ``end`` of each text; what follows is padding."""
    return jnp.arange(tokens.shape[1]) <= first_end(tokens, end)[:, None]


TEXT_VARIANTS = text_variants(TextTransformer)
