"""Small images in every format, with what their pixels must be by closed form."""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image

EXIF_ORIENTATION = 0x0112


def encode(image: np.ndarray | Image.Image, kind: str = "PNG", **options) -> bytes:
    """Returns the content of an image file."""
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def smooth(height: int, width: int, channels: int = 3) -> np.ndarray:
    """A picture without noise or symmetry, in the range of levels that no colour conversion clips."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = [90 + 60 * x + 40 * np.sin(3 * x + 2 * y + k) * y + 20 * k for k in range(channels)]
    image = np.clip(np.stack(waves, axis=-1), 40, 215).astype(np.uint8)
    return image if channels > 1 else image[..., 0]


def noise(height: int, width: int, channels: int = 3, *, seed: int = 0) -> np.ndarray:
    """Every level of every channel."""
    image = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return image if channels > 1 else image[..., 0]


def with_orientation(image: np.ndarray, orientation: int, kind: str = "JPEG", **options) -> bytes:
    """Returns an image file that asks to be turned."""
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    return encode(image, kind, exif=exif, **options)


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The closed form of an image laid over white, not rounded."""
    weight = alpha[..., None].astype(float) / 255
    return colour * weight + 255 * (1 - weight)


class Case(NamedTuple):
    """A lossless file, and its pixels ``[height, width, channels]``; these may be off by ``bound`` levels."""

    encoded: bytes
    pixels: np.ndarray
    bound: float = 0


def lossless() -> dict[str, Case]:
    """Every mode that keeps its pixels, of 7x9 pixels."""
    colour, grey, alpha = noise(7, 9), noise(7, 9, 1, seed=1), noise(7, 9, 1, seed=2)
    bits = grey > 127
    deep = np.random.default_rng(3).integers(0, 65536, (7, 9)).astype(np.uint16)
    by_257 = np.round(deep / 257).astype(np.uint8)[..., None]
    palette = Image.fromarray(grey % 16).copy()
    indexed = Image.new("P", (9, 7))
    indexed.putpalette(noise(1, 256, seed=4).reshape(-1).tolist())
    indexed.putdata((grey % 16).reshape(-1).tolist())
    looked_up = np.asarray(indexed.getpalette(), np.uint8).reshape(-1, 3)[grey % 16]
    clear = np.where((grey % 16 == 3)[..., None], 255, looked_up)
    rgba = np.dstack([colour, alpha])
    cases = {
        "grey bitmap": Case(encode(Image.fromarray(grey), "BMP"), grey[..., None]),
        "PNG grey": Case(encode(grey), grey[..., None]),
        "PNG RGB": Case(encode(colour), colour),
        "PNG RGBA": Case(encode(rgba), over_white(colour, alpha), 1),
        "PNG LA": Case(
            encode(Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)])),
            over_white(grey[..., None], alpha),
            1,
        ),
        "PNG palette": Case(encode(indexed), looked_up),
        "PNG palette, one index clear": Case(encode(indexed, transparency=3), clear),
        "PNG palette, alpha by index": Case(
            encode(indexed, transparency=bytes(range(0, 256, 16))), over_white(looked_up, grey % 16 * 16), 1
        ),
        "PNG grey, one level clear": Case(
            encode(palette, transparency=3), np.where(grey % 16 == 3, 255, grey % 16)[..., None]
        ),
        "PNG RGB, one colour clear": Case(
            encode(np.zeros((2, 3, 3), np.uint8), transparency=(0, 0, 0)), np.full((2, 3, 3), 255)
        ),
        "PNG one bit": Case(encode(Image.fromarray(bits)), np.where(bits, 255, 0)[..., None]),
        "PNG 16-bit grey": Case(encode(deep), by_257),
        "GIF": Case(encode(indexed, "GIF"), looked_up),
        "GIF, one index clear": Case(encode(indexed, "GIF", transparency=3), clear),
        "animated GIF": Case(
            encode(indexed, "GIF", save_all=True, append_images=[Image.new("P", (9, 7))], duration=10), looked_up
        ),
        "BMP RGB": Case(encode(colour, "BMP"), colour),
        "TIFF RGB": Case(encode(colour, "TIFF"), colour),
        "TIFF LZW": Case(encode(colour, "TIFF", compression="tiff_lzw"), colour),
        "TIFF 16-bit": Case(encode(deep, "TIFF"), by_257),
        "TIFF 32-bit whole numbers": Case(encode(deep.astype(np.int32), "TIFF"), by_257),
        "TIFF one bit": Case(encode(Image.fromarray(bits), "TIFF"), np.where(bits, 255, 0)[..., None]),
        "PPM": Case(encode(colour, "PPM"), colour),
        "PGM": Case(encode(grey, "PPM"), grey[..., None]),
        "PGM 16-bit": Case(b"P5 9 7 65535\n" + deep.astype(">u2").tobytes(), by_257),
        "WebP lossless": Case(encode(colour, "WEBP", lossless=True), colour),
        "WebP alpha": Case(encode(rgba, "WEBP", lossless=True, exact=True), over_white(colour, alpha), 1),
        "TGA": Case(encode(colour, "TGA"), colour),
        "ICO": Case(encode(rgba, "ICO", sizes=[(9, 7)]), over_white(colour, alpha), 1),
        "JPEG 2000": Case(encode(colour, "JPEG2000", irreversible=False), colour),
    }
    return cases


def lossy() -> dict[str, bytes]:
    """Every lossy format, of the smooth picture with 24x36 pixels."""
    colour, grey = smooth(24, 36), smooth(24, 36, 1)
    cmyk = Image.fromarray(colour).convert("CMYK")
    return {
        "JPEG": encode(colour, "JPEG", quality=95),
        "JPEG grey": encode(grey, "JPEG", quality=95),
        "JPEG progressive": encode(colour, "JPEG", quality=95, progressive=True),
        "JPEG 4:4:4": encode(colour, "JPEG", quality=95, subsampling=0),
        "JPEG CMYK": encode(cmyk, "JPEG", quality=95),
        "JPEG of RGB components": encode(colour, "JPEG", quality=95, keep_rgb=True),
        "WebP": encode(colour, "WEBP", quality=95),
        "AVIF": encode(colour, "AVIF", quality=95),
        "TIFF JPEG": encode(colour, "TIFF", compression="jpeg", quality=95),
        "MPO": encode(colour, "MPO", save_all=True, append_images=[Image.fromarray(colour)], quality=95),
    }
