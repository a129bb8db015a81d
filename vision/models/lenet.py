"""LeNet as it is built today."""

from typing import Any, Literal

import einops
import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vision.models.activations import relu
from vision.models.convolution import conv, framed, output_size
from vision.models.interface import Features, ImageShape, Variant
from vision.models.lenet_1998 import LeNet1998
from vision.models.pooling import average_pool, max_pool

_KERNEL = 5
_ACTIVATIONS = {"relu": relu, "tanh": nn.tanh, "sigmoid": nn.sigmoid}
_POOLINGS = {"max": max_pool, "average": average_pool}


class LeNet(nn.Module):
    """Convolutions of 5x5, each with pooling of 2x2, then dense layers (LeCun et al. 1998, section II-B).

    Unlike the network of 1998 (:class:`LeNet1998`) it has ReLU for tanh, pooling without parameters, every map of C3
    connected to every map of S2, and a linear output. Starts from He's normal draws over the inputs.

    Attributes:
      num_classes: size of the output; 0 for no head.
      conv_widths: channels of each convolution.
      hidden_sizes: units of each dense layer but the head.
      field: images with shorter sides are put in the middle of a black (zero) square of this side, as the paper puts
        digits of 28x28 in a field of 32x32; 0 takes them as they are.
      activation: ``relu``, ``tanh`` or ``sigmoid``.
      activate_convolutions: whether the activation follows convolutions too, or dense layers only.
      pooling: ``max`` or ``average``.
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    num_classes: int
    conv_widths: tuple[int, ...] = (6, 16)
    hidden_sizes: tuple[int, ...] = (120, 84)
    field: int = 32
    activation: Literal["relu", "tanh", "sigmoid"] = "relu"
    activate_convolutions: bool = True
    pooling: Literal["max", "average"] = "max"
    dtype: jnp.dtype = jnp.dtype("float32")
    param_dtype: jnp.dtype = jnp.dtype("float32")

    has_convolutions = True

    def __post_init__(self):
        for name in ("conv_widths", "hidden_sizes"):
            sizes = getattr(self, name)
            if not sizes or min(sizes) < 1:
                raise ValueError(f"{name} must be positive whole numbers, got {sizes}")
        if self.field < 0:
            raise ValueError(f"field must be a number of pixels, or 0 for none, got {self.field}")
        super().__post_init__()

    def check(self, image_shape: ImageShape) -> None:
        """Raises ValueError where nothing would be left of an image."""
        height, width, _ = image_shape
        if min(self.map_size(height), self.map_size(width)) < 1:
            least = next(size for size in range(1, 10**6) if self.map_size(size) > 0)
            raise ValueError(f"images must be at least {least}x{least} pixels, these are {height}x{width}")

    def map_size(self, size: int) -> int:
        """Returns what the convolutions and poolings make of a side of ``size`` pixels."""
        size = max(size, self.field)
        for _ in self.conv_widths:
            size = output_size(size, kernel=_KERNEL) // 2
        return size

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
        he_normal = nn.initializers.he_normal()
        plain: dict[str, Any] = {"padding": 0, "bias": True, "kernel_init": he_normal}
        activation = _ACTIVATIONS[self.activation]
        features: Features = {}
        x = framed(images, self.field).astype(self.dtype)
        for index, channels in enumerate(self.conv_widths):
            x = conv(channels, _KERNEL, **plain, **types, name=f"conv_{index}")(x)
            x = activation(x) if self.activate_convolutions else x
            x = _POOLINGS[self.pooling](x, 2)
            features[f"block{len(features):02}"] = x
        x = einops.rearrange(x, "b h w c -> b (h w c)")
        for index, size in enumerate(self.hidden_sizes):
            x = activation(nn.Dense(size, kernel_init=he_normal, **types, name=f"hidden_{index}")(x))
            features[f"block{len(features):02}"] = x
        features["pre_logits"] = x
        return (nn.Dense(self.num_classes, **types, name="head")(x) if self.num_classes else x), features


_CAFFE = {
    "conv_widths": (20, 50),
    "hidden_sizes": (500,),
    "field": 0,
    "activate_convolutions": False,  # examples/mnist/lenet_train_test.prototxt has one ReLU, behind ip1
}
VARIANTS = {
    "lenet/5": Variant(LeNet, {}, (28, 28, 1), 10),
    "lenet/5_1998": Variant(LeNet1998, {}, (28, 28, 1), 10),
    "lenet/caffe": Variant(LeNet, _CAFFE, (28, 28, 1), 10),
}
