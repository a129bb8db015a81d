"""AutoAugment, RandAugment and TrivialAugment: operations drawn from a list, as torchvision applies them to PIL images.

An operation is one of four passes over the image: an affine map, a table of 256 levels per channel, or one of two
blends. A batch computes what every image might need, and four passes cost less than fourteen operations.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt8

from vision.data.augment.affine import Interpolation, Matrix, affine_matrix, warp
from vision.data.augment.base import Augmentation, Image, Registry
from vision.data.augment.color import adjust_brightness, blend, luma, mean_luma
from vision.data.augment.levels import from_levels, to_levels
from vision.data.augment.policy_tables import (
    GEOMETRIC,
    INDEX,
    RANDAUGMENT_KINDS,
    SIGNED,
    Policy,
    magnitudes,
    sub_policies,
)
from vision.data.augment.tone import (
    Table,
    autocontrast_table,
    equalize_table,
    extremes,
    histogram,
    invert,
    lookup,
    posterize,
    quantised,
    restored,
    smooth,
    solarize,
)

Levels8 = UInt8[Array, "height width channels"]


class Operations(NamedTuple):
    """What is done to one image, in this order.

    Attributes:
      kinds: indices into :data:`vision.data.augment.policy_tables.KINDS`.
      magnitudes: with their signs, in the units of :func:`vision.data.augment.policy_tables.magnitudes`.
    """

    kinds: Int[Array, " steps"]
    magnitudes: Float[Array, " steps"]


def apply_operations(image: Image, drawn: Operations, *, interpolation: Interpolation, fill: float) -> Image:
    """Returns the image after all operations; a floating one is rounded to 256 levels before them."""

    def step(levels: Levels8, operation: Operations) -> tuple[Levels8, None]:
        return apply_operation(levels, *operation, interpolation=interpolation, fill=fill), None

    # A loop keeps the image between two operations; unrolled, XLA on CPU would compute the first anew for every use.
    levels, _ = jax.lax.scan(step, quantised(image), drawn)
    return restored(levels, image)


def apply_operation(
    image: Levels8,
    kind: Int[Array, ""],
    magnitude: Float[Array, ""],
    *,
    interpolation: Interpolation = "nearest",
    fill: float = 0.0,
) -> Levels8:
    """Returns the image after one operation: torchvision's ``autoaugment._apply_op`` on a PIL image.

    Tables and blends equal it bit for bit, affine maps as closely as :func:`vision.data.augment.affine.warp` says, for
    a matrix that is computed in float32.

    Args:
      image: levels.
      kind: an index into :data:`vision.data.augment.policy_tables.KINDS`.
      magnitude: with its sign.
      interpolation: of affine maps.
      fill: level of what an affine map brings in from outside the image.
    """
    height, width, channels = image.shape
    moved = warp(image, _matrix(kind, magnitude, height, width), interpolation=interpolation, fill=fill)
    is_sharpness, is_saturation = kind == INDEX["sharpness"], kind == INDEX["saturation"]
    levels = to_levels(image)
    degenerate = jnp.where(is_sharpness, smooth(image), luma(image) if channels == 3 else levels)
    blended = from_levels(blend(degenerate, levels, 1.0 + magnitude), image, truncate=True)
    changed = jnp.where(is_sharpness | is_saturation, blended, lookup(image, _table(image, kind, magnitude)))
    is_geometric = (kind >= INDEX[GEOMETRIC[0]]) & (kind <= INDEX[GEOMETRIC[-1]])
    return jnp.where(is_geometric, moved, changed)


def _matrix(kind: Int[Array, ""], magnitude: Float[Array, ""], height: int, width: int) -> Matrix:
    """The affine map of the kind, or the identity. Shears keep the upper left corner, rotations the middle."""
    one, nothing = jnp.float32(1.0), jnp.float32(0.0)
    pixels = jnp.trunc(magnitude)
    maps = {
        "shear_x": jnp.stack([one, magnitude, nothing, nothing, one, nothing]),
        "shear_y": jnp.stack([one, nothing, nothing, magnitude, one, nothing]),
        "translate_x": jnp.stack([one, nothing, -pixels, nothing, one, nothing]),
        "translate_y": jnp.stack([one, nothing, nothing, nothing, one, -pixels]),
        "rotate": affine_matrix(angle=-magnitude, height=height, width=width),
    }
    matrix = jnp.stack([one, nothing, nothing, nothing, one, nothing])
    for name, of_kind in maps.items():
        matrix = jnp.where(kind == INDEX[name], of_kind, matrix)
    return matrix


def _table(image: Levels8, kind: Int[Array, ""], magnitude: Float[Array, ""]) -> Table:
    """The new level of each level, for the kinds that are a function of the level; for others the same level."""
    ramp = jnp.arange(256, dtype=jnp.uint8)[:, None, None]  # an image of all levels
    counts = histogram(image)
    toward_grey = blend(mean_luma(image), to_levels(ramp), 1.0 + magnitude)
    tables = {
        "brightness": adjust_brightness(ramp, 1.0 + magnitude)[..., 0],
        "contrast": from_levels(toward_grey, ramp, truncate=True)[..., 0],
        "posterize": posterize(ramp, jnp.clip(magnitude, 0.0, 8.0).astype(jnp.int32))[..., 0],
        "solarize": solarize(ramp, magnitude)[..., 0],
        "invert": invert(ramp)[..., 0],
        "autocontrast": autocontrast_table(*extremes(counts)),
        "equalize": equalize_table(counts),
    }
    table = jnp.broadcast_to(ramp[..., 0], (256, image.shape[-1]))
    for name, of_kind in tables.items():
        table = jnp.where(kind == INDEX[name], of_kind, table)
    return table


def drawn_magnitudes(
    key: Key[Array, ""],
    kinds: Int[Array, " steps"],
    bins: Float[Array, " steps"] | Int[Array, " steps"],
    table: Float[np.ndarray, "kinds bins"],
) -> Float[Array, " steps"]:
    """Returns magnitudes from a table, at bins or between them, negative half of the time where the kind has a sign."""
    below = jnp.clip(jnp.floor(bins).astype(jnp.int32), 0, table.shape[1] - 1)
    lower, upper = (jnp.asarray(table)[kinds, jnp.minimum(bin, table.shape[1] - 1)] for bin in (below, below + 1))
    between = lower + (upper - lower) * (bins - below)
    # A whole number of bits was drawn even where a magnitude between two bins was.
    values = jnp.where(kinds == INDEX["posterize"], jnp.round(between), between)
    negative = jax.random.bernoulli(key, 0.5, kinds.shape) & jnp.asarray(SIGNED)[kinds]
    return jnp.where(negative, -values, values)


def draw_autoaugment(key: Key[Array, ""], *, policy: Policy, height: int, width: int) -> Operations:
    """Draws a sub-policy, and for each of its two operations whether it is applied, and its sign.

    An operation that is not applied is the identity.
    """
    learned, table = sub_policies(policy), magnitudes("autoaugment", 10, height, width)
    of_policy, of_chance, of_sign = jax.random.split(key, 3)
    index = jax.random.randint(of_policy, (), 0, len(learned.kinds))
    kinds, probabilities, bins = (jnp.asarray(column)[index] for column in learned)
    values = drawn_magnitudes(of_sign, kinds, bins, table)
    happens = jax.random.bernoulli(of_chance, probabilities)
    return Operations(jnp.where(happens, kinds, INDEX["identity"]), jnp.where(happens, values, 0.0))


def draw_randaugment(
    key: Key[Array, ""],
    *,
    num_ops: int,
    magnitude: float,
    num_magnitude_bins: int,
    magnitude_std: float,
    height: int,
    width: int,
) -> Operations:
    """Draws ``num_ops`` operations, uniformly and with replacement, at one magnitude or normally around it."""
    table = magnitudes("autoaugment", num_magnitude_bins, height, width)
    of_kind, of_bin, of_sign = jax.random.split(key, 3)
    kinds = jax.random.randint(of_kind, (num_ops,), 0, len(RANDAUGMENT_KINDS))
    bins = magnitude + magnitude_std * jax.random.normal(of_bin, (num_ops,))
    bins = jnp.clip(bins, 0.0, num_magnitude_bins - 1.0)
    return Operations(kinds, drawn_magnitudes(of_sign, kinds, bins, table))


def draw_trivialaugment(key: Key[Array, ""], *, num_magnitude_bins: int) -> Operations:
    """Draws one operation and one magnitude, both uniformly."""
    table = magnitudes("trivialaugment", num_magnitude_bins, 1, 1)
    of_kind, of_bin, of_sign = jax.random.split(key, 3)
    kinds = jax.random.randint(of_kind, (1,), 0, len(RANDAUGMENT_KINDS))
    bins = jax.random.randint(of_bin, (1,), 0, num_magnitude_bins)
    return Operations(kinds, drawn_magnitudes(of_sign, kinds, bins, table))


def check_fill(fill: float) -> None:
    """Raises a ValueError for a level outside 0..255."""
    if not 0.0 <= fill <= 255.0:
        raise ValueError(f"fill must be in [0, 255], got {fill}")


def autoaugment(
    *, policy: Policy = "imagenet", interpolation: Interpolation = "nearest", fill: float = 0.0
) -> Augmentation:
    """Applies one of 25 sub-policies that were learned on a data set (Cubuk et al. 2019, arXiv:1805.09501).

    Operations and magnitudes are torchvision's AutoAugment. Floating images are rounded to 256 levels. ``fill`` is the
    level, 0 to 255, of what affine maps bring in from outside.

    Raises:
      ValueError: ``fill`` is not in [0, 255].
    """
    check_fill(fill)

    def apply(key: Key[Array, ""], image: Image) -> Image:
        drawn = draw_autoaugment(key, policy=policy, height=image.shape[0], width=image.shape[1])
        return apply_operations(image, drawn, interpolation=interpolation, fill=fill)

    return apply


def randaugment(
    *,
    num_ops: int = 2,
    magnitude: float = 9.0,
    num_magnitude_bins: int = 31,
    magnitude_std: float = 0.0,
    interpolation: Interpolation = "nearest",
    fill: float = 0.0,
) -> Augmentation:
    """Applies operations drawn uniformly from 14, all at one magnitude (Cubuk et al. 2020, arXiv:1909.13719).

    Operations and magnitudes are torchvision's RandAugment: bin ``magnitude`` of ``num_magnitude_bins`` bins, from 0.
    ``magnitude_std`` draws the bin anew for each operation from a normal distribution around ``magnitude``, clipped to
    the bins, with magnitudes between those of the bins (timm's ``mstd``). Floating images are rounded to 256 levels.
    ``fill`` is the level, 0 to 255, of what affine maps bring in from outside.

    Raises:
      ValueError: ``num_ops`` or ``magnitude_std`` is negative, there are fewer than 2 bins, ``magnitude`` is not among
        them, or ``fill`` is not in [0, 255].
    """
    check_fill(fill)
    if num_ops < 0 or magnitude_std < 0:
        raise ValueError(f"num_ops and magnitude_std must be >= 0, got {num_ops} and {magnitude_std}")
    if num_magnitude_bins < 2 or not 0 <= magnitude <= num_magnitude_bins - 1:
        raise ValueError(f"magnitude must be in [0, num_magnitude_bins - 1], got {magnitude} of {num_magnitude_bins}")

    def apply(key: Key[Array, ""], image: Image) -> Image:
        drawn = draw_randaugment(
            key,
            num_ops=num_ops,
            magnitude=magnitude,
            num_magnitude_bins=num_magnitude_bins,
            magnitude_std=magnitude_std,
            height=image.shape[0],
            width=image.shape[1],
        )
        return apply_operations(image, drawn, interpolation=interpolation, fill=fill)

    return apply


def trivialaugment(
    *, num_magnitude_bins: int = 31, interpolation: Interpolation = "nearest", fill: float = 0.0
) -> Augmentation:
    """Applies one operation of 14 at a magnitude, both uniform (Mueller and Hutter 2021, arXiv:2103.10158).

    Operations and magnitudes are torchvision's TrivialAugmentWide. Floating images are rounded to 256 levels. ``fill``
    is the level, 0 to 255, of what affine maps bring in from outside.

    Raises:
      ValueError: there are fewer than 2 bins, or ``fill`` is not in [0, 255].
    """
    check_fill(fill)
    magnitudes("trivialaugment", num_magnitude_bins, 1, 1)

    def apply(key: Key[Array, ""], image: Image) -> Image:
        drawn = draw_trivialaugment(key, num_magnitude_bins=num_magnitude_bins)
        return apply_operations(image, drawn, interpolation=interpolation, fill=fill)

    return apply


AUGMENTATIONS: Registry = {"autoaugment": autoaugment, "randaugment": randaugment, "trivialaugment": trivialaugment}
