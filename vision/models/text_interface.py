"""What a text model is: pure functions from parameters and tokens to an embedding and named intermediates."""

from dataclasses import dataclass
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from vision.models.frozen import holding
from vision.models.interface import Features, Variables
from vision.models.precision import Precision


@dataclass(frozen=True)
class TextModel:
    """A Linen module over tokens under a precision policy.

    The largest id, ``vocab_size - 1``, ends a text; what stands after the first one is padding.

    Attributes:
      module: maps ``(tokens, train, keys)`` to ``(output, features)``.
      precision: types of parameters, computation and output.
      length: places of a text.
      vocab_size: number of ids.
      frozen: paths of parameters that are not trained; a part of which all are runs as in evaluation.
    """

    module: nn.Module
    precision: Precision
    length: int
    vocab_size: int
    frozen: frozenset[str] = frozenset()

    image_shape: ClassVar[None] = None
    has_convolutions: ClassVar[bool] = False
    needs_whole_batch: ClassVar[bool] = False

    @property
    def end(self) -> int:
        """The id that ends a text."""
        return self.vocab_size - 1

    @property
    def causal(self) -> bool:
        """Whether a token sees only those up to itself."""
        return getattr(self.module, "causal", False)

    def check(self, length: int) -> None:
        """Raises ValueError where texts of so many places are not what the model takes.

        Fewer than its own are taken where a text that fits comes out the same: the positions are those of the first.
        """
        if length != self.length and not (getattr(self.module, "any_length", False) and 0 < length < self.length):
            raise ValueError(f"the text model is built for {self.length} tokens, these texts have {length}")

    def init(self, key: Key[Array, ""]) -> Variables:
        """Returns fresh parameters."""
        tokens = jnp.zeros((1, self.length), jnp.int32)
        variables: Any = self.module.init(key, tokens, train=False)
        return dict(variables)["params"]

    def apply(
        self,
        params: Variables,
        tokens: Int[Array, "batch length"],
        *,
        keys: Key[Array, " batch"] | None,
        train: bool,
    ) -> tuple[Float[Array, "batch outputs"], Features]:
        """Runs the model and returns ``(output, features)``.

        Args:
          params: of the module.
          tokens: ids; those that are none of the vocabulary are not looked for here.
          keys: one per example for dropout; None draws nothing.
          train: whether anything is dropped.

        Raises:
          ValueError: texts of another length than the model takes.
        """
        self.check(tokens.shape[1])
        streams = {"dropout": jax.random.key(0)}  # tells layers apart; what is random comes from the examples' keys
        with holding(self.frozen, params, train=train):
            result: Any = self.module.apply({"params": params}, tokens, train=train, keys=keys, rngs=streams)
        output, features = result
        return output.astype(self.precision.output), features

    def logits(
        self, params: Variables, hidden: Float[Array, "*batch width"]
    ) -> Float[Array, "*batch {self.vocab_size}"]:
        """Returns how well each token of the vocabulary fits: the products with the embeddings, in float32.

        The table of embeddings is that of the input (Press and Wolf 2017).

        Args:
          params: of the module.
          hidden: normalised last tokens, the feature ``tokens``.
        """
        table = jnp.asarray(params["token_embedding"], jnp.float32)
        return jnp.matmul(hidden.astype(jnp.float32), table.T, precision="highest")
