"""AlexNet, in two towers as published and in one."""

from typing import Any, NamedTuple

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vision.models.activations import relu
from vision.models.convolution import conv, output_size, uniform_fan_in
from vision.models.interface import Features, ImageShape, Variant
from vision.models.layers import Dropout
from vision.models.normalization import local_response_norm
from vision.models.pooling import adaptive_average_pool, max_pool

GRID = 6
_KERNELS = (11, 5, 3, 3, 3)
_POOLED = (True, True, False, False, True)


class _Plan(NamedTuple):
    """One of the two published networks: what differs, layer by layer."""

    widths: tuple[int, ...]
    groups: tuple[int, ...]
    padding: int
    normalised: tuple[bool, ...]


_SINGLE = _Plan((64, 192, 384, 256, 256), (1, 1, 1, 1, 1), 2, (False,) * 5)
_TOWERS = _Plan((96, 256, 384, 384, 256), (1, 2, 1, 2, 2), 0, (True, True, False, False, False))


class AlexNet(nn.Module):
    """Five convolutions and two hidden dense layers.

    ``two_towers`` is the network of Krizhevsky et al. 2012, section 3: the second, fourth and fifth convolution are
    cut in two halves that do not see each other, as they lay on two GPUs; local response normalisation, here over all
    channels, follows the first two. It takes 227x227 pixels without padding: the paper says 224, but only 227 gives
    its 55x55 maps, ``(227 - 11) / 4 + 1``, and this is the size of the weights in circulation (Caffe's).

    Otherwise it is the single tower of Krizhevsky 2014 in torchvision's form: fewer channels, no normalisation, 224x224
    pixels with a padding of 2, which gives the same 55x55 maps.

    Pooling windows of 3x3 overlap (2012, section 3.4). The last maps are averaged to 6x6, which changes nothing at the
    published size and lets images of other sizes in. Two towers start as in section 5 of the paper (standard deviation
    0.01; biases of one behind the second, fourth and fifth convolution and in hidden dense layers), the single one as
    in torchvision's code, uniform within 1 / sqrt(inputs).

    Attributes:
      num_classes: size of the output; 0 for no head.
      two_towers: the network of 2012.
      hidden_sizes: units of the dense layers but the head.
      dropout: rate before each hidden dense layer, with two towers after it (2012, section 4.2).
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    num_classes: int
    two_towers: bool = False
    hidden_sizes: tuple[int, ...] = (4096, 4096)
    dropout: float = 0.5
    dtype: jnp.dtype = jnp.dtype("float32")
    param_dtype: jnp.dtype = jnp.dtype("float32")

    has_convolutions = True
    any_size = True

    def __post_init__(self):
        if not self.hidden_sizes or min(self.hidden_sizes) < 1:
            raise ValueError(f"hidden_sizes must be positive whole numbers, got {self.hidden_sizes}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        super().__post_init__()

    def check(self, image_shape: ImageShape) -> None:
        """Raises ValueError where nothing would be left of an image."""
        plan = _TOWERS if self.two_towers else _SINGLE

        def last(size: int) -> int:
            for index, kernel in enumerate(_KERNELS):
                stride, padding = (4, plan.padding) if index == 0 else (1, kernel // 2)
                size = output_size(size, kernel=kernel, stride=stride, padding=padding)
                size = output_size(size, kernel=3, stride=2) if _POOLED[index] else size
            return size

        least = next(size for size in range(1, 1000) if last(size) > 0)
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
        """Returns the logits; features are the five maps and the dense layers, the last also as ``pre_logits``."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        plan = _TOWERS if self.two_towers else _SINGLE
        init: jax.nn.initializers.Initializer = nn.initializers.normal(0.01) if self.two_towers else uniform_fan_in
        ones = nn.initializers.ones if self.two_towers else nn.initializers.zeros
        keys = keys if train else None
        features: Features = {}
        x = images.astype(self.dtype)
        for index, (kernel, width, groups) in enumerate(zip(_KERNELS, plan.widths, plan.groups, strict=True)):
            layer = conv(
                width,
                kernel,
                stride=1 if index else 4,
                padding=kernel // 2 if index else plan.padding,
                groups=groups,
                bias=True,
                kernel_init=init,
                bias_init=ones if index in (1, 3, 4) else nn.initializers.zeros,
                **types,
                name=f"conv_{index}",
            )
            x = relu(layer(x))
            x = local_response_norm(x) if plan.normalised[index] else x
            x = max_pool(x, 3, stride=2) if _POOLED[index] else x
            features[f"block{index:02}"] = x
        x = einops.rearrange(adaptive_average_pool(x, GRID), "b h w c -> b (h w c)")
        for index, size in enumerate(self.hidden_sizes):
            x = x if self.two_towers else Dropout(self.dropout)(x, keys=keys)
            x = relu(nn.Dense(size, kernel_init=init, bias_init=ones, **types, name=f"hidden_{index}")(x))
            features[f"block{len(features):02}"] = x
            x = Dropout(self.dropout)(x, keys=keys) if self.two_towers else x
        features["pre_logits"] = x
        if not self.num_classes:
            return x, features
        return nn.Dense(self.num_classes, kernel_init=init, **types, name="head")(x), features


VARIANTS = {
    "alexnet/2012": Variant(AlexNet, {"two_towers": True}, (227, 227, 3)),
    "alexnet/2014": Variant(AlexNet, {}),
}
