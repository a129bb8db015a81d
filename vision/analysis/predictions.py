"""A page of predictions: each image as the model saw it, with bars of its most probable classes."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image

from vision.analysis import page

_STYLE = """<style>
.predictions { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr)); gap: 1.2rem; }
.predictions figure { display: flex; gap: 0.8rem; align-items: flex-start; }
.predictions img { width: 6rem; height: 6rem; object-fit: contain; background: var(--box); image-rendering: pixelated; }
.predictions ol { flex: 1; min-width: 0; margin: 0; padding: 0; list-style: none; font-size: 0.9rem; }
.predictions li { position: relative; padding: 0 0.3rem; margin-bottom: 2px; background: var(--box); }
.predictions li i { position: absolute; inset: 0 auto 0 0; background: #1c7ed6; opacity: 0.3; }
.predictions li span { position: relative; }
.predictions li span + span { float: right; }
</style>"""
_SIDE = 192


@runtime_checkable
class Predicted(Protocol):
    """What the page shows of an image: its file, its pixels, its classes with their probabilities."""

    @property
    def path(self) -> Path:
        """Of the file."""
        ...

    @property
    def pixels(self) -> np.ndarray:
        """What the model saw, uint8 ``[height, width, channels]``."""
        ...

    @property
    def classes(self) -> tuple[int, ...]:
        """The most probable first."""
        ...

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Of these."""
        ...


def write_page(
    path: Path, predictions: Sequence[Predicted], names: Sequence[str], *, title: str, note: str = ""
) -> Path:
    """Writes the page and returns its path.

    Args:
      path: of the HTML file.
      predictions: of the images, in the order of the page.
      names: of all classes.
      title: of the page.
      note: what stands below the title, beside the number of images.

    Raises:
      UserError: it cannot be written.
    """
    figures = "\n".join(_figure(each, names) for each in predictions)
    images = "1 image" if len(predictions) == 1 else f"{len(predictions)} images"
    told = page.escape(f"{images}. {note}" if note else images)
    body = f"{_STYLE}<h1>{page.escape(title)}</h1>\n<p class='soft'>{told}</p>\n"
    return page.save(path, page.document(title, f"{body}<div class='predictions'>\n{figures}\n</div>\n"))


def _figure(each: Predicted, names: Sequence[str]) -> str:
    bars = "".join(
        f"<li><i style='width: {100 * p:.1f}%'></i><span>{page.escape(names[k])}</span> <span>{p:.3f}</span></li>"
        for k, p in zip(each.classes, each.probabilities, strict=True)
    )
    name = page.escape(str(each.path))
    return (
        f"<figure><img alt='{name}' src='data:image/png;base64,{_png(each.pixels)}'>"
        f"<div style='flex: 1; min-width: 0'><ol>{bars}</ol><figcaption>{name}</figcaption></div></figure>"
    )


def _png(pixels: np.ndarray) -> str:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
