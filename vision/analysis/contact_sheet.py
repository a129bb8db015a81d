"""Contact sheets: many small images in one PNG, to see what a model is given."""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw

from vision.data.augment.base import Augmentation, Draw, OverVisits
from vision.data.augment.mix import Mix
from vision.errors import UserError

_GAP, _TEXT = 4, 12


def save(path: Path, rows: Sequence[Sequence[np.ndarray]], titles: Sequence[Sequence[str]], *, tile: int = 96) -> None:
    """Writes rows of images as one PNG.

    Args:
      path: of the file.
      rows: uint8 images ``[height, width, channels]``; each is enlarged or shrunk to fit a square tile.
      titles: for each row, what stands above its tiles; the last may be as long as the rest of the row.
      tile: side of a tile in pixels.

    Raises:
      UserError: the file cannot be written.
    """
    columns = max(len(row) for row in rows)
    height = _GAP + len(rows) * (tile + _GAP + _TEXT)
    sheet = Image.new("RGB", (_GAP + columns * (tile + _GAP), height), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for number, (row, title) in enumerate(zip(rows, titles, strict=True)):
        top = _GAP + number * (tile + _GAP + _TEXT)
        for column, text in enumerate(title):
            width = tile if column < len(title) - 1 else (columns - column) * (tile + _GAP)
            shown = text.encode("ascii", "replace").decode()[: width // 6]
            draw.text((_GAP + column * (tile + _GAP), top), shown, fill=(0, 0, 0))
        for column, pixels in enumerate(row):
            sheet.paste(_tile(pixels, tile), (_GAP + column * (tile + _GAP), top + _TEXT))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def _tile(pixels: np.ndarray, tile: int) -> Image.Image:
    grey = pixels.shape[-1] == 1
    image = Image.fromarray(pixels[..., 0] if grey else pixels).convert("RGB")
    scale = tile / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX)


def as_pixels(images: np.ndarray) -> np.ndarray:
    """Returns images on the scale [0, 1] as uint8; what lies outside is cut off."""
    return (np.clip(np.asarray(images, np.float32), 0, 1) * 255 + 0.5).astype(np.uint8)


def augmented(augmentation: Augmentation | OverVisits, images: np.ndarray, count: int, seed: int) -> list[list]:
    """Returns a row for each image ``[n, height, width, channels]``: itself and ``count`` visits of an augmentation."""

    def of_visit(visit: jax.Array, number: jax.Array, image: jax.Array) -> jax.Array:
        first = jax.random.fold_in(jax.random.key(seed), number)
        draw = Draw(jax.random.fold_in(first, visit), first, visit)
        return (
            augmentation.apply(draw, image) if isinstance(augmentation, OverVisits) else augmentation(draw.key, image)
        )

    numbers = jnp.arange(len(images))
    made = jax.jit(jax.vmap(jax.vmap(of_visit, (0, None, None)), (None, 0, 0)))(jnp.arange(count), numbers, images)
    return [[image, *visits] for image, visits in zip(images, np.asarray(made), strict=True)]


def mixed(mix: Mix, images: np.ndarray, count: int, seed: int) -> list[list]:
    """Returns a row for each image: itself and ``count`` mixtures of the batch."""
    scaled, targets = jnp.asarray(images / 255.0, jnp.float32), jnp.eye(len(images))
    apply: Callable = jax.jit(mix)
    batches = [as_pixels(apply(key, scaled, targets)[0]) for key in jax.random.split(jax.random.key(seed), count)]
    return [[image, *(batch[row] for batch in batches)] for row, image in enumerate(images)]
