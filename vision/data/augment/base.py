"""What an augmentation is: a pure function ``(key, image) -> image`` on one image, batched by vmap."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key, Num

Image = Num[Array, "height width channels"]
Augmentation = Callable[[Key[Array, ""], Image], Image]


class Draw(NamedTuple):
    """What an augmentation of one example may draw from.

    Attributes:
      key: of this visit to the example; no two visits share one.
      first_key: of the first visit, for what must be remembered from visit to visit.
      visit: how often the example was drawn before: its epoch, where every example comes once an epoch.
    """

    key: Key[Array, ""]
    first_key: Key[Array, ""]
    visit: Int[Array, ""]

    def fold_in(self, data: int) -> "Draw":
        """Returns the draw of one step of a chain, independent of those of the others."""
        return Draw(jax.random.fold_in(self.key, data), jax.random.fold_in(self.first_key, data), self.visit)


class OverVisits(NamedTuple):
    """An augmentation whose visits to one example depend on each other: ``apply(draw, image) -> image``."""

    apply: Callable[[Draw, Image], Image]


Registry = dict[str, Callable[..., Augmentation | OverVisits]]


def check_probability(probability: float, name: str = "probability") -> None:
    """Raises a ValueError for a number outside [0, 1]."""
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"{name} must be in [0, 1], got {probability}")


def with_probability(probability: float, key: Key[Array, ""], changed: Image, image: Image) -> Image:
    """Returns ``changed`` with the given probability, else ``image``."""
    happens: Bool[Array, ""] = jax.random.bernoulli(key, probability)
    return jnp.where(happens, changed, image)
