"""What every model is: pure functions from variables and images to an output and named intermediates."""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vision.models.precision import Precision

Features = dict[str, Array]
Variables = dict[str, Any]


@dataclass(frozen=True)
class Model:
    """A Linen module under a precision policy; the only thing that objectives know of a model.

    Attributes:
      module: maps ``(images, train, keys)`` to ``(output, features)``.
      precision: types of parameters, computation and output.
    """

    module: nn.Module
    precision: Precision

    def init(self, key: Key[Array, ""], images: jax.ShapeDtypeStruct) -> tuple[Variables, Variables]:
        """Returns fresh ``(params, collections)`` for images of shape ``[batch, height, width, channels]``."""
        variables = dict(self.module.init(key, jnp.zeros((1, *images.shape[1:]), jnp.float32), train=False))
        return variables.pop("params"), variables

    def apply(
        self,
        params: Variables,
        collections: Variables,
        images: Float[Array, "batch height width channels"],
        *,
        keys: Key[Array, " batch"] | None,
        train: bool,
    ) -> tuple[Array, Features, Variables]:
        """Runs the model and returns ``(output, features, collections)``.

        Args:
          params: what the optimizer trains.
          collections: what it does not, such as ``batch_stats``.
          images: normalised images.
          keys: one key per example for dropout and its relatives; None draws nothing.
          train: whether batch statistics are taken from this batch and collections updated.
        """
        variables: Any = {"params": params, **collections}
        streams = {"dropout": jax.random.key(0)}  # tells layers apart; what is random comes from the examples' keys
        mutable = list(collections) if train else []
        result: Any = self.module.apply(variables, images, train=train, keys=keys, rngs=streams, mutable=mutable)
        (output, features), updated = result
        return output.astype(self.precision.output), features, {**collections, **updated}
