"""From the bytes of an image file to pixels; whatever is wrong with them is one readable error.

Every exception is caught where Pillow parses: on broken files its readers raise whatever they stumble over.
"""

import contextlib
import io
import threading
import warnings
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

Decoder = Literal["opencv", "pillow"]
MAX_PIXELS = 2**29
_MAGIC = {b"\xff\xd8\xff": ("JPEG",), b"\x89PNG\r\n\x1a\n": ("PNG",), b"RIFF": ("WEBP",), b"GIF8": ("GIF",)}
Image.MAX_IMAGE_PIXELS = None  # the limit below takes the place of Pillow's, which warns and so ends a strict program
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO", "TGA")
# What stands before the orientation in a format that can have one; Pillow itself turns a TIFF.
_MARKS = {"JPEG": b"Exif", "MPO": b"Exif", "PNG": b"eXIf", "WEBP": b"EXIF", "AVIF": b""}


class DecodeError(ValueError):
    """An image that does not decode; the message says why, not which."""


def image_size(encoded: bytes) -> tuple[int, int]:
    """Returns ``(height, width)`` of an encoded image as it will be decoded, from its header alone.

    Raises:
      DecodeError: the header cannot be read, or promises more than 2**29 pixels.
    """
    return open_image(encoded).size


def is_grey(encoded: bytes) -> bool:
    """Returns whether an encoded image has no colour, by its header.

    Raises:
      DecodeError: the header cannot be read.
    """
    mode = open_image(encoded).image.mode
    return mode in ("1", "L", "LA", "La") or mode.startswith(("I", "F"))


def decode(
    encoded: bytes, *, channels: int | None = None, decoder: Decoder = "pillow", at_least: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """Returns an encoded image as uint8 ``[height, width, channels]``; see :meth:`Opened.decode`.

    Raises:
      DecodeError: it does not decode, or has more than 2**29 pixels.
    """
    return open_image(encoded).decode(channels=channels, decoder=decoder, at_least=at_least)


class Opened(NamedTuple):
    """An image whose header has been read.

    Attributes:
      encoded: content of the file.
      image: Pillow's view of it, not decoded yet.
      orientation: as a camera noted it (EXIF), 1 to 8; from 5 on, width and height change places.
    """

    encoded: bytes
    image: Image.Image
    orientation: int

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` as it will be decoded."""
        width, height = self.image.size
        return (width, height) if self.orientation >= 5 else (height, width)

    def decode(
        self, *, channels: int | None = None, decoder: Decoder = "pillow", at_least: tuple[int, int] = (0, 0)
    ) -> np.ndarray:
        """Returns the pixels, uint8 ``[height, width, channels]``; an image can be decoded once.

        One of :data:`FORMATS`; of the others that Pillow knows, some start programs and none is of photographs. The
        orientation is applied; CMYK and palettes become RGB; transparent images are laid over white; 16-bit grey
        levels are divided by 257, of 16-bit colours the high byte is kept; of an animation the first frame is
        taken. OpenCV decodes whole 8-bit JPEG files, about a third faster; all else goes through Pillow either way.

        Args:
          channels: 1 for grey or 3 for colour; None for what the image has.
          decoder: which library.
          at_least: ``(height, width)``; a JPEG may be decoded at half, a quarter or an eighth of its size, but not
            below this. (0, 0) decodes at full size.

        Raises:
          DecodeError: it does not decode.
        """
        if decoder == "opencv" and self.image.mode in ("L", "RGB") and _is_whole_jpeg(self.encoded):
            pixels = _with_opencv(self, channels, at_least)
            if pixels is not None:
                return pixels
        try:
            with _quietly():
                wanted = _draft_size(self.image.size, at_least, self.orientation >= 5)
                self.image.draft("L" if channels == 1 else "", wanted)
                self.image.load()
                return _upright(_as_array(self.image, channels), self.orientation)
        except Exception as error:  # whatever a reader stumbles over in a broken file; the line names it
            raise DecodeError(_reason(error)) from error


def open_image(encoded: bytes) -> Opened:
    """Reads the header of an encoded image.

    Raises:
      DecodeError: it cannot be read, or promises more than 2**29 pixels.
    """
    if not encoded:
        raise DecodeError("the file is empty or cannot be read")
    try:
        with _quietly():
            image = Image.open(io.BytesIO(encoded), formats=_formats(encoded))
    except Image.UnidentifiedImageError as error:
        raise DecodeError("no image, or none of a format that is read") from error
    except Exception as error:  # likewise
        raise DecodeError(_reason(error)) from error
    width, height = image.size
    if width < 1 or height < 1:
        raise DecodeError(f"no pixels: {width}x{height}")
    if width * height > MAX_PIXELS:
        raise DecodeError(f"{width}x{height} pixels are more than {MAX_PIXELS}")
    return Opened(encoded, image, _orientation(image, encoded))


def _formats(encoded: bytes) -> list[str]:
    """The format that the first bytes tell, or all; Pillow would try its readers one after another."""
    return next((list(names) for magic, names in _MAGIC.items() if encoded.startswith(magic)), list(FORMATS))


def _orientation(image: Image.Image, encoded: bytes) -> int:
    """The EXIF orientation, 1 where there is none; from 5 on, width and height change places."""
    mark = _MARKS.get(image.format or "")
    if mark is None or mark not in (encoded[:65536] if mark == b"Exif" else encoded):
        return 1
    try:
        with _quietly():
            value = image.getexif().get(0x0112, 1)
    except Exception:  # metadata that cannot be read turn nothing; the pixels are still good
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turns and mirrors an image as its EXIF orientation asks."""
    pixels = pixels.transpose(1, 0, 2) if orientation >= 5 else pixels
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(pixels[::rows, ::columns])


def _as_array(image: Image.Image, channels: int | None) -> np.ndarray:
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I"):
        levels = np.asarray(image)
        if levels.min() < 0 or levels.max() > 65535:
            raise ValueError("integer pixels beyond 16 bits")
        levels = levels.astype(np.uint16)
        levels[levels == image.info.get("transparency", -1)] = 65535
        image = Image.fromarray((levels // 257 + (levels % 257 > 128)).astype(np.uint8))  # rounded
    elif image.mode == "F":
        raise ValueError("floating-point pixels, whose scale is not known")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert(
            "L" if image.mode in ("LA", "La", "L", "1") else "RGB"
        )
    wanted = {1: "L", 3: "RGB", None: "L" if image.mode in ("1", "L") else "RGB"}[channels]
    pixels = np.asarray(image if image.mode == wanted else image.convert(wanted))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _is_whole_jpeg(encoded: bytes) -> bool:
    """OpenCV paints what is missing of a cut JPEG grey and says nothing, so only those with an end go there."""
    return encoded[:3] == b"\xff\xd8\xff" and b"\xff\xd9" in encoded[-64:]


def _with_opencv(opened: Opened, channels: int | None, at_least: tuple[int, int]) -> np.ndarray | None:
    """Decodes a JPEG of one or three components; None leaves it to Pillow."""
    import cv2

    grey = opened.image.mode == "L" if channels is None else channels == 1
    halvings = _halvings(opened.size, at_least)
    flags = (cv2.IMREAD_REDUCED_GRAYSCALE_2, cv2.IMREAD_REDUCED_GRAYSCALE_4, cv2.IMREAD_REDUCED_GRAYSCALE_8)
    if not grey:
        flags = (cv2.IMREAD_REDUCED_COLOR_2, cv2.IMREAD_REDUCED_COLOR_4, cv2.IMREAD_REDUCED_COLOR_8)
    whole = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR_RGB
    try:
        how = (flags[halvings - 1] if halvings else whole) | cv2.IMREAD_IGNORE_ORIENTATION
        pixels = cv2.imdecode(np.frombuffer(opened.encoded, np.uint8), how)
    except cv2.error:
        return None
    if pixels is None:
        return None
    if halvings and not grey:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return _upright(pixels[..., None] if pixels.ndim == 2 else pixels, opened.orientation)


def _halvings(size: tuple[int, int], at_least: tuple[int, int]) -> int:
    """How often both sides can be halved, at most three times, without falling below ``at_least``."""
    if at_least <= (0, 0):
        return 0
    return max(n for n in range(4) if n == 0 or all(s // 2**n >= a for s, a in zip(size, at_least, strict=True)))


def _draft_size(size: tuple[int, int], at_least: tuple[int, int], turned: bool) -> tuple[int, int]:
    """The (width, height) to ask Pillow for."""
    height, width = at_least[::-1] if turned else at_least
    halvings = _halvings((size[1], size[0]), (height, width))
    return max(size[0] // 2**halvings, 1), max(size[1] // 2**halvings, 1)


_LOCK = threading.Lock()
_SILENCE: dict[str, Any] = {"readers": 0}


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Drops Pillow's warnings of odd metadata; the pixels are what counts.

    ``warnings.catch_warnings`` alone is not for threads: two that overlap leave behind each other's filters.
    """
    with _LOCK:
        if not _SILENCE["readers"]:
            _SILENCE["filters"] = warnings.catch_warnings()
            _SILENCE["filters"].__enter__()
            warnings.filterwarnings("ignore", module="PIL")
        _SILENCE["readers"] += 1
    try:
        yield
    finally:
        with _LOCK:
            _SILENCE["readers"] -= 1
            if not _SILENCE["readers"]:
                _SILENCE["filters"].__exit__(None, None, None)


def _reason(error: BaseException) -> str:
    """One line; an exception without a message gives its name."""
    return " ".join(str(error).split())[:200] or type(error).__name__
