"""Another light, another lens, a noisy sensor: levels change, places do not."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt8

from vision.data.augment.blur import blur as gaussian
from vision.data.augment.color import adjust_contrast
from vision.data.corrupt.draws import below
from vision.data.corrupt.severity import SEVERITIES, Strength, at

Image = UInt8[Array, "height width channels"]
_DRAWS = 4096


def brightness(key: Key[Array, ""], image: Image, strength: Strength) -> Image:
    """Adds light everywhere; the levels end at 255."""
    return _added(image, jnp.round(at("brightness", strength) * 255.0).astype(jnp.int32))


def contrast(key: Key[Array, ""], image: Image, strength: Strength) -> Image:
    """Brings every level nearer to the image's mean grey."""
    return adjust_contrast(image, at("contrast", strength))


def shade(key: Key[Array, ""], image: Image, strength: Strength) -> Image:
    """Lets the light fall off evenly from one side of the image to the other, in one of four directions."""
    height, width, _ = image.shape
    across = jnp.broadcast_to(jnp.asarray(_ramp(width)), (height, width))
    down = jnp.broadcast_to(jnp.asarray(_ramp(height))[:, None], (height, width))
    dark = at("shade", strength) * jnp.stack([across, across[:, ::-1], down, down[::-1]])
    lost = image.astype(jnp.float32) * dark[below(key, (4,))[0]][..., None]
    return (image.astype(jnp.int32) - jnp.round(lost).astype(jnp.int32)).astype(jnp.uint8)


def blur(key: Key[Array, ""], image: Image, strength: Strength) -> Image:
    """Blurs with a Gaussian; see :func:`vision.data.augment.blur.blur`."""
    side = min(image.shape[:2])
    radius = math.ceil(4.0 * max(SEVERITIES["blur"].values) * side)
    return gaussian(image, jnp.maximum(at("blur", strength) * side, 1e-3), radius=radius)


def noise(key: Key[Array, ""], image: Image, strength: Strength) -> Image:
    """Adds Gaussian noise to every pixel and channel; the levels end at 0 and 255.

    Drawn as one of 4,096 equally probable quantiles, which a table holds: no device computes them its own way.
    """
    drawn = jnp.asarray(_quantiles())[jax.random.bits(key, image.shape, jnp.uint16) % _DRAWS]
    return _added(image, jnp.round(at("noise", strength) * 255.0 * drawn).astype(jnp.int32))


def _added(image: Image, levels: Int[Array, "*#shape"]) -> Image:
    return jnp.clip(image.astype(jnp.int32) + levels, 0, 255).astype(jnp.uint8)


def _ramp(count: int) -> Float[np.ndarray, " count"]:
    """From 0 at the first pixel to 1 at the last."""
    return np.linspace(0.0, 1.0, count, dtype=np.float32)


@functools.cache
def _quantiles() -> Float[np.ndarray, " draws"]:
    from scipy.special import ndtri  # slow to import, and only these pictures need it

    middles = ndtri((np.arange(_DRAWS) + 0.5) / _DRAWS)
    return (middles / middles.std()).astype(np.float32)  # what the ends lack of the variance
