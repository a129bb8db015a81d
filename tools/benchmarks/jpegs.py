"""Photographs that nobody has to download: JPEG files with the sizes and the statistics of ImageNet's.

Natural images have amplitudes that fall as 1 / frequency (Field 1987) and edges; noise alone would be far too large
for its quality, a gradient far too small, and both decode at another speed.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = 10
QUALITY = 90
_LONG = (480, 500, 500, 500, 520, 640)
_SHAPES = (4 / 3, 4 / 3, 3 / 2, 1.25)


def write_folder(folder: Path, count: int) -> None:
    """Writes ``count`` files into folders of ten classes; the same files whenever it is called.

    Their longer sides are around 500 pixels, a third of them are portraits, and they have about 91 KB on average.
    """
    for number in range(count):
        height, width = size_of(number)
        path = folder / f"class{number % CLASSES}" / f"{number:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(number, height, width)).save(path, quality=QUALITY)


def size_of(number: int) -> tuple[int, int]:
    """Returns the height and width of a picture in pixels."""
    random = np.random.default_rng([number, 1])
    long = int(random.choice(_LONG))
    short = round(long / float(random.choice(_SHAPES)))
    return (long, short) if number % 3 == 0 else (short, long)


def picture(number: int, height: int, width: int) -> np.ndarray:
    """Returns uint8 ``[height, width, 3]``: a gradient of light, shapes with edges, and 1 / f noise over all."""
    random = np.random.default_rng([number, 0])
    corners = np.array(random.uniform(60, 200, (2, 2, 3)), np.uint8)
    canvas = Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(canvas)
    for _ in range(int(random.integers(8, 24))):
        center, reach = random.uniform(0, 1, 2) * (width, height), random.uniform(8, min(height, width) / 3, 2)
        colour = tuple(int(level) for level in random.uniform(20, 235, 3))
        box = [*(center - reach), *(center + reach)]
        (draw.ellipse if random.uniform() < 0.5 else draw.rectangle)(box, fill=colour)
    texture = _noise(random, height, width, 22.0)[..., None] + _tints(random, height, width)
    return np.clip(np.asarray(canvas, np.float32) + texture, 0, 255).astype(np.uint8)


def _noise(random: np.random.Generator, height: int, width: int, deviation: float) -> np.ndarray:
    """Noise whose amplitude falls as 1 / frequency, float32 ``[height, width]``."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(np.fft.rfft2(random.standard_normal((height, width))) / frequency, (height, width))
    return (noise * (deviation / noise.std())).astype(np.float32)


def _tints(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Colours vary less than light and slowly: noise of a quarter of the size for two of three channels."""
    shape = (height // 4 + 1, width // 4 + 1)
    planes = [Image.fromarray(_noise(random, *shape, 9.0)).resize((width, height)) for _ in range(2)]
    red, blue = (np.asarray(plane) for plane in planes)
    return np.stack([red, np.zeros_like(red), blue], axis=-1)
