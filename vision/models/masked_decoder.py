"""The decoder of a masked autoencoder: from the tokens of some patches to the pixels of all."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vision.models.attention import flat
from vision.models.positions import sincos_2d
from vision.models.transformer import Stack


class MaskedDecoder(nn.Module):
    """A narrow transformer over visible patches and mask tokens (He et al. 2022, MAE, section 3).

    Every patch has a fixed sine-cosine position, see :func:`vision.models.positions.sincos_2d`, whose frequencies are
    not quite those of the released code; the class token has none.

    Attributes:
      patch_pixels: numbers of a patch, the size of the output.
      grid: rows and columns of patches.
      width: of a token, a multiple of 4.
      depth: number of blocks.
      num_heads: of the attention.
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    patch_pixels: int
    grid: tuple[int, int]
    width: int
    depth: int
    num_heads: int
    dtype: jnp.dtype
    param_dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        visible: Float[Array, "batch kept features"],
        class_token: Float[Array, "batch features"] | None,
        restore: Int[Array, "batch patches"],
    ) -> Float[Array, "batch patches pixels"]:
        """Returns the pixels of every patch, row by row.

        Args:
          visible: tokens of the patches that the encoder saw.
          class_token: the encoder's, where it has one.
          restore: for every patch its number among the visible ones; from their count on it stands for a masked patch.
        """
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        kernel_init = nn.initializers.xavier_uniform()
        embedding = nn.Dense(self.width, kernel_init=kernel_init, name="embedding", **types)
        mask_token = self.param("mask_token", nn.initializers.normal(0.02), (self.width,), self.param_dtype)
        x = flat(embedding, visible.astype(self.dtype))
        batch, kept, _ = x.shape
        masked = jnp.broadcast_to(mask_token.astype(self.dtype), (batch, restore.shape[1] - kept, self.width))
        x = jnp.take_along_axis(jnp.concatenate([x, masked], axis=1), restore[..., None], axis=1)
        x = x + jnp.asarray(sincos_2d(self.grid, self.width).reshape(-1, self.width), self.dtype)
        if class_token is not None:
            x = jnp.concatenate([embedding(class_token.astype(self.dtype))[:, None], x], axis=1)
        x, _ = self._stack(kernel_init)(x, keys=None, angles=None)
        x = x if class_token is None else x[:, 1:]
        x = nn.LayerNorm(epsilon=1e-6, name="norm", **types)(x)
        return flat(nn.Dense(self.patch_pixels, kernel_init=kernel_init, name="pixels", **types), x)

    def _stack(self, kernel_init: nn.initializers.Initializer) -> Stack:
        block: dict[str, Any] = {
            "num_heads": self.num_heads,
            "mlp_dim": 4 * self.width,
            "swiglu": False,
            "activation": "gelu",
            "epsilon": 1e-6,
            "qkv_bias": True,
            "layer_scale": None,
            "dropout": 0.0,
            "drop_mode": "example",
            "return_weights": False,
            "kernel_init": kernel_init,
            "bias_init": nn.initializers.zeros,
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
        }
        return Stack(self.depth, block, 0.0, uniform_depth=False, scan=False, remat="none", name="blocks")
