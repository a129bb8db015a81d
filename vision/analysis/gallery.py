"""Pictures of a network: what each shows, its files, and the page that has all of them."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from vision.analysis import page
from vision.errors import UserError

_STYLE = """<style>
.strip { display: flex; flex-wrap: wrap; gap: 0.5rem; margin: 0.5rem 0 1rem; }
.strip figure { width: 6rem; }
.strip img { width: 6rem; height: 6rem; object-fit: contain; background: var(--box); image-rendering: pixelated; }
.strip figcaption { font-size: 0.8rem; line-height: 1.2; }
.whole img { display: block; width: 100%; max-width: 40rem; image-rendering: pixelated; }
.drawn { max-width: 40rem; }
</style>
"""
_SIDE = 128


class Picture(NamedTuple):
    """One kind of picture.

    Attributes:
      title: of its section.
      said: what it shows, for people.
      body: HTML.
      files: the PNGs that were written.
      numbers: what was measured.
    """

    title: str
    said: str
    body: str
    files: tuple[Path, ...]
    numbers: Mapping[str, Any] = {}


class Tile(NamedTuple):
    """A small image.

    Attributes:
      pixels: uint8 ``[height, width, 1 or 3]``.
      caption: what it is.
    """

    pixels: np.ndarray
    caption: str


def strip(tiles: Sequence[Tile]) -> str:
    """Returns tiles side by side, in as many lines as the screen needs."""
    figures = "".join(
        f"<figure>{_image(tile.pixels, tile.caption)}<figcaption>{page.escape(tile.caption)}</figcaption></figure>"
        for tile in tiles
    )
    return f"<div class='strip'>{figures}</div>\n"


def whole(pixels: np.ndarray, label: str) -> str:
    """Returns one picture as wide as the screen allows; the label is for who cannot see it."""
    return f"<div class='whole'>{_image(pixels, label, side=None)}</div>\n"


def chart(svg: str, caption: str) -> str:
    """Returns a chart with its caption; both are HTML already."""
    return f"<figure class='drawn'><figcaption>{caption}</figcaption>{svg}</figure>\n"


def _image(pixels: np.ndarray, label: str, *, side: int | None = _SIDE) -> str:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if side is not None:
        image.thumbnail((side, side), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return (
        f"<img alt='{page.escape(label)}' src='data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}'>"
    )


def save_pixels(path: Path, pixels: np.ndarray) -> Path:
    """Writes uint8 ``[height, width, 3]`` as a PNG and returns its path.

    Raises:
      UserError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def save_chart(path: Path, draw: Callable[..., None], *, size: tuple[float, float]) -> Path:
    """Writes what ``draw(axes)`` draws, on white, as a PNG and returns its path.

    Raises:
      UserError: it cannot be written.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with style.context(["default", {"font.size": 9}]):
            figure = Figure(figsize=size, layout="constrained")
            draw(figure.subplots())
            figure.savefig(path, dpi=150)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def write_page(path: Path, title: str, lines: Sequence[str], pictures: Mapping[str, Picture | str]) -> Path:
    """Writes the page and returns its path.

    Args:
      path: of the HTML file.
      title: of the page.
      lines: what stands below it.
      pictures: by name; a sentence where there is none, which says why.

    Raises:
      UserError: it cannot be written.
    """
    body = f"{_STYLE}<h1>{page.escape(title)}</h1>\n"
    body += "".join(f"<p class='soft'>{page.escape(line)}</p>\n" for line in lines)
    for each in pictures.values():
        if isinstance(each, Picture):
            body += page.section(each.title, f"<p class='soft'>{page.escape(each.said)}</p>\n{each.body}")
    missing = [
        f"<li>{page.escape(name)}: {page.escape(why)}</li>\n"
        for name, why in pictures.items()
        if not isinstance(why, Picture)
    ]
    if missing:
        body += page.section("What this model has no picture of", f"<ul>{''.join(missing)}</ul>\n")
    return page.save(path, page.document(title, body))
