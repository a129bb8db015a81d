"""The small network of the fastest trainings on CIFAR-10."""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from vision.models.activations import gelu
from vision.models.convolution import conv, uniform_fan_in
from vision.models.interface import Features, ImageShape, Variables, Variant
from vision.models.normalization import batch_norm
from vision.models.pooling import max_pool
from vision.models.whitening import whitening_filters

_WHITENING_EPS = 5e-4


def _identity_first(key: Key[Array, ""], shape: Sequence[Any], dtype: Any = None, out_sharding: Any = None) -> Array:
    """As many filters as there are inputs pass one of them on; the others are drawn (Jordan 2024, section 3.2)."""
    height, width, inputs, outputs = shape
    count = min(inputs, outputs)
    identity = np.zeros((height, width, inputs, count), np.float32)
    identity[height // 2, width // 2, range(count), range(count)] = 1.0
    drawn = uniform_fan_in(key, shape, dtype)
    return jnp.concatenate([jnp.asarray(identity, dtype), drawn[..., count:]], axis=-1)


def _within_inputs(count: int) -> jax.nn.initializers.Initializer:
    """Uniform within ``1 / sqrt(count)``: PyTorch's bias of a layer with so many inputs."""

    def init(key: Key[Array, ""], shape: Sequence[Any], dtype: Any = None, out_sharding: Any = None) -> Array:
        return jax.random.uniform(key, shape, dtype, -(count**-0.5), count**-0.5)

    return init


def _unit_deviation(key: Key[Array, ""], shape: Sequence[Any], dtype: Any = None, out_sharding: Any = None) -> Array:
    drawn = uniform_fan_in(key, shape, dtype)
    return drawn / jnp.std(drawn, ddof=1)


class AirbenchGroup(nn.Module):
    """Convolutions of 3x3 with normalisation and GELU, the first of them pooled.

    Attributes:
      width: channels.
      depth: number of convolutions.
      residual: add what follows the first of them to what comes out of it.
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    width: int
    depth: int
    residual: bool
    dtype: jnp.dtype
    param_dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch new_height new_width new_channels"]:
        """Returns maps of half the size."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        kept = x
        for number in range(1, self.depth + 1):
            x = conv(self.width, 3, kernel_init=_identity_first, **types, name=f"conv{number}")(x)
            if number == 1:
                x = max_pool(x, 2)
            norm = batch_norm(train=train, momentum=0.6, epsilon=1e-12, scale=False, **types, name=f"norm{number}")
            x = norm(x)
            if self.residual and number == self.depth and number > 1:
                x = x + kept
            x = gelu(x)
            if number == 1:
                kept = x
        return x


class Airbench(nn.Module):
    """Whitened patches, groups of convolutions that begin as the identity, one matrix (Jordan 2024).

    Source: arXiv:2404.00498, sections 3.1 to 3.3, and the code released with it and with Muon. The whitening filters
    are made from training images where training starts, see :meth:`from_images`; freeze them
    (``config.freeze.patterns=("^whiten/kernel",)``). Normalisations have no scale, an epsilon of 1e-12 and running
    statistics that move by 0.4 of the difference at each step. The last pooling takes the largest value of each map,
    which for images of 32x32 is the published one of 3x3.

    Attributes:
      num_classes: size of the output; 0 for no head.
      widths: channels of each group.
      depth: convolutions of each group.
      residual: whether the convolutions after a group's first have a shortcut.
      whitening_size: side of the whitened patches, in pixels.
      logit_scale: of the logits; None for one over the width of the features, with a head that starts from a
        deviation of 1 (as with Muon).
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    num_classes: int
    widths: tuple[int, ...] = (64, 256, 256)
    depth: int = 2
    residual: bool = False
    whitening_size: int = 2
    logit_scale: float | None = None
    dtype: jnp.dtype = jnp.dtype("float32")
    param_dtype: jnp.dtype = jnp.dtype("float32")

    has_convolutions = True
    any_size = True

    def __post_init__(self):
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths must be positive whole numbers, got {self.widths}")
        if self.depth < 1 or self.whitening_size < 1:
            raise ValueError(f"depth and whitening_size must be positive, got {self.depth} and {self.whitening_size}")
        if self.logit_scale is not None and not 0.0 < self.logit_scale < math.inf:
            raise ValueError(f"logit_scale must be a positive number, got {self.logit_scale}")
        super().__post_init__()

    def check(self, image_shape: ImageShape) -> None:
        """Raises ValueError where the poolings leave nothing of an image."""
        least = 2 ** len(self.widths) + self.whitening_size - 1
        if min(image_shape[:2]) < least:
            here = "x".join(map(str, image_shape[:2]))
            raise ValueError(f"images must be at least {least}x{least} pixels, these are {here}")

    def from_images(self, images: Float[np.ndarray, "count height width channels"]) -> Variables:
        """Returns the parameters that are made from normalised training images, nested."""
        return {"whiten": {"kernel": whitening_filters(images, self.whitening_size, eps=_WHITENING_EPS)}}

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool = False,
        keys: Key[Array, " batch"] | None = None,
    ) -> tuple[Float[Array, "batch outputs"], Features]:
        """Returns the logits; features are the groups' maps and, pooled, ``pre_logits``."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        features: Features = {}
        filters = 2 * images.shape[-1] * self.whitening_size**2
        whiten = conv(
            *(filters, self.whitening_size),
            padding=0,
            bias=True,
            kernel_init=uniform_fan_in,
            bias_init=_within_inputs(filters // 2),
            **types,
            name="whiten",
        )
        x = gelu(whiten(images.astype(self.dtype)))
        for index, width in enumerate(self.widths):
            x = AirbenchGroup(width, self.depth, self.residual, **types, name=f"group{index}")(x, train=train)
            features[f"block{index:02}"] = x
        x = jnp.max(x, axis=(1, 2))
        features["pre_logits"] = x
        if not self.num_classes:
            return x, features
        init = _unit_deviation if self.logit_scale is None else uniform_fan_in
        head = nn.Dense(self.num_classes, use_bias=False, kernel_init=init, **types, name="head")
        return head(x) * (1 / x.shape[-1] if self.logit_scale is None else self.logit_scale), features


_IMAGES: tuple[Any, ...] = ((32, 32, 3), 10)
VARIANTS = {
    "airbench/94": Variant(Airbench, {}, *_IMAGES),
    "airbench/95": Variant(Airbench, {"widths": (128, 384, 384), "logit_scale": 1 / 9}, *_IMAGES),
    "airbench/96": Variant(
        Airbench, {"widths": (128, 384, 512), "depth": 3, "residual": True, "logit_scale": 1 / 9}, *_IMAGES
    ),
}
