"""Augmentations: pure functions ``(key, image) -> image`` on one image, batched by vmap."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, Num

from vision.config.calling import call, fill_named

Image = Num[Array, "height width channels"]
Augmentation = Callable[[Key[Array, ""], Image], Image]


def random_shift(*, pixels: int = 1) -> Augmentation:
    """Moves the image by a whole number of pixels, uniform in [-pixels, pixels] in each direction.

    What comes in from outside is zero. For 32-pixel images and ``pixels=4`` this is the pad-and-crop of
    He et al. 2016 (section 4.2).

    Raises:
      ValueError: ``pixels`` is negative.
    """
    if pixels < 0:
        raise ValueError(f"pixels must be >= 0, got {pixels}")

    def apply(key: Key[Array, ""], image: Image) -> Image:
        padded = jnp.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)))
        top, left = jax.random.randint(key, (2,), 0, 2 * pixels + 1)
        return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)

    return apply


def random_flip(*, probability: float = 0.5) -> Augmentation:
    """Mirrors the image left to right with the given probability.

    Raises:
      ValueError: ``probability`` is not in [0, 1].
    """
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"probability must be in [0, 1], got {probability}")

    def apply(key: Key[Array, ""], image: Image) -> Image:
        return jnp.where(jax.random.bernoulli(key, probability), image[:, ::-1], image)

    return apply


AUGMENTATIONS: dict[str, Callable[..., Augmentation]] = {"random_shift": random_shift, "random_flip": random_flip}


def resolve(sections: Sequence[Mapping[str, Any]], path: str) -> tuple[dict[str, Any], ...]:
    """Returns the sections of a list of augmentations, each complete; see :func:`vision.config.calling.fill_named`."""
    return tuple(
        fill_named(AUGMENTATIONS, section, f"{path}[{position}]", kind="augmentation")
        for position, section in enumerate(sections)
    )


def compose(sections: Sequence[Mapping[str, Any]], path: str) -> Augmentation:
    """Returns the augmentations of a config list applied one after another, each with its own key."""
    steps = [
        call(AUGMENTATIONS[section["name"]], section, f"{path}[{position}]")
        for position, section in enumerate(sections)
    ]

    def apply(key: Key[Array, ""], image: Image) -> Image:
        for position, step in enumerate(steps):
            image = step(jax.random.fold_in(key, position), image)
        return image

    return apply
