"""What every model is: pure functions from variables and images to an output and named intermediates."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vision.models.frozen import holding
from vision.models.precision import Precision

Features = dict[str, Array]
Variables = dict[str, Any]
ImageShape = tuple[int, int, int]


class Variant(NamedTuple):
    """A published network.

    Attributes:
      module: class of its family.
      options: attributes of the class that make it this variant.
      image_shape: ``(height, width, channels)`` that its parameter count is published for.
      num_classes: likewise; 0 for a network without a head, whose output is its last feature.
    """

    module: Callable[..., nn.Module]
    options: Mapping[str, Any]
    image_shape: ImageShape = (224, 224, 3)
    num_classes: int = 1000


@dataclass(frozen=True)
class Model:
    """A Linen module under a precision policy; the only thing that objectives know of a model.

    A module is called as ``module(images, train=..., keys=...)`` and returns ``(output, features)``; features have
    an entry for each block, ``block00`` onwards, and ``pre_logits``, what the head sees. Beside that it may define

    - ``check(image_shape)``, which raises ValueError for images that the architecture cannot take;
    - ``any_size = True`` where the same parameters take images of any size that passes the check;
    - ``has_convolutions = True``;
    - ``from_images(images)``, which makes parameters, nested, from normalised training images at the start;
    - ``needs_whole_batch = True`` where an example's output in training depends on its neighbours beyond BatchNorm.

    Attributes:
      module: maps ``(images, train, keys)`` to ``(output, features)``.
      precision: types of parameters, computation and output.
      image_shape: ``(height, width, channels)`` of the images it is built for; None where they are not known yet.
      frozen: paths of parameters that are not trained; a part of which all are runs as in evaluation.
    """

    module: nn.Module
    precision: Precision
    image_shape: ImageShape | None = None
    frozen: frozenset[str] = frozenset()

    @property
    def has_convolutions(self) -> bool:
        """Whether the model convolves, which a CPU does slowly inside a loop body."""
        return getattr(self.module, "has_convolutions", False)

    @property
    def needs_whole_batch(self) -> bool:
        """Whether training in microbatches would be another training."""
        return getattr(self.module, "needs_whole_batch", False)

    def check(self, image_shape: ImageShape) -> None:
        """Raises ValueError where images of this shape are not what the model takes."""
        fixed = self.image_shape is not None and not getattr(self.module, "any_size", False)
        if self.image_shape is not None and (
            (fixed and image_shape != self.image_shape) or image_shape[2] != self.image_shape[2]
        ):
            there, here = ("x".join(map(str, shape)) for shape in (self.image_shape, image_shape))
            raise ValueError(f"the model is built for images of {there}, these are {here}")
        if hasattr(self.module, "check"):
            self.module.check(image_shape)

    def init(self, key: Key[Array, ""], images: jax.ShapeDtypeStruct) -> tuple[Variables, Variables]:
        """Returns fresh ``(params, collections)`` for images of shape ``[batch, height, width, channels]``."""
        shape = images.shape
        self.check((shape[1], shape[2], shape[3]))
        variables = dict(self.module.init(key, jnp.zeros((1, *shape[1:]), jnp.float32), train=False))
        return variables.pop("params", {}), variables

    def apply(
        self,
        params: Variables,
        collections: Variables,
        images: Float[Array, "batch height width channels"],
        *,
        keys: Key[Array, " batch"] | None,
        train: bool,
        **inputs: Any,
    ) -> tuple[Array, Features, Variables]:
        """Runs the model and returns ``(output, features, collections)``.

        Args:
          params: what the optimizer trains.
          collections: what it does not, such as ``batch_stats``.
          images: normalised images.
          keys: one key per example for dropout and its relatives; None draws nothing.
          train: whether batch statistics are taken from this batch and collections updated.
          **inputs: what else the module takes, such as masks of patches.
        """
        self.check((images.shape[1], images.shape[2], images.shape[3]))
        variables: Any = {"params": params, **collections}
        streams = {"dropout": jax.random.key(0)}  # tells layers apart; what is random comes from the examples' keys
        mutable = list(collections) if train else []
        with holding(self.frozen, params, train=train):
            result: Any = self.module.apply(
                variables, images, train=train, keys=keys, rngs=streams, mutable=mutable, **inputs
            )
        (output, features), updated = result
        return output.astype(self.precision.output), features, {**collections, **updated}
