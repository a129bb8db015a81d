"""MLP-Mixer: tokens mixed by a matrix over places, channels by a matrix over channels."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vision.models.activations import Activation
from vision.models.attention import flat
from vision.models.interface import Features, ImageShape, Variant
from vision.models.layers import Residual, drop_rates
from vision.models.patches import patch_grid, patchify
from vision.models.platform import computed_once
from vision.models.transformer import Mlp


class Mixer(nn.Module):
    """An MLP across patches and an MLP across channels, in turn (Tolstikhin et al. 2021, section 2).

    Attributes:
      num_classes: size of the output; 0 for none.
      patch_size: side of a patch in pixels.
      width: of a token.
      depth: number of blocks.
      tokens_dim: width of the hidden layer across patches.
      channels_dim: width of the hidden layer across channels.
      activation: of the hidden layers; ``gelu_tanh`` is that of the published weights.
      epsilon: of the layer normalisations.
      dropout: rate in both MLPs.
      stochastic_depth: rate of the last block; the others' rise linearly from 0.
      rescale_depth: divide a branch by its probability of staying; off in the published training, whose residuals
        are then larger in evaluation than on average in training.
      head_bias: initial bias of the head, such as -6.9 under sigmoid cross-entropy over 1000 classes.
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    num_classes: int
    patch_size: int = 16
    width: int = 768
    depth: int = 12
    tokens_dim: int = 384
    channels_dim: int = 3072
    activation: Activation = "gelu_tanh"
    epsilon: float = 1e-6
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    rescale_depth: bool = True
    head_bias: float = 0.0
    dtype: jnp.dtype = jnp.dtype("float32")
    param_dtype: jnp.dtype = jnp.dtype("float32")

    def __post_init__(self):
        for name in ("patch_size", "width", "depth", "tokens_dim", "channels_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("dropout", "stochastic_depth"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        super().__post_init__()

    def check(self, image_shape: ImageShape) -> None:
        """Raises ValueError where patches do not divide the image."""
        patch_grid(image_shape, self.patch_size)

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool = False,
        keys: Key[Array, " batch"] | None = None,
    ) -> tuple[Float[Array, "batch num_classes"], Features]:
        """Returns the outputs, and the tokens ``[batch, tokens, width]`` of the stem and of every block."""
        keys = keys if train else None
        types: Any = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.check((images.shape[1], images.shape[2], images.shape[3]))
        embedding = nn.Dense(self.width, name="patch_embedding", **types)
        x = flat(embedding, patchify(images.astype(self.dtype), self.patch_size))
        features: Features = {"stem": x}
        for index, rate in enumerate(drop_rates(self.stochastic_depth, self.depth)):
            x = self._mixed(x, f"block{index:02}", rate, keys)
            features[f"block{index:02}"] = x
        x = jnp.mean(nn.LayerNorm(epsilon=self.epsilon, name="norm", **types)(x), axis=1)
        features["pre_logits"] = x
        if not self.num_classes:
            return x, features
        bias_init = nn.initializers.constant(self.head_bias)
        head: dict[str, Any] = {"kernel_init": nn.initializers.zeros, "bias_init": bias_init, **types}
        return nn.Dense(self.num_classes, name="head", **head)(x), features

    def _mixed(self, x: Array, name: str, rate: float, keys: Any) -> Array:
        types: Any = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        inits: dict[str, Any] = {"kernel_init": nn.initializers.lecun_normal(), "bias_init": nn.initializers.zeros}

        tokens, channels = (
            Mlp(dim, False, self.activation, self.dropout, name=f"{name}_{which}", **inits, **types)
            for which, dim in (("tokens", self.tokens_dim), ("channels", self.channels_dim))
        )
        tokens_norm, channels_norm = (
            nn.LayerNorm(epsilon=self.epsilon, name=f"{name}_{which}_norm", **types) for which in ("tokens", "channels")
        )

        def across_tokens(x, keys):
            return tokens(tokens_norm(x).swapaxes(1, 2), keys=keys).swapaxes(1, 2)

        def across_channels(x, keys):
            return channels(channels_norm(x), keys=keys)

        x = computed_once(Residual(rescale=self.rescale_depth)(x, across_tokens, rate=rate, keys=keys))
        return Residual(rescale=self.rescale_depth)(x, across_channels, rate=rate, keys=keys)


# Tolstikhin et al. 2021, table 1.
_SIZES: dict[str, dict[str, int]] = {
    "S": {"depth": 8, "width": 512, "tokens_dim": 256, "channels_dim": 2048},
    "B": {"depth": 12, "width": 768, "tokens_dim": 384, "channels_dim": 3072},
    "L": {"depth": 24, "width": 1024, "tokens_dim": 512, "channels_dim": 4096},
    "H": {"depth": 32, "width": 1280, "tokens_dim": 640, "channels_dim": 5120},
}
VARIANTS = {
    f"mixer/{size}{patch}": Variant(Mixer, {"patch_size": patch, **_SIZES[size]})
    for size, patch in (("S", 32), ("S", 16), ("B", 32), ("B", 16), ("L", 32), ("L", 16), ("H", 14))
}
