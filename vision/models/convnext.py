"""ConvNeXt: a convolutional network built like a transformer."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vision.models.activations import gelu
from vision.models.convolution import conv
from vision.models.interface import Features, ImageShape, Variant
from vision.models.layers import Residual, drop_rates
from vision.models.pooling import global_average_pool

_EPSILON = 1e-6
# The code's truncation lies at -2 and 2, a hundred standard deviations away.
_INIT = nn.initializers.normal(0.02)


class ConvNeXtBlock(nn.Module):
    """A 7x7 convolution of each channel, LayerNorm, and an MLP with GELU, beside a shortcut (section 2.6, figure 4).

    Attributes:
      layer_scale: start of the branch's factor for each channel; None has no factor.
      drop_rate: probability that the branch is left out.
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    layer_scale: float | None
    drop_rate: float
    dtype: jnp.dtype
    param_dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], *, keys: Key[Array, " batch"] | None
    ) -> Float[Array, "batch height width channels"]:
        """Returns the new feature maps; ``keys`` are for stochastic depth."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        width = x.shape[-1]
        dense: Callable[..., nn.Dense] = partial(nn.Dense, kernel_init=_INIT, **types)
        y = conv(width, 7, groups=width, bias=True, kernel_init=_INIT, **types, name="conv")(x)
        y = nn.LayerNorm(epsilon=_EPSILON, **types, name="norm")(y)
        y = gelu(dense(4 * width, name="expand")(y))
        y = dense(width, name="contract")(y)
        if self.layer_scale is not None:
            start = nn.initializers.constant(self.layer_scale)
            y = y * self.param("layer_scale", start, (width,), self.param_dtype).astype(self.dtype)
        return Residual()(x, lambda *_: y, rate=self.drop_rate, keys=keys)


class ConvNeXt(nn.Module):
    """Patches, four stages of blocks with a halving of the map between them, the mean of each map (Liu et al. 2022).

    Epsilons of LayerNorm, exact GELU and a standard deviation of 0.02 at the start are those of the authors' code.

    Attributes:
      num_classes: size of the output; 0 for no head.
      stage_sizes: blocks of each stage.
      widths: channels of each stage.
      patch_size: of the first convolution, which has this stride too.
      layer_scale: start of the factor for each channel of a branch (Touvron et al. 2021, CaiT, section 2.1); None
        has none.
      stochastic_depth: probability that the last branch is left out of an example, rising linearly from 0 at the first;
        published as 0.1, 0.4, 0.5 and 0.5 for T, S, B and L (table 5).
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    num_classes: int
    stage_sizes: tuple[int, ...] = (3, 3, 9, 3)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    patch_size: int = 4
    layer_scale: float | None = 1e-6
    stochastic_depth: float = 0.0
    dtype: jnp.dtype = jnp.dtype("float32")
    param_dtype: jnp.dtype = jnp.dtype("float32")

    has_convolutions = True
    any_size = True

    def __post_init__(self):
        if not self.stage_sizes or len(self.stage_sizes) != len(self.widths):
            raise ValueError(f"stage_sizes and widths must be as long, got {self.stage_sizes} and {self.widths}")
        if min(*self.stage_sizes, *self.widths, self.patch_size) < 1:
            raise ValueError(
                "stage_sizes, widths and patch_size must be positive, "
                f"got {self.stage_sizes}, {self.widths} and {self.patch_size}"
            )
        if not 0.0 <= self.stochastic_depth < 1.0:
            raise ValueError(f"stochastic_depth must be in [0, 1), got {self.stochastic_depth}")
        super().__post_init__()

    def check(self, image_shape: ImageShape) -> None:
        """Raises ValueError where the halvings leave nothing of an image."""
        least = self.patch_size * 2 ** (len(self.stage_sizes) - 1)
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
        """Returns the logits, and the maps of the stem and of every block with ``pre_logits``."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        layer: Callable[..., nn.Conv] = partial(conv, padding=0, bias=True, kernel_init=_INIT, **types)
        norm = partial(nn.LayerNorm, epsilon=_EPSILON, **types)
        patch = self.patch_size
        x = layer(self.widths[0], patch, stride=patch, name="stem")(images.astype(self.dtype))
        x = norm(name="stem_norm")(x)
        features = {"stem": x}
        rates = iter(drop_rates(self.stochastic_depth, sum(self.stage_sizes)))
        names = iter(block_names(self))
        for stage, (size, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True)):
            if stage:
                x = norm(name=f"downsample_norm_{stage}")(x)
                x = layer(width, 2, stride=2, name=f"downsample_{stage}")(x)
            for name in (next(names) for _ in range(size)):
                block = ConvNeXtBlock(self.layer_scale, next(rates), **types, name=name)
                features[name] = x = block(x, keys=keys if train else None)
        features["pre_logits"] = x = norm(name="norm")(global_average_pool(x))
        if not self.num_classes:
            return x, features
        return nn.Dense(self.num_classes, kernel_init=_INIT, **types, name="head")(x), features


def block_names(network: ConvNeXt) -> list[str]:
    """Returns the name of each block, in depth order."""
    depth = sum(network.stage_sizes)
    digits = max(2, len(str(depth - 1)))
    return [f"block{index:0{digits}}" for index in range(depth)]


VARIANTS = {
    f"convnext/{size}": Variant(ConvNeXt, {"stage_sizes": depths, "widths": widths})
    for size, depths, widths in (
        ("T", (3, 3, 9, 3), (96, 192, 384, 768)),
        ("S", (3, 3, 27, 3), (96, 192, 384, 768)),
        ("B", (3, 3, 27, 3), (128, 256, 512, 1024)),
        ("L", (3, 3, 27, 3), (192, 384, 768, 1536)),
    )
}
