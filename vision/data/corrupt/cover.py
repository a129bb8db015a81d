"""What stands before or around the object: a square that hides a part, and clutter of other images and lines."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key, UInt8

from vision.data.corrupt.draws import below
from vision.data.corrupt.severity import SEVERITIES, Strength, at

Image = UInt8[Array, "height width channels"]
Images = UInt8[Array, "others height width channels"]
GREY = 128
PIECE = 0.25  # side of a piece of clutter as a share of the image's


def occlusion(key: Key[Array, ""], image: Image, strength: Strength) -> Image:
    """Hides a square (of other than square images: a rectangle of their shape) behind grey, wholly inside the image.

    The place is uniform. Grey as in Zeiler and Fergus 2014, section 4.2: black would be no more than background in
    many data sets.
    """
    height, width, _ = image.shape
    share = at("occlusion", strength)
    rows, columns = (jnp.maximum(1, jnp.round(share * side).astype(jnp.int32)) for side in (height, width))
    top, left = below(key, (height - rows + 1, width - columns + 1))
    row, column = jnp.arange(height)[:, None], jnp.arange(width)
    hidden = (row >= top) & (row < top + rows) & (column >= left) & (column < left + columns)
    return jnp.where(hidden[..., None], jnp.uint8(GREY), image)


def clutter(key: Key[Array, ""], image: Image, strength: Strength, others: Images) -> Image:
    """Adds pieces of other images and thin lines at random places; of two levels the lighter one is seen.

    As in the cluttered digits of Mnih et al. 2014 (arXiv:1406.6247, section 4.1) the distractors are light and the
    object stays whole. Those of a strength are among those of the next.

    Args:
      key: of this example.
      image: of the object.
      strength: 0 to 5.
      others: where pieces are cut from, of the image's size; which of them is drawn.
    """
    height, width, channels = image.shape
    size = (max(1, round(PIECE * height)), max(1, round(PIECE * width)), channels)
    count = at("clutter", strength).astype(jnp.int32)

    def add(canvas: Image, number: Int[Array, ""]) -> tuple[Image, None]:
        room = (height - size[0] + 1, width - size[1] + 1)
        drawn = below(jax.random.fold_in(key, number), (len(others), *room, *room, height, width, height, width, 128))
        donor, source, target, ends, level = drawn[0], drawn[1:3], drawn[3:5], drawn[5:9].reshape(2, 2), drawn[9]
        piece = jax.lax.dynamic_slice(others, (donor, *source, 0), (1, *size))[0]
        under = jax.lax.dynamic_slice(canvas, (*target, 0), size)
        changed = jax.lax.dynamic_update_slice(canvas, jnp.maximum(piece, under), (*target, 0))
        stroke = jnp.where(line(ends, height, width)[..., None], level + GREY, 0).astype(jnp.uint8)
        return jnp.where(number < count, jnp.maximum(changed, stroke), canvas), None

    most = int(max(SEVERITIES["clutter"].values))
    return jax.lax.scan(add, image, jnp.arange(most))[0]


def line(ends: Int[Array, "2 2"], height: int, width: int) -> Bool[Array, "height width"]:
    """Returns the pixels of a line one pixel wide between two ends ``(row, column)``, in whole numbers throughout."""
    (y, x), (dy, dx) = ends[0], ends[1] - ends[0]
    row, column = jnp.arange(height)[:, None] - y, jnp.arange(width) - x
    beside = jnp.abs(row * dx - column * dy)
    longer = jnp.maximum(jnp.abs(dy), jnp.abs(dx))
    within_rows = (row >= jnp.minimum(dy, 0)) & (row <= jnp.maximum(dy, 0))
    within_columns = (column >= jnp.minimum(dx, 0)) & (column <= jnp.maximum(dx, 0))
    return (2 * beside <= longer) & within_rows & within_columns
