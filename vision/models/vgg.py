"""VGG: small convolutions, one behind the other."""

from typing import Any

import einops
import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vision.models.activations import relu
from vision.models.convolution import conv
from vision.models.interface import Features, ImageShape, Variant
from vision.models.layers import Dropout
from vision.models.normalization import NormOrder, batch_norm, normalized
from vision.models.pooling import adaptive_average_pool, max_pool


class VGGBlock(nn.Module):
    """Convolutions of 3x3 with ReLU, then pooling of 2x2.

    Attributes:
      width: channels.
      depth: number of convolutions.
      batch_norm: whether there is batch normalisation.
      norm_order: where it stands.
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    width: int
    depth: int
    batch_norm: bool
    norm_order: NormOrder
    dtype: jnp.dtype
    param_dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch new_height new_width new_channels"]:
        """Returns the pooled maps."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        for number in range(1, self.depth + 1):
            x = conv(self.width, 3, bias=True, **types, name=f"conv{number}")(x)
            if self.batch_norm:
                x = normalized(x, batch_norm(train=train, **types, name=f"norm{number}"), self.norm_order)
            else:
                x = relu(x)
        return max_pool(x, 2)


class VGG(nn.Module):
    """Blocks of 3x3 convolutions, each halving the map, then dense layers (Simonyan and Zisserman 2015, table 1).

    Convolutions start from He's normal draws over the outputs and dense layers from a standard deviation of 0.01, as
    in the code of torchvision's weights; the paper started its deep networks from trained shallow ones (section 3.1).
    Convolutions keep their bias beside batch normalisation, where it is idle, as those weights have it.

    Attributes:
      num_classes: size of the output; 0 for no head.
      block_depths: convolutions of each block; the paper's networks have five.
      widths: channels of each block.
      batch_norm: batch normalisation behind every convolution.
      norm_order: it stands before or after the ReLU.
      hidden_sizes: units of the dense layers but the head.
      grid: maps are averaged to this many pixels on each side for the dense layers, so that images of any size that
        the poolings leave something of fit (with five, 224x224 need no averaging to 7, and 32x32 none to 1).
      dropout: rate after each hidden dense layer (section 3.1).
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    num_classes: int
    block_depths: tuple[int, ...] = (2, 2, 3, 3, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    batch_norm: bool = False
    norm_order: NormOrder = "before"
    hidden_sizes: tuple[int, ...] = (4096, 4096)
    grid: int = 7
    dropout: float = 0.5
    dtype: jnp.dtype = jnp.dtype("float32")
    param_dtype: jnp.dtype = jnp.dtype("float32")

    has_convolutions = True
    any_size = True

    def __post_init__(self):
        if len(self.block_depths) != len(self.widths) or not self.widths or min(self.block_depths + self.widths) < 1:
            raise ValueError(
                f"block_depths and widths must be as many positive whole numbers, got {self.block_depths} and "
                f"{self.widths}"
            )
        if self.hidden_sizes and min(self.hidden_sizes) < 1:
            raise ValueError(f"hidden_sizes must be positive whole numbers, got {self.hidden_sizes}")
        if self.grid < 1:
            raise ValueError(f"grid must be positive, got {self.grid}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        super().__post_init__()

    def check(self, image_shape: ImageShape) -> None:
        """Raises ValueError where the poolings leave nothing of an image."""
        least = 2 ** len(self.widths)
        if min(image_shape[:2]) < least:
            here = "x".join(map(str, image_shape[:2]))
            raise ValueError(f"images must be at least {least}x{least} pixels, these are {here}")

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool = False,
        keys: Key[Array, " batch"] | None = None,
    ) -> tuple[Float[Array, "batch outputs"], Features]:
        """Returns the logits; features are the pooled maps and the dense layers, the last also as ``pre_logits``."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        features: Features = {}
        x = images.astype(self.dtype)
        for width, depth in zip(self.widths, self.block_depths, strict=True):
            name = f"block{len(features):02}"
            x = VGGBlock(width, depth, self.batch_norm, self.norm_order, **types, name=name)(x, train=train)
            features[name] = x
        x = einops.rearrange(adaptive_average_pool(x, self.grid), "b h w c -> b (h w c)")
        init = nn.initializers.normal(0.01)
        for index, size in enumerate(self.hidden_sizes):
            x = relu(nn.Dense(size, kernel_init=init, **types, name=f"hidden_{index}")(x))
            features[f"block{len(features):02}"] = x
            x = Dropout(self.dropout)(x, keys=keys if train else None)
        features["pre_logits"] = x
        if not self.num_classes:
            return x, features
        return nn.Dense(self.num_classes, kernel_init=init, **types, name="head")(x), features


_DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_CIFAR: dict[str, Any] = {"hidden_sizes": (), "grid": 1}
VARIANTS = {
    f"vgg/{size}{norm}{small}": Variant(
        VGG,
        {"block_depths": depths, "batch_norm": bool(norm), **(_CIFAR if small else {})},
        *(((32, 32, 3), 10) if small else ()),
    )
    for small in ("", "_cifar")
    for norm in ("", "_bn")
    for size, depths in _DEPTHS.items()
}
