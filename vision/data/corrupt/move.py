"""Moving, turning and tilting one image; what comes in from outside is black."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from vision.data.augment.affine import Scalar, affine_matrix, warp
from vision.data.corrupt.draws import below
from vision.data.corrupt.severity import SEVERITIES, Strength, at

Image = UInt8[Array, "height width channels"]
_BITS = 12  # of cosines and sines, so that their products with places in the image are exact
_SUBPIXEL = 256


def translation(key: Key[Array, ""], image: Image, strength: Strength) -> Image:
    """Moves the image to the right, left, top or bottom, all alike."""
    height, width, _ = image.shape
    share = at("translation", strength)
    to = jnp.array([[1, 0], [-1, 0], [0, 1], [0, -1]])[below(key, (4,))[0]]
    return translate(image, to[0] * (share * width), to[1] * (share * height))


def translate(image: Image, right: Scalar, down: Scalar) -> Image:
    """Moves an image by pixels; a fraction of one is interpolated bilinearly."""
    row = [1.0, 0.0, -jnp.asarray(right, jnp.float32), 0.0, 1.0, -jnp.asarray(down, jnp.float32)]
    return warp(image, jnp.stack([jnp.asarray(value, jnp.float32) for value in row]), interpolation="bilinear")


def rotation(key: Key[Array, ""], image: Image, strength: Strength) -> Image:
    """Turns the image about its middle, clockwise or the other way."""
    return rotate(image, at("rotation", strength), below(key, (2,))[0] == 0)


def rotate(image: Image, degrees: Scalar, clockwise: bool | Bool[Array, ""]) -> Image:
    """Turns an image about its middle, with bilinear interpolation."""
    height, width, _ = image.shape
    # Both matrices are made before one is chosen: so no cosine depends on how many images are computed at once.
    one, other = (affine_matrix(angle=sign * degrees, height=height, width=width) for sign in (1.0, -1.0))
    return warp(image, jnp.where(clockwise, one, other), interpolation="bilinear")


def viewpoint(key: Key[Array, ""], image: Image, strength: Strength) -> Image:
    """Tilts the plane of the image so that its right, left, upper or lower side goes back."""
    radians = np.deg2rad((0.0, *SEVERITIES["viewpoint"].values))
    cosines, sines = (jnp.asarray(_rounded(values)) for values in (np.cos(radians), np.sin(radians)))
    return _tilted(image, cosines[strength], sines[strength], below(key, (4,))[0])


def tilt(image: Image, degrees: float, side: int | Int[Array, ""]) -> Image:
    """Tilts the plane of an image about its middle, as a camera sees it.

    The camera looks at the middle from as far as the image's longer side is long: 53 degrees from one end of that side
    to the other. A point ``(u, v)`` of the picture shows ``(u f, v f cos t) / (f cos t - u sin t)`` of a plane turned
    by ``t`` about the vertical axis; outside of the image is black. Bilinear, to 1/256 of a pixel.

    Args:
      image: uint8.
      degrees: of the tilt, below 60.
      side: what goes back: 0 the right one, 1 the left one, 2 the lower one, 3 the upper one.
    """
    cosine, sine = (jnp.asarray(_rounded(f(np.deg2rad(degrees)))) for f in (np.cos, np.sin))
    return _tilted(image, cosine, sine, jnp.asarray(side))


def _rounded(values: np.ndarray | np.floating) -> np.ndarray:
    return np.asarray(np.round(np.asarray(values) * 2**_BITS) / 2**_BITS, np.float32)


def _tilted(image: Image, cosine: Float[Array, ""], sine: Float[Array, ""], side: Int[Array, ""]) -> Image:
    """Every sum and product below is exact or rounded once, whichever way a compiler groups them."""
    height, width, _ = image.shape
    u = jnp.arange(width) - (width - 1) / 2
    v = (jnp.arange(height) - (height - 1) / 2)[:, None]
    focal = float(max(height, width))
    upright = side < 2
    along = jnp.where(upright, u, v)
    depth = focal * cosine - along * jnp.where(side % 2 == 0, sine, -sine)
    near, far = jnp.where(upright, focal, focal * cosine), jnp.where(upright, focal * cosine, focal)
    column = jnp.floor(u * near / depth * _SUBPIXEL).astype(jnp.int32) + (width - 1) * _SUBPIXEL // 2
    row = jnp.floor(v * far / depth * _SUBPIXEL).astype(jnp.int32) + (height - 1) * _SUBPIXEL // 2
    return _sampled(image, row, column)


def _sampled(image: Image, row: Int[Array, "height width"], column: Int[Array, "height width"]) -> Image:
    """Bilinear means at places in 1/256 of a pixel, rounded half up; black outside."""
    height, width, channels = image.shape
    pixels = image.reshape(height * width, channels).astype(jnp.int32)

    def level(y: Int[Array, "height width"], x: Int[Array, "height width"]) -> Int[Array, "height width channels"]:
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        found = pixels[jnp.clip(y, 0, height - 1) * width + jnp.clip(x, 0, width - 1)]
        return jnp.where(inside[..., None], found, 0)

    y, x = row // _SUBPIXEL, column // _SUBPIXEL
    below, right = (row % _SUBPIXEL)[..., None], (column % _SUBPIXEL)[..., None]
    top = level(y, x) * (_SUBPIXEL - right) + level(y, x + 1) * right
    bottom = level(y + 1, x) * (_SUBPIXEL - right) + level(y + 1, x + 1) * right
    total = top * (_SUBPIXEL - below) + bottom * below
    return ((total + _SUBPIXEL**2 // 2) // _SUBPIXEL**2).astype(jnp.uint8)
