"""Pictures over given images: attention of each head, patch features as colours, nearest neighbours."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vision.analysis import contact_sheet, gallery
from vision.analysis.attention_maps import mass_mask
from vision.analysis.gallery import Picture, Tile
from vision.analysis.heat import as_colour, masked, over_image, spread
from vision.analysis.patch_pca import foreground, patch_colors

_TILE = 112


def attention(
    folder: Path,
    images: np.ndarray,
    names: Sequence[str],
    maps: np.ndarray,
    *,
    block: str,
    queries: str,
    keep: float,
) -> Picture:
    """Writes ``attention.png``: beside each image the mean over heads, the patches with most of it, and each head.

    Args:
      folder: where the file goes.
      images: uint8 ``[n, height, width, channels]``.
      names: of the images.
      maps: attention to the patches, ``[n, heads, rows, columns]``.
      block: which one it is of.
      queries: whose attention it is, for people.
      keep: share of the attention that the mask keeps.
    """
    rows: list[list[Tile]] = []
    for image, name, heads in zip(images, names, maps, strict=True):
        mean = heads.mean(axis=0)
        mask = mass_mask(mean.reshape(1, -1), keep).reshape(mean.shape)
        tiles = [Tile(image, name), Tile(over_image(image, mean), "mean"), Tile(masked(image, mask), f"{keep:.0%}")]
        rows.append(tiles + [Tile(over_image(image, head), f"head {number}") for number, head in enumerate(heads)])
    path = _sheet(folder / "attention.png", rows)
    said = (
        f"Attention of {queries} to the patches in {block}, brightest where it is largest: the mean over the heads, "
        f"the patches that take {keep:.0%} of that mean, and each head by itself."
    )
    # The share of attention that goes to patches and not to class, register and other tokens.
    numbers = {"block": block, "heads": maps.shape[1], "to_patches": float(maps.sum(axis=(2, 3)).mean())}
    return Picture(f"Attention in {block}", said, "".join(map(gallery.strip, rows)), (path,), numbers)


def patch_pca(
    folder: Path, images: np.ndarray, names: Sequence[str], features: np.ndarray, *, feature: str, threshold: float
) -> Picture:
    """Writes ``pca.png``: each image, its patches coloured by principal components, and those of the foreground.

    Args:
      folder: where the file goes.
      images: uint8 ``[n, height, width, channels]``.
      names: of the images.
      features: ``[n, rows, columns, width]``.
      feature: what they are called.
      threshold: of the foreground, see :func:`vision.analysis.patch_pca.foreground`.

    Raises:
      ValueError: there is only one patch.
    """
    colors = patch_colors(features)
    mask = foreground(features, threshold)
    in_front = patch_colors(features, mask).rgb if mask.sum() > 1 else None
    rows = []
    for number, (image, name) in enumerate(zip(images, names, strict=True)):
        size = (image.shape[0], image.shape[1])
        tiles = [Tile(image, name), Tile(contact_sheet.as_pixels(spread(colors.rgb[number], size)), "all patches")]
        if in_front is not None:
            tiles.append(Tile(contact_sheet.as_pixels(spread(in_front[number], size)), "foreground"))
        rows.append(tiles)
    path = _sheet(folder / "pca.png", rows)
    grid = "x".join(map(str, features.shape[1:3]))
    said = (
        f"The first three principal components of {feature} ({grid} places) over all images together, as red, green "
        "and blue. In each component the largest loading is positive. The foreground is one side of the first "
        "component, the other being where most patches at the borders lie; it is coloured by components of its own."
    )
    numbers = {"feature": feature, "explained": list(colors.explained), "foreground": float(mask.mean())}
    return Picture("Patch features", said, "".join(map(gallery.strip, rows)), (path,), numbers)


def neighbours(
    folder: Path,
    images: np.ndarray,
    names: Sequence[str],
    bank: np.ndarray,
    captions: Sequence[str],
    by_embedding: tuple[np.ndarray, np.ndarray],
    by_pixels: tuple[np.ndarray, np.ndarray],
    *,
    where: str,
    numbers: dict[str, float],
) -> Picture:
    """Writes ``neighbours.png``: for each image two rows, its neighbours by embedding and by pixels.

    Args:
      folder: where the file goes.
      images: uint8 ``[n, height, width, channels]``.
      names: of the images.
      bank: the images among which neighbours are looked for.
      captions: of these, such as their class.
      by_embedding: distances ``1 - cosine`` and rows of the bank, both ``[n, k]``.
      by_pixels: Euclidean distances of pixels / 255, and rows.
      where: what the bank is, for people.
      numbers: what was measured.
    """
    rows = []
    for number, (image, name) in enumerate(zip(images, names, strict=True)):
        for kind, (distances, found) in (("embedding", by_embedding), ("pixels", by_pixels)):
            tiles = [Tile(image, name if kind == "embedding" else "by pixels")]
            for distance, row in zip(distances[number], found[number], strict=True):
                nearness = f"cosine {1 - distance:.2f}" if kind == "embedding" else f"distance {distance:.1f}"
                tiles.append(Tile(bank[row], f"{captions[row]} {nearness}".strip()))
            rows.append(tiles)
    path = _sheet(folder / "neighbours.png", rows)
    said = (
        f"The nearest of {where}: by the cosine of embeddings (pre_logits), and below by the Euclidean distance of "
        "pixels."
    )
    if "label_agreement" in numbers:
        said += (
            f" Of the neighbours by embedding {numbers['label_agreement']:.1%} have the image's own label, of those by "
            f"pixels {numbers['label_agreement_of_pixels']:.1%}."
        )
    return Picture("Nearest neighbours", said, "".join(map(gallery.strip, rows)), (path,), numbers)


def _sheet(path: Path, rows: Sequence[Sequence[Tile]]) -> Path:
    pixels = [[as_colour(tile.pixels) for tile in row] for row in rows]
    contact_sheet.save(path, pixels, [[tile.caption for tile in row] for row in rows], tile=_TILE)
    return path
