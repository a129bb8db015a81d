"""Wide residual networks, for CIFAR with the activation before each convolution and for ImageNet."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vision.models.activations import relu
from vision.models.convolution import conv, uniform_fan_in
from vision.models.interface import Features, Variant
from vision.models.layers import Dropout
from vision.models.normalization import batch_norm
from vision.models.pooling import global_average_pool
from vision.models.resnet import ResNet
from vision.models.resnet_block import BlockPlan


class WideBlock(nn.Module):
    """Two times normalisation, ReLU and 3x3 convolution, beside a shortcut (Zagoruyko and Komodakis 2016, figure 1d).

    Where the shape changes, the shortcut is a 1x1 convolution of what the first convolution sees, as in the authors'
    code.

    Attributes:
      plan: width, stride and whether the shortcut has a convolution.
      dropout: rate between the convolutions.
      spatial_dropout: drop whole maps there.
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    plan: BlockPlan
    dropout: float
    spatial_dropout: bool
    dtype: jnp.dtype
    param_dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool, keys: Key[Array, " batch"] | None
    ) -> Float[Array, "batch new_height new_width new_channels"]:
        """Returns the new feature maps; ``keys`` are for dropout."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        norm = partial(batch_norm, train=train, **types)
        layer: Callable[..., nn.Conv] = partial(conv, self.plan.width, **types)
        active = relu(norm(name="norm1")(x))
        y = layer(3, stride=self.plan.stride, name="conv1")(active)
        y = relu(norm(name="norm2")(y))
        y = Dropout(self.dropout, self.spatial_dropout)(y, keys=keys)
        y = layer(3, name="conv2")(y)
        return y + (layer(1, stride=self.plan.stride, name="shortcut")(active) if self.plan.projects else x)


class WideResNet(nn.Module):
    """The residual network for small images that is wide instead of deep (Zagoruyko and Komodakis 2016, table 1).

    Starts as :class:`vision.models.resnet.ResNet` does.

    Attributes:
      num_classes: size of the output; 0 for no head.
      depth: number of convolutions, 6 n + 4 for n blocks in each of the three stages.
      width_factor: the stages have 16, 32 and 64 times this many channels.
      dropout: rate between the convolutions of a block (section 2.4).
      spatial_dropout: drop whole feature maps there, not pixels.
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    num_classes: int
    depth: int = 28
    width_factor: int = 10
    dropout: float = 0.0
    spatial_dropout: bool = False
    dtype: jnp.dtype = jnp.dtype("float32")
    param_dtype: jnp.dtype = jnp.dtype("float32")

    has_convolutions = True
    any_size = True

    def __post_init__(self):
        if self.depth < 10 or self.depth % 6 != 4:
            raise ValueError(f"depth must be 6 n + 4 for n blocks in a stage (16, 28, 40, ...), got {self.depth}")
        if self.width_factor < 1:
            raise ValueError(f"width_factor must be positive, got {self.width_factor}")
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
    ) -> tuple[Float[Array, "batch outputs"], Features]:
        """Returns the logits, and the maps of the stem and of every block with ``pre_logits``."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = conv(16, 3, **types, name="stem")(images.astype(self.dtype))
        features = {"stem": x}
        for plan in wide_block_plans(self):
            block = WideBlock(plan, self.dropout, self.spatial_dropout, **types, name=plan.name)
            x = block(x, train=train, keys=keys if train else None)
            features[plan.name] = x
        x = relu(batch_norm(train=train, **types, name="norm")(x))
        features["pre_logits"] = x = global_average_pool(x)
        if not self.num_classes:
            return x, features
        return nn.Dense(self.num_classes, kernel_init=uniform_fan_in, **types, name="head")(x), features


def wide_block_plans(network: WideResNet) -> list[BlockPlan]:
    """Returns what each block of a network is, in depth order."""
    channels = 16
    plans: list[BlockPlan] = []
    size = (network.depth - 4) // 6
    for stage in range(3):
        width = 16 * 2**stage * network.width_factor
        for position in range(size):
            stride = 2 if stage and not position else 1
            projects = channels != width or stride > 1
            plans.append(BlockPlan(f"block{len(plans):02}", stage, position, width, stride, projects))
            channels = width
    return plans


_WIDE_BOTTLENECK: dict[str, Any] = {"block": "bottleneck", "width_factor": 2}
VARIANTS = {
    **{
        f"wide_resnet/{depth}_{factor}": Variant(WideResNet, {"depth": depth, "width_factor": factor}, (32, 32, 3), 10)
        for depth, factor in ((28, 10), (16, 8), (40, 4))
    },
    "wide_resnet/50_2": Variant(ResNet, {"stage_sizes": (3, 4, 6, 3), **_WIDE_BOTTLENECK}),
    "wide_resnet/101_2": Variant(ResNet, {"stage_sizes": (3, 4, 23, 3), **_WIDE_BOTTLENECK}),
}
