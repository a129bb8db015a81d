"""Test-time augmentation: the mean output over several views of each image."""

import functools
from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from vision.objectives.base import Objective

Views = Literal["none", "mirror", "mirror_and_shift"]
Images = Float[Array, "batch height width channels"]


def with_views(objective: Objective, views: Views) -> Objective:
    """Returns the objective with an ``encode`` whose ``output`` is the weighted mean over views of each image.

    ``mirror`` is the image and its mirror image, left to right. ``mirror_and_shift`` is these two, and these two of the
    image moved by one pixel down to the right and up to the left, what comes in from outside mirrored at the border:
    one half is the first pair's, a quarter each of the others' (Jordan 2024, arXiv:2404.00498, section 3.6).
    """
    weighted = _VIEWS[views]
    if not weighted:
        return objective

    def encode(params, extra, batch):
        seen = [objective.encode(params, extra, {**batch, "image": view(batch["image"])}) for _, view in weighted]
        outputs = [weight * each["output"] for (weight, _), each in zip(weighted, seen, strict=True)]
        return {**seen[0], "output": functools.reduce(jnp.add, outputs)}

    return objective._replace(encode=encode)


def _mirror(images: Images) -> Images:
    return images[:, :, ::-1]


def _moved(pixels: int) -> Callable[[Images], Images]:
    def move(images: Images) -> Images:
        height, width = images.shape[1:3]
        padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
        return padded[:, 1 - pixels : 1 - pixels + height, 1 - pixels : 1 - pixels + width]

    return move


def _plain(images: Images) -> Images:
    return images


def _mirrored(move: Callable[[Images], Images]) -> Callable[[Images], Images]:
    return lambda images: _mirror(move(images))


def _pairs(*shares: tuple[float, Callable[[Images], Images]]) -> tuple[tuple[float, Callable[[Images], Images]], ...]:
    return tuple((share / 2, view) for share, move in shares for view in (move, _mirrored(move)))


_VIEWS = {
    "none": (),
    "mirror": _pairs((1.0, _plain)),
    "mirror_and_shift": _pairs((0.5, _plain), (0.25, _moved(1)), (0.25, _moved(-1))),
}
