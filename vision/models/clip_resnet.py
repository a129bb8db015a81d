"""CLIP's residual network: a stem of three convolutions, strides by averages, pooling by attention."""

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vision.models.activations import relu
from vision.models.attention import Projections, flat
from vision.models.convolution import conv, uniform_fan_in
from vision.models.interface import Features, ImageShape, Variant
from vision.models.normalization import batch_norm
from vision.models.pooling import average_pool
from vision.models.positions import resize_positions
from vision.models.resnet_block import EXPANSION, BlockPlan
from vision.models.softmax_attention import attend

_STRIDE = 32
_HEAD_WIDTH = 64


class ClipResNet(nn.Module):
    """The residual network of CLIP (Radford et al. 2021, section 2.4).

    It is a ResNet of bottlenecks with the stem of three 3x3 convolutions and the averaging before each strided 1x1
    convolution of ResNet-D (He et al. 2019, "Bag of tricks", section 4.2), in the branch as well (Zhang 2019), and
    with attention in the place of the mean: the mean of the map asks, it and every pixel answer. What comes out is the
    embedding itself.

    The last normalisation of each branch starts from a scale of zero; the attention's matrices are normal with
    deviation ``width**-0.5``, as are the positions.

    Attributes:
      num_classes: size of the output; 0 for the embedding.
      stage_sizes: blocks of each stage.
      width: channels of the first stage; the embedding is pooled from 32 times as many, with heads of 64.
      out_size: size of the embedding.
      resize_positions: whether images of another size are taken, with positions interpolated to their grid.
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    num_classes: int
    stage_sizes: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    out_size: int = 1024
    resize_positions: bool = False
    dtype: jnp.dtype = jnp.dtype("float32")
    param_dtype: jnp.dtype = jnp.dtype("float32")

    has_convolutions = True
    position_antialias = True
    position_offset = 0.0

    def __post_init__(self):
        if len(self.stage_sizes) != 4 or min(self.stage_sizes) < 1:
            raise ValueError(f"stage_sizes must be four positive whole numbers, got {self.stage_sizes}")
        if self.width < 2 or self.width % 2 or self.out_size < 1:
            raise ValueError(f"width must be even and out_size positive, got {self.width} and {self.out_size}")
        super().__post_init__()

    @property
    def any_size(self) -> bool:
        """Whether the same parameters take images of other sizes."""
        return self.resize_positions

    def check(self, image_shape: ImageShape) -> None:
        """Raises ValueError where the strides do not divide the image."""
        if image_shape[0] % _STRIDE or image_shape[1] % _STRIDE:
            sides = f"{image_shape[0]}x{image_shape[1]}"
            raise ValueError(f"height and width must be multiples of {_STRIDE} pixels, the images have {sides}")

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool = False,
        keys: Key[Array, " batch"] | None = None,
    ) -> tuple[Float[Array, "batch outputs"], Features]:
        """Returns the output, and the maps of the stem and of every block with ``pre_logits``, the embedding."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        norm = partial(batch_norm, train=train, **types)
        x = images.astype(self.dtype)
        stem = ((self.width // 2, 2), (self.width // 2, 1), (self.width, 1))
        for number, (channels, stride) in enumerate(stem, start=1):
            x = conv(channels, 3, stride=stride, **types, kernel_init=uniform_fan_in, name=f"stem{number}")(x)
            x = relu(norm(name=f"stem_norm{number}")(x))
        x = average_pool(x, 2)
        features = {"stem": x}
        for plan in block_plans(self):
            x = features[plan.name] = ClipBlock(plan, **types, name=plan.name)(x, train=train)
        pool = PositionedPool(x.shape[-1] // _HEAD_WIDTH or 1, self.out_size, self.resize_positions, **types)
        features["pre_logits"] = x = pool.copy(name="pool")(x)
        if not self.num_classes:
            return x, features
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros, **types, name="head")(x), features


class ClipBlock(nn.Module):
    """1x1, 3x3, average and 1x1 convolution beside a shortcut of average and 1x1 convolution.

    Attributes:
      plan: width, stride and shape of the shortcut.
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    plan: BlockPlan
    dtype: jnp.dtype
    param_dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch new_height new_width new_channels"]:
        """Returns the new feature maps."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        norm = partial(batch_norm, train=train, **types)
        layer: Any = partial(conv, kernel_init=uniform_fan_in, **types)
        width, stride = self.plan.width, self.plan.stride
        out = width * EXPANSION["bottleneck"]
        y = relu(norm(name="norm1")(layer(width, 1, name="conv1")(x)))
        y = relu(norm(name="norm2")(layer(width, 3, name="conv2")(y)))
        y = average_pool(y, stride) if stride > 1 else y
        y = norm(zero=True, name="norm3")(layer(out, 1, name="conv3")(y))
        if self.plan.projects:
            x = average_pool(x, stride) if stride > 1 else x
            x = norm(name="shortcut_norm")(layer(out, 1, name="shortcut")(x))
        return relu(x + y)


class PositionedPool(nn.Module):
    """Attention of the mean of a map to itself and to every pixel, each with a learned position.

    Attributes:
      num_heads: must divide the channels.
      out_size: of what comes out.
      resize_positions: whether maps of another size are taken.
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    num_heads: int
    out_size: int
    resize_positions: bool
    dtype: jnp.dtype
    param_dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch out"]:
        """Returns one vector for each example."""
        batch, *grid, width = x.shape
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        init = nn.initializers.normal(1 / math.sqrt(width))
        of_mean = self.param("mean_position", init, (1, width), self.param_dtype)
        positions: Any = self.get_variable("params", "position_embedding")
        if positions is None:
            positions = self.param("position_embedding", init, (*grid, width), self.param_dtype)
        if tuple(positions.shape[:2]) != tuple(grid):
            if not self.resize_positions:
                there, here = ("x".join(map(str, each)) for each in (positions.shape[:2], grid))
                raise ValueError(f"positions are for a map of {there}, these images give {here}; set resize_positions")
            positions = resize_positions(positions, (grid[0], grid[1]))
        pixels = x.reshape(batch, -1, width)
        places = jnp.concatenate([of_mean, positions.reshape(-1, width)]).astype(self.dtype)
        tokens = jnp.concatenate([pixels.mean(axis=1, keepdims=True), pixels], axis=1) + places
        parts: dict[str, Any] = {"num_heads": self.num_heads, "use_bias": True, "kernel_init": init, **types}
        (query,) = Projections(1, width, name="query", **parts)(tokens[:, 0])
        key, value = flat(Projections(2, width, name="key_value", **parts), tokens)
        mixed = attend(query[:, None], key, value).reshape(batch, width)
        return nn.Dense(self.out_size, kernel_init=init, name="out", **types)(mixed)


def block_plans(network: ClipResNet) -> list[BlockPlan]:
    """Returns what each block of a network is, in depth order; the first of every stage projects its shortcut."""
    plans: list[BlockPlan] = []
    for stage, size in enumerate(network.stage_sizes):
        for position in range(size):
            stride = 2 if stage and not position else 1
            width = network.width * 2**stage
            plans.append(BlockPlan(f"block{len(plans):02}", stage, position, width, stride, not position))
    return plans


VARIANTS = {"clip_resnet/50": Variant(ClipResNet, {}, (224, 224, 3), 0)}
