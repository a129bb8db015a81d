"""Images of the ladder's page: mistakes, class templates, nearest neighbours."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from vision.analysis import page
from vision.evaluation.knn_search import search

STYLE = """<style>
.tiles { display: flex; flex-wrap: wrap; gap: 0.6rem; margin: 0.5rem 0; }
.tiles figure { width: 5.2rem; }
.tiles img { width: 4rem; height: 4rem; object-fit: contain; image-rendering: pixelated; background: var(--box); }
.tiles figcaption { font-size: 0.75rem; line-height: 1.25; }
.neighbours td, .neighbours th { padding: 0.2rem 0.4rem 0.2rem 0; }
.neighbours img { width: 3rem; height: 3rem; object-fit: contain; image-rendering: pixelated; background: var(--box); }
.neighbours .wrong { outline: 3px solid #e8590c; }
</style>"""


def image(pixels: np.ndarray, alt: str, *, kind: str = "") -> str:
    """Returns an image as HTML that needs no file.

    Args:
      pixels: uint8 ``[height, width, channels]``, 1 or 3 channels.
      alt: what it shows.
      kind: its class in the style sheet.
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f"<img class='{kind}' alt='{page.escape(alt)}' src='data:image/png;base64,{data}'>"


def mistakes(images: np.ndarray, labels: np.ndarray, scores: np.ndarray, names: Sequence[str], *, most: int) -> str:
    """Returns the wrong answers that were given most surely.

    Args:
      images: uint8 ``[n, height, width, channels]``.
      labels: int ``[n]``.
      scores: float ``[n, classes]``; sureness is the distance between the chosen class and the right one.
      names: of the classes.
      most: how many to show.
    """
    chosen = scores.argmax(axis=1)
    rows = np.arange(len(labels))
    margin = scores[rows, chosen] - scores[rows, labels]
    wrong = np.flatnonzero(chosen != labels)
    if not len(wrong):
        return "<p>No test image is taken for another class.</p>\n"
    tiles = []
    for index in wrong[np.argsort(-margin[wrong], kind="stable")][:most]:
        true, said = names[labels[index]], names[chosen[index]]
        picture = image(images[index], f"test image {index}")
        caption = f"{page.escape(said)}<br>is {page.escape(true)}"
        tiles.append(f"<figure>{picture}<figcaption>{caption}</figcaption></figure>")
    shown = f"{len(wrong)} of {len(labels)} test images are taken for another class; the surest mistakes:"
    return f"<p>{shown}</p><div class='tiles'>{''.join(tiles)}</div>\n"


def templates(weights: np.ndarray, shape: tuple[int, int, int], names: Sequence[str]) -> str:
    """Returns the weights of a linear model as images: blue speaks for the class, orange against it.

    Args:
      weights: float ``[classes, height * width * channels]``.
      shape: ``(height, width, channels)``.
      names: of the classes.
    """
    maps = weights.reshape(len(weights), *shape).mean(axis=-1)
    scaled = np.clip(maps / max(float(np.quantile(np.abs(maps), 0.99)), 1e-12), -1, 1)[..., None]
    blue, orange = np.array([59, 130, 246.0]), np.array([232, 89, 12.0])
    colors = np.where(scaled > 0, 255 + scaled * (blue - 255), 255 - scaled * (orange - 255))
    tiles = [
        f"<figure>{image(each.round().astype(np.uint8), f'template of {name}')}"
        f"<figcaption>{page.escape(name)}</figcaption></figure>"
        for each, name in zip(colors, names, strict=True)
    ]
    return f"<div class='tiles'>{''.join(tiles)}</div>\n"


def neighbours(
    test: tuple[np.ndarray, np.ndarray], bank: tuple[np.ndarray, np.ndarray], names: Sequence[str], *, rows: int, k: int
) -> str:
    """Returns test images, of every class in turn, beside the training images next to them (L2 over pixels).

    Args:
      test: images uint8 ``[n, height, width, channels]`` and labels int ``[n]``.
      bank: likewise, of the training split.
      names: of the classes.
      rows: how many test images.
      k: how many neighbours of each.
    """
    images, labels = test
    firsts = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    order = [members[turn] for turn in range(rows) for members in firsts if turn < len(members)][:rows]
    flat = [each.reshape(len(each), -1).astype(np.float32) / 255 for each in (images[order], bank[0])]
    distances, found = (np.asarray(each) for each in search(*flat, k=min(k, len(bank[0])), metric="l2"))
    lines = []
    for row, index in enumerate(order):
        cells = "".join(
            f"<td>{image(bank[0][one], names[bank[1][one]], kind='' if bank[1][one] == labels[index] else 'wrong')}"
            f"<br><span class='note'>{distance:.2f}</span></td>"
            for one, distance in zip(found[row], distances[row], strict=True)
        )
        head = f"<th scope='row'>{image(images[index], f'test image {index}')}<br>{page.escape(names[labels[index]])}"
        lines.append(f"<tr>{head}</th>{cells}</tr>")
    said = (
        "<p>Left a test image, then the training images next to it, nearest first; those of another class are framed."
    )
    return f"{said}</p><div class='wide'><table class='neighbours'>{''.join(lines)}</table></div>\n"
