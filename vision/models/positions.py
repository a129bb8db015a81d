"""Where a patch stands: sin-cos and rotary positions, and learned ones brought to another grid of patches."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Grid = tuple[int, int]


def sincos_2d(grid: Grid, width: int, *, temperature: float = 10_000.0) -> Float[np.ndarray, "rows columns width"]:
    """Returns fixed positions ``[sin x, cos x, sin y, cos y]`` (Chen et al. 2021, MoCo v3, appendix).

    The frequencies are ``temperature ** (-i / (width / 4 - 1))`` for i from 0 to width / 4 - 1.

    Raises:
      ValueError: ``width`` is no multiple of 4 of at least 8.
    """
    if width % 4 or width < 8:
        raise ValueError(f"sin-cos positions need a width that is a multiple of 4 and at least 8, got {width}")
    frequency = temperature ** -(np.arange(width // 4) / (width // 4 - 1))
    y, x = (each[..., None] * frequency for each in np.mgrid[: grid[0], : grid[1]])
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=-1).astype(np.float32)


def rotary_angles(grid: Grid, head_width: int, *, base: float = 100.0) -> Float[np.ndarray, "tokens half"]:
    """Returns the angles, in radians, that each patch turns the pairs of a head's numbers by.

    Axial rotary positions of DINOv3 (Simeoni et al. 2025, section 3.2): coordinates of patch centres run from -1
    to 1 along each side, periods are ``base ** (4 i / head_width)``, i from 0 to head_width / 4 - 1; rows come first.

    Raises:
      ValueError: ``head_width`` is no multiple of 4.
    """
    if head_width % 4:
        raise ValueError(f"rotary positions need a width per head that is a multiple of 4, got {head_width}")
    periods = base ** (4 * np.arange(head_width // 4) / head_width)
    centres = [2 * (np.arange(side) + 0.5) / side - 1 for side in grid]
    coordinates = np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1).reshape(-1, 2)
    angles = 2 * math.pi * coordinates[:, :, None] / periods
    return angles.reshape(len(coordinates), -1).astype(np.float32)


def rotate(
    x: Float[Array, "batch tokens heads head_width"], angles: Float[Array, "*each patches half"]
) -> Float[Array, "batch tokens heads head_width"]:
    """Turns the pairs ``(x_i, x_{i + half})`` of the last tokens by their angles (Su et al. 2021, equation 34).

    Tokens before the patches, such as the class token, have no place and are left as they are. Angles are those of
    all examples, or of each.
    """
    prefix = x.shape[1] - angles.shape[-2]
    cos, sin = (f(angles)[..., None, :].astype(x.dtype) for f in (jnp.cos, jnp.sin))
    first, second = jnp.split(x[:, prefix:], 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return jnp.concatenate([x[:, :prefix], turned], axis=1) if prefix else turned


def resize_positions(
    positions: Float[Array, "rows columns width"], grid: Grid, *, antialias: bool = True, offset: float = 0.0
) -> Float[Array, "new_rows new_columns width"]:
    """Returns learned positions for another grid, by bicubic interpolation.

    Args:
      positions: as learned.
      grid: the new rows and columns.
      antialias: widen the filter where the grid shrinks, as timm and DINOv2 with registers do. Without it the filter
        is that of DINO and DINOv2. (The two filters, which are PyTorch's, also differ in their parameter: -0.5, -0.75.)
      offset: added to the new rows and columns where the scale is worked out: 0.1 in DINO and DINOv2, to survive
        rounding, which shifts all positions a little.
    """
    if tuple(positions.shape[:2]) == tuple(grid) and not offset:
        return positions
    rows, columns = (
        jnp.asarray(_bicubic(old, new, (new + offset) / old, antialias), positions.dtype)
        for old, new in zip(positions.shape[:2], grid, strict=True)
    )
    return jnp.einsum("ri,cj,ijd->rcd", rows, columns, positions, precision="highest")


def _bicubic(old: int, new: int, scale: float, antialias: bool) -> Float[np.ndarray, "new old"]:
    """The matrix of the interpolation along one side."""
    a = -0.5 if antialias else -0.75
    stretch = max(1.0, 1.0 / scale) if antialias else 1.0
    centres = (np.arange(new) + 0.5) / scale
    reach = math.ceil(2 * stretch) + 1
    nearest = np.floor(centres).astype(int)[:, None] + np.arange(-reach, reach + 1)
    distance = np.abs(nearest + 0.5 - centres[:, None]) / stretch
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    weights = np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
    if antialias:  # what lies beyond the border is left out
        weights = np.where((nearest >= 0) & (nearest < old), weights, 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new)[:, None], np.clip(nearest, 0, old - 1)), weights)
    return matrix
