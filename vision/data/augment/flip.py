"""Mirror images: at random, or taking turns from visit to visit."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from vision.data.augment.base import (
    Augmentation,
    Draw,
    Image,
    OverVisits,
    Registry,
    check_probability,
    with_probability,
)


def random_flip(*, probability: float = 0.5) -> Augmentation:
    """Mirrors the image left to right with the given probability.

    Raises:
      ValueError: ``probability`` is not in [0, 1].
    """
    check_probability(probability)

    def apply(key: Key[Array, ""], image: Image) -> Image:
        return with_probability(probability, key, image[:, ::-1], image)

    return apply


def alternating_flip() -> OverVisits:
    """Mirrors half of the images at their first visit, and each image at every second visit from then on.

    Two visits in a row so show both mirror images, where independent flips repeat one half of the time
    (Jordan 2024, arXiv:2404.00498, section 3.6).
    """

    def apply(draw: Draw, image: Image) -> Image:
        first = jax.random.bernoulli(draw.first_key)
        return jnp.where(first ^ (draw.visit % 2 == 1), image[:, ::-1], image)

    return OverVisits(apply)


AUGMENTATIONS: Registry = {"random_flip": random_flip, "alternating_flip": alternating_flip}
