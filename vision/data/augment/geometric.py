"""Random affine maps: turning, shearing, moving, and all of them at once."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vision.data.augment.affine import Interpolation, affine_matrix, warp
from vision.data.augment.base import Augmentation, Image, Registry, check_probability, with_probability

Range = tuple[float, float]
_ZERO = (0.0, 0.0)


class AffineDraw(NamedTuple):
    """What was drawn for one image.

    Attributes:
      angle: degrees, clockwise.
      translate: pixels to the right and down, whole.
      scale: above 1 enlarges.
      shear: degrees, parallel to the x and to the y axis.
    """

    angle: Float[Array, ""]
    translate: tuple[Float[Array, ""], Float[Array, ""]]
    scale: Float[Array, ""]
    shear: tuple[Float[Array, ""], Float[Array, ""]]


def draw_affine(
    key: Key[Array, ""],
    height: int,
    width: int,
    *,
    degrees: Range = _ZERO,
    translate: Range = _ZERO,
    scale: Range = (1.0, 1.0),
    horizontal_shear: Range = _ZERO,
    vertical_shear: Range = _ZERO,
) -> AffineDraw:
    """Returns an affine map's parameters, each uniform in its range, as torchvision's ``RandomAffine`` draws them.

    Args:
      key: of the draw.
      height: of the image in pixels.
      width: of the image in pixels.
      degrees: range of the angle, clockwise.
      translate: largest move to either side, as fractions of the width and of the height; rounded to whole pixels.
      scale: range of the enlargement.
      horizontal_shear: range of the angle parallel to the x axis, in degrees.
      vertical_shear: range of the angle parallel to the y axis, in degrees.
    """
    right, down = translate[0] * width, translate[1] * height
    low, high = jnp.array([degrees, (-right, right), (-down, down), scale, horizontal_shear, vertical_shear]).T
    drawn = jax.random.uniform(key, (6,), minval=low, maxval=high)
    moved = jnp.round(drawn[1]), jnp.round(drawn[2])
    return AffineDraw(drawn[0], moved, drawn[3], (drawn[4], drawn[5]))


def random_affine(
    *,
    degrees: Range = (-30.0, 30.0),
    translate: Range = (0.1, 0.1),
    scale: Range = (0.9, 1.1),
    horizontal_shear: Range = (-10.0, 10.0),
    vertical_shear: Range = (-10.0, 10.0),
    probability: float = 1.0,
    interpolation: Interpolation = "nearest",
    fill: float = 0.0,
) -> Augmentation:
    """Turns, moves, scales and shears the image about its middle, as torchvision's ``RandomAffine``.

    Args:
      degrees: range of the angle, clockwise.
      translate: largest move, as fractions of the width and of the height.
      scale: range of the enlargement.
      horizontal_shear: range of the angle parallel to the x axis, in degrees.
      vertical_shear: range of the angle parallel to the y axis, in degrees.
      probability: of doing so.
      interpolation: nearest or bilinear, see :func:`vision.data.augment.affine.warp`.
      fill: level of 0 to 255 of what comes in from outside.

    Raises:
      ValueError: a range that does not ascend, fractions outside [0, 1], a scale that is not positive, a shear of 90
        degrees or more, a fill outside [0, 255] or a probability outside [0, 1].
    """
    ranges = {"degrees": degrees, "scale": scale}
    ranges |= {"horizontal_shear": horizontal_shear, "vertical_shear": vertical_shear}
    for name, (low, high) in ranges.items():
        if low > high:
            raise ValueError(f"{name} must ascend, got {(low, high)}")
    if scale[0] <= 0.0:
        raise ValueError(f"scale must be positive, got {scale}")
    if max(map(abs, horizontal_shear + vertical_shear)) >= 90.0:
        raise ValueError(f"shears must be within 90 degrees, got {horizontal_shear} and {vertical_shear}")
    if not (0.0 <= min(translate) <= max(translate) <= 1.0):
        raise ValueError(f"translate must be fractions in [0, 1], got {translate}")
    if not 0.0 <= fill <= 255.0:
        raise ValueError(f"fill must be in [0, 255], got {fill}")
    check_probability(probability)

    def apply(key: Key[Array, ""], image: Image) -> Image:
        happens_key, draw_key = jax.random.split(key)
        height, width, _ = image.shape
        drawn = draw_affine(
            draw_key,
            height,
            width,
            degrees=degrees,
            translate=translate,
            scale=scale,
            horizontal_shear=horizontal_shear,
            vertical_shear=vertical_shear,
        )
        matrix = affine_matrix(**drawn._asdict(), height=height, width=width)
        changed = warp(image, matrix, interpolation=interpolation, fill=fill)
        return with_probability(probability, happens_key, changed, image)

    return apply


def random_rotate(
    *,
    degrees: Range = (-30.0, 30.0),
    probability: float = 1.0,
    interpolation: Interpolation = "nearest",
    fill: float = 0.0,
) -> Augmentation:
    """Turns the image about its middle by an angle uniform in ``degrees``, clockwise, and keeps its size.

    Raises:
      ValueError: as :func:`random_affine`, which explains the options.
    """
    return random_affine(
        degrees=degrees,
        translate=_ZERO,
        scale=(1.0, 1.0),
        horizontal_shear=_ZERO,
        vertical_shear=_ZERO,
        probability=probability,
        interpolation=interpolation,
        fill=fill,
    )


def random_shear(
    *,
    horizontal: Range = (-15.0, 15.0),
    vertical: Range = (-15.0, 15.0),
    probability: float = 1.0,
    interpolation: Interpolation = "nearest",
    fill: float = 0.0,
) -> Augmentation:
    """Shears the image about its middle by angles uniform in two ranges of degrees, parallel to the x and y axis.

    Raises:
      ValueError: as :func:`random_affine`, which explains the options.
    """
    return random_affine(
        degrees=_ZERO,
        translate=_ZERO,
        scale=(1.0, 1.0),
        horizontal_shear=horizontal,
        vertical_shear=vertical,
        probability=probability,
        interpolation=interpolation,
        fill=fill,
    )


def random_translate(
    *, horizontal: float = 0.1, vertical: float = 0.1, probability: float = 1.0, fill: float = 0.0
) -> Augmentation:
    """Moves the image by whole pixels, uniform up to a fraction of its width and of its height to either side.

    The two outermost moves are half as likely as the others where the fraction is a whole number of pixels, since a
    uniform number is rounded, as in torchvision; :func:`vision.data.augment.shift.random_shift` draws all alike.

    Raises:
      ValueError: as :func:`random_affine`, which explains the options.
    """
    return random_affine(
        degrees=_ZERO,
        translate=(horizontal, vertical),
        scale=(1.0, 1.0),
        horizontal_shear=_ZERO,
        vertical_shear=_ZERO,
        probability=probability,
        fill=fill,
    )


AUGMENTATIONS: Registry = {
    "random_affine": random_affine,
    "random_rotate": random_rotate,
    "random_shear": random_shear,
    "random_translate": random_translate,
}
