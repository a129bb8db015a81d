"""Layers that Flax does not have in the form needed here."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


class Dropout(nn.Module):
    """Dropout whose mask belongs to the example (Srivastava et al. 2014, section 4; inverted scaling).

    Each example brings its own key, so its mask is the same whichever device holds it and however the batch is
    cut into microbatches. The layer tells itself apart from other layers through the ``dropout`` stream, which
    also separates the layers of a scanned stack.

    Attributes:
      rate: probability that an entry is set to zero, in [0, 1).
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "batch ..."], *, keys: Key[Array, " batch"] | None) -> Float[Array, "batch ..."]:
        """Drops entries of ``x``; without ``keys`` (evaluation) or at rate 0 returns ``x``."""
        if keys is None or self.rate == 0.0:
            return x
        layer = jax.random.bits(self.make_rng("dropout"))
        keep = 1.0 - self.rate
        draw = lambda key: jax.random.bernoulli(jax.random.fold_in(key, layer), keep, x.shape[1:])  # noqa: E731
        return jnp.where(jax.vmap(draw)(keys), x / keep, jnp.zeros_like(x))
