"""Saliency of a class: how much each pixel of an image would change its score."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

Images = Float[Array, "batch height width channels"]


def score_gradient(
    scores: Callable[[Array], Array], images: Images, classes: Int[Array, " batch"]
) -> Float[Array, "batch height width channels"]:
    """Returns the gradient of a class's score by the pixels, for each image (Simonyan et al. 2014, section 3, w of 4).

    Args:
      scores: images to the scores before any softmax, ``[batch, classes]``; each example by itself.
      images: where.
      classes: whose score, one for each image.
    """

    def total(pixels: Array) -> Array:
        return jnp.sum(jnp.take_along_axis(scores(pixels), classes[:, None], axis=-1))

    return jax.grad(total)(images)


def smooth_gradient(
    gradient: Callable[[Array], Array],
    images: Images,
    *,
    key: Key[Array, ""],
    samples: int,
    noise: float = 0.15,
) -> Float[Array, "batch height width channels"]:
    """Returns SmoothGrad: the mean gradient at noisy copies of the images (Smilkov et al. 2017, section 2.2).

    Args:
      gradient: of images.
      images: where.
      key: of the noise.
      samples: copies of each image.
      noise: standard deviation of the normal noise as a share of each image's range (section 3.2 has 0.1 to 0.2).
    """
    ranges = jnp.max(images, axis=(1, 2, 3), keepdims=True) - jnp.min(images, axis=(1, 2, 3), keepdims=True)
    total = jnp.zeros_like(images)
    for number in range(samples):
        draw = jax.random.normal(jax.random.fold_in(key, number), images.shape)
        total = total + gradient(images + noise * ranges * draw)
    return total / samples


def saliency_map(
    gradients: Float[Array, "batch height width channels"],
) -> Float[Array, "batch height width"]:
    """Returns the largest size of the gradient over the channels (Simonyan et al. 2014, section 3.1)."""
    return jnp.max(jnp.abs(gradients), axis=-1)
