"""The block of residual networks."""

from functools import partial
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vision.models.activations import relu
from vision.models.convolution import conv
from vision.models.layers import Dropout, Residual
from vision.models.normalization import NormOrder, batch_norm, normalized

Kind = Literal["basic", "bottleneck"]
Shortcut = Literal["projection", "pad", "none"]
EXPANSION = {"basic": 1, "bottleneck": 4}


class BlockPlan(NamedTuple):
    """What a block of a network is.

    Attributes:
      name: such as ``block00``, also of its feature.
      stage: number of its stage.
      position: its number within the stage.
      width: channels of its 3x3 convolutions before ``width_factor``.
      stride: of its first 3x3 convolution.
      projects: whether its shortcut has a convolution, because the shape changes.
    """

    name: str
    stage: int
    position: int
    width: int
    stride: int
    projects: bool


class Block(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3 and 1x1, beside a shortcut (He et al. 2016, figure 5).

    The stride is in the 3x3 convolution of a bottleneck, not in the 1x1 before it as in the paper: "v1.5", which all
    weights in circulation have (Goyal et al. 2017, section 5.1).

    Attributes:
      plan: width, stride and shape of the shortcut.
      kind: ``basic`` or ``bottleneck``.
      shortcut: projection, padded identity or none.
      width_factor: by which inner maps are wider than the plan says.
      norm_order: batch normalisation before or after the activation.
      zero_init: start the last normalisation's scale from zero.
      dropout: rate before the last convolution.
      spatial_dropout: drop whole maps there.
      drop_rate: probability that the branch is left out.
      dtype: type of the computation.
      param_dtype: type of the parameters.
    """

    plan: BlockPlan
    kind: Kind
    shortcut: Shortcut
    width_factor: int
    norm_order: NormOrder
    zero_init: bool
    dropout: float
    spatial_dropout: bool
    drop_rate: float
    dtype: jnp.dtype
    param_dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool, keys: Key[Array, " batch"] | None
    ) -> Float[Array, "batch new_height new_width new_channels"]:
        """Returns the new feature maps; ``keys`` are for dropout and stochastic depth."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        norm = partial(batch_norm, train=train, **types)
        out = self.plan.width * EXPANSION[self.kind]
        inner = self.plan.width * self.width_factor
        stride = self.plan.stride
        layers = [(inner, 3, stride), (out, 3, 1)]
        if self.kind == "bottleneck":
            layers = [(inner, 1, 1), (inner, 3, stride), (out, 1, 1)]
        y = x
        for number, (features, kernel, step) in enumerate(layers, start=1):
            last = number == len(layers)
            if last:
                y = Dropout(self.dropout, self.spatial_dropout)(y, keys=keys)
            y = conv(features, kernel, stride=step, **types, name=f"conv{number}")(y)
            after = norm(zero=last and self.zero_init, name=f"norm{number}")
            silent = last and self.shortcut != "none"  # the activation comes behind the sum
            y = after(y) if silent else normalized(y, after, self.norm_order)
        if self.shortcut == "none":
            return y
        if self.plan.projects:
            x = norm(name="shortcut_norm")(conv(out, 1, stride=stride, **types, name="shortcut")(x))
        elif x.shape[-1] != out:
            more = out - x.shape[-1]
            x = jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (more // 2, more - more // 2)))
        return relu(Residual()(x, lambda *_: y, rate=self.drop_rate, keys=keys))
