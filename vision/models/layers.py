"""Random layers whose draws belong to the example, which Flax does not have."""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

DropMode = Literal["example", "batch_subset"]


class Dropout(nn.Module):
    """Dropout whose mask belongs to the example (Srivastava et al. 2014, section 4; inverted scaling).

    Each example brings its own key, so its mask is the same whichever device holds it and however the batch is
    cut into microbatches. The layer tells itself apart from other layers through the ``dropout`` stream, which
    also separates the layers of a scanned stack.

    Attributes:
      rate: probability that an entry is set to zero, in [0, 1).
      spatial: drop whole channels, the last axis, as neighbours in a feature map are too alike for single entries
        to be missed (Tompson et al. 2015, section 3.2).
    """

    rate: float
    spatial: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "batch ..."], *, keys: Key[Array, " batch"] | None) -> Float[Array, "batch ..."]:
        """Drops entries of ``x``; without ``keys`` (evaluation) or at rate 0 returns ``x``."""
        if keys is None or self.rate == 0.0:
            return x
        layer = jax.random.bits(self.make_rng("dropout"))
        keep = 1.0 - self.rate
        shape = (1,) * (x.ndim - 2) + x.shape[-1:] if self.spatial else x.shape[1:]
        draw = lambda key: jax.random.bernoulli(jax.random.fold_in(key, layer), keep, shape)  # noqa: E731
        return jnp.where(jax.vmap(draw)(keys), x / keep, jnp.zeros_like(x))


class Residual(nn.Module):
    """``x + branch(x)``, with stochastic depth: in training the branch is left out at random.

    Attributes:
      mode: ``example`` leaves it out of each example on its own (Huang et al. 2016, section 3; the branch is divided
        by the probability of staying, as in timm, unless ``rescale`` is off). ``batch_subset`` runs it on a random
        part of the batch only, of ``max(floor(batch (1 - rate)), 1)`` examples, and multiplies by batch / part, which
        saves the computation (Oquab et al. 2023, section 5); which examples these are depends on the whole batch.
      rescale: whether the expectation of the branch is kept.
    """

    mode: DropMode = "example"
    rescale: bool = True

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch ..."],
        branch: Callable[[Float[Array, "part ..."], Key[Array, " part"] | None], Float[Array, "part ..."]],
        *,
        rate: float | Float[Array, ""],
        keys: Key[Array, " batch"] | None,
    ) -> Float[Array, "batch ..."]:
        """Returns the sum; without ``keys`` (evaluation) or at rate 0 nothing is left out.

        Args:
          x: input of the branch.
          branch: a function of examples and their keys, one by one. Make its layers before, so that their parameters
            are the caller's.
          rate: probability of being left out, in [0, 1); a number known at compile time for ``batch_subset``.
          keys: one for each example.
        """
        if keys is None or (isinstance(rate, float) and rate == 0.0):
            return x + branch(x, keys)
        layer = jax.random.bits(self.make_rng("dropout"))
        draws = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, layer)))(keys)
        if self.mode == "batch_subset" and isinstance(rate, float):
            size = max(int(len(x) * (1.0 - rate)), 1)
            chosen = jnp.argsort(draws)[:size]
            return x.at[chosen].add(branch(x[chosen], keys[chosen]) * (len(x) / size if self.rescale else 1.0))
        stays = jnp.expand_dims(draws >= rate, range(1, x.ndim))
        scale = (1.0 / (1.0 - rate)) if self.rescale else 1.0
        return x + jnp.where(stays, branch(x, keys) * jnp.asarray(scale, x.dtype), jnp.zeros_like(x))


def drop_rates(rate: float, depth: int, *, uniform: bool = False) -> tuple[float, ...]:
    """Returns the rate of each block: linear from 0 to ``rate`` (Huang et al. 2016, equation 4, from 0), or the same.

    Args:
      rate: of the last block, in [0, 1).
      depth: number of blocks.
      uniform: the same for all, as in DINOv2.
    """
    return (rate,) * depth if uniform else tuple(rate * index / max(depth - 1, 1) for index in range(depth))
