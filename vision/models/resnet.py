"""Residual networks, for ImageNet and for CIFAR, and the same networks without their shortcuts."""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vision.models.convolution import conv, uniform_fan_in
from vision.models.interface import Features, Variant
from vision.models.layers import Dropout, drop_rates
from vision.models.normalization import NormOrder, batch_norm, normalized
from vision.models.pooling import global_average_pool, max_pool
from vision.models.resnet_block import EXPANSION, Block, BlockPlan, Kind, Shortcut


class ResNet(nn.Module):
    """A residual network (He et al. 2016): a stem, stages of blocks that halve the map, the mean of each map, a head.

    With 3 stages of basic blocks of 16, 32 and 64 channels and the stem for small images it is the network of section
    4.2 for CIFAR; ``width_factor`` 2 with bottlenecks is the Wide ResNet for ImageNet (Zagoruyko and Komodakis 2016,
    section 3).

    Convolutions start from He's normal draws over the outputs, the head from a uniform one within 1 / sqrt(width), as
    in the code of PyTorch's published weights.

    Attributes:
      num_classes: size of the output; 0 for no head.
      stage_sizes: blocks of each stage.
      block: ``basic`` (two 3x3 convolutions) or ``bottleneck`` (1x1, 3x3, 1x1 with four times the width at its end).
      stem: ``imagenet`` (7x7 convolution and pooling, each of stride 2) or ``cifar`` (one 3x3 convolution).
      width: channels of the first stage, doubled from stage to stage.
      width_factor: by which the 3x3 convolutions of bottlenecks, or the inner maps of basic blocks, are wider.
      shortcut: where the shape changes, ``projection`` is a 1x1 convolution with batch normalisation (option B) and
        ``pad`` takes every second pixel and adds zero channels, half of them on each side (option A); ``none`` is the
        plain network without any shortcut.
      norm_order: batch normalisation before or after the activation; behind a branch's last convolution it always
        stands before the sum.
      zero_init: start every branch from zero (the scale of its last normalisation).
      stochastic_depth: probability that the last branch is left out of an example, rising linearly from 0 at the first.
      block_dropout: rate in the feature maps before the last convolution of each block.
      spatial_dropout: drop whole feature maps there, not pixels.
      dropout: rate before the head.
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    num_classes: int
    stage_sizes: tuple[int, ...] = (2, 2, 2, 2)
    block: Kind = "basic"
    stem: Literal["imagenet", "cifar"] = "imagenet"
    width: int = 64
    width_factor: int = 1
    shortcut: Shortcut = "projection"
    norm_order: NormOrder = "before"
    zero_init: bool = False
    stochastic_depth: float = 0.0
    block_dropout: float = 0.0
    spatial_dropout: bool = False
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.dtype("float32")
    param_dtype: jnp.dtype = jnp.dtype("float32")

    has_convolutions = True
    any_size = True

    def __post_init__(self):
        if not self.stage_sizes or min(self.stage_sizes) < 1:
            raise ValueError(f"stage_sizes must be positive whole numbers, got {self.stage_sizes}")
        if self.width < 1 or self.width_factor < 1:
            raise ValueError(f"width and width_factor must be positive, got {self.width} and {self.width_factor}")
        for name in ("stochastic_depth", "block_dropout", "dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.shortcut == "none" and (self.stochastic_depth or self.zero_init):
            raise ValueError("a plain network has no branch: leave stochastic_depth and zero_init off")
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
        keys = keys if train else None
        x = images.astype(self.dtype)
        large = self.stem == "imagenet"
        x = conv(self.width, 7 if large else 3, stride=2 if large else 1, **types, name="stem")(x)
        x = normalized(x, batch_norm(train=train, **types, name="stem_norm"), self.norm_order)
        if large:
            x = max_pool(x, 3, stride=2, padding=1)
        features = {"stem": x}
        plans = block_plans(self)
        for plan, rate in zip(plans, drop_rates(self.stochastic_depth, len(plans)), strict=True):
            x = Block(
                plan,
                kind=self.block,
                shortcut=self.shortcut,
                width_factor=self.width_factor,
                norm_order=self.norm_order,
                zero_init=self.zero_init,
                dropout=self.block_dropout,
                spatial_dropout=self.spatial_dropout,
                drop_rate=rate,
                **types,
                name=plan.name,
            )(x, train=train, keys=keys)
            features[plan.name] = x
        x = Dropout(self.dropout)(global_average_pool(x), keys=keys)
        features["pre_logits"] = x
        if not self.num_classes:
            return x, features
        return nn.Dense(self.num_classes, kernel_init=uniform_fan_in, **types, name="head")(x), features


def block_plans(network: ResNet) -> list[BlockPlan]:
    """Returns what each block of a network is, in depth order."""
    depth = sum(network.stage_sizes)
    digits = max(2, len(str(depth - 1)))
    channels = network.width
    plans: list[BlockPlan] = []
    for stage, size in enumerate(network.stage_sizes):
        width = network.width * 2**stage
        for position in range(size):
            stride = 2 if stage and not position else 1
            out = width * EXPANSION[network.block]
            projects = network.shortcut == "projection" and (stride > 1 or channels != out)
            plans.append(BlockPlan(f"block{len(plans):0{digits}}", stage, position, width, stride, projects))
            channels = out
    return plans


_DEPTHS: dict[int, dict[str, Any]] = {
    18: {"stage_sizes": (2, 2, 2, 2)},
    34: {"stage_sizes": (3, 4, 6, 3)},
    50: {"stage_sizes": (3, 4, 6, 3), "block": "bottleneck"},
    101: {"stage_sizes": (3, 4, 23, 3), "block": "bottleneck"},
    152: {"stage_sizes": (3, 8, 36, 3), "block": "bottleneck"},
}


def _small(depth: int, shortcut: Shortcut) -> Variant:
    """The network of ``depth = 6 n + 2`` weighted layers for CIFAR (He et al. 2016, section 4.2)."""
    options = {"stage_sizes": ((depth - 2) // 6,) * 3, "stem": "cifar", "width": 16, "shortcut": shortcut}
    return Variant(ResNet, options, (32, 32, 3), 10)


VARIANTS = {
    **{f"resnet/{depth}": Variant(ResNet, options) for depth, options in _DEPTHS.items()},
    **{f"resnet/{d}_cifar": Variant(ResNet, {**_DEPTHS[d], "stem": "cifar"}, (32, 32, 3), 10) for d in (18, 34, 50)},
    **{f"resnet/{depth}": _small(depth, "pad") for depth in (20, 32, 44, 56, 110, 1202)},
    **{f"resnet/{depth}_b": _small(depth, "projection") for depth in (20, 32, 44, 56, 110, 1202)},
    **{f"plain/{depth}": Variant(ResNet, {**_DEPTHS[depth], "shortcut": "none"}) for depth in (18, 34)},
    **{f"plain/{depth}": _small(depth, "none") for depth in (20, 32, 44, 56, 110)},
}
