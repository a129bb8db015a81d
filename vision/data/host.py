"""What the host does to an example: decode, crop, resize; a pure function of (seed, visit, index)."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from vision.data import framing
from vision.data.decode import DecodeError, Decoder, image_size, is_grey, open_image
from vision.data.framing import Crop, Interpolation, Size
from vision.data.source import Source

OnError = Literal["error", "skip"]
_PROBED = 1000


@dataclass(frozen=True)
class HostPart:
    """Decoding, cropping and resizing to one fixed shape; features of float32 have that shape, and stay as they are.

    Attributes:
      size: ``(height, width)`` of the output.
      channels: of the output.
      crop: ``name`` of one of :data:`vision.data.framing.CROPS`, and its options.
      decoder: library that decodes and resizes.
      interpolation: filter of the resizing.
      seed: of the draws of random crops.
    """

    size: Size
    channels: int
    crop: dict[str, Any] = field(default_factory=lambda: {"name": "center", "fraction": 1.0})
    decoder: Decoder = "opencv"
    interpolation: Interpolation = "bilinear"
    seed: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an output, ``(height, width, channels)``."""
        return (*self.size, self.channels)

    @property
    def draws(self) -> bool:
        """Whether the output differs from visit to visit."""
        return self.crop["name"] in framing.DRAWS

    @cached_property
    def _crop(self) -> Crop:
        options = {key: value for key, value in self.crop.items() if key != "name"}
        return framing.CROPS[self.crop["name"]](**options)

    def __call__(self, image: bytes | np.ndarray, *, visit: int, index: int) -> np.ndarray:
        """Returns uint8 ``[height, width, channels]``; of features float32.

        Raises:
          DecodeError: the image does not decode, or features have another shape.
        """
        if isinstance(image, np.ndarray) and is_features(image):
            if image.shape != self.shape:
                raise DecodeError(f"features of shape {list(image.shape)}, expected {list(self.shape)}")
            return image
        uniforms = framing.Uniforms(self.seed, visit, index) if self.draws else _NONE
        if isinstance(image, np.ndarray):
            pixels = _with_channels(image, self.channels)
            box = self._crop((pixels.shape[0], pixels.shape[1]), self.size, uniforms)
        else:
            opened = open_image(image)
            size = opened.size
            box = self._crop(size, self.size, uniforms)
            # A part as large as twice the output can come from a JPEG decoded at half its size.
            at_least = tuple(
                int(np.ceil(whole * out / part)) if part >= 2 * out else whole
                for whole, out, part in zip(size, self.size, (box.height, box.width), strict=True)
            )
            pixels = opened.decode(channels=self.channels, decoder=self.decoder, at_least=(at_least[0], at_least[1]))
            if pixels.shape[:2] != size:
                rows, columns = pixels.shape[0] / size[0], pixels.shape[1] / size[1]
                box = framing.Box(box.top * rows, box.left * columns, box.height * rows, box.width * columns)
        return framing.resize(pixels, box, self.size, interpolation=self.interpolation, library=self.decoder)


_NONE = framing.Uniforms(0, 0, 0)


def _with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    if image.shape[-1] == channels:
        return image
    if channels == 3:
        return np.repeat(image[..., :1], 3, axis=-1)
    red, green, blue = (image[..., channel].astype(np.int64) for channel in range(3))
    return ((19595 * red + 38470 * green + 7471 * blue + 2**15) >> 16).astype(np.uint8)[..., None]


def dtype_of(source: Source) -> np.dtype:
    """Returns the type of the images that the host makes of a source: uint8, or float32 where they are features."""
    try:
        (example,) = source.read([0])
    except OSError:  # comes again where it is named
        return np.dtype(np.uint8)
    return np.dtype(np.float32 if is_features(example["image"]) else np.uint8)


def is_features(image: bytes | np.ndarray) -> bool:
    """Whether an example's image is no picture, but what a network said of one."""
    return isinstance(image, np.ndarray) and image.dtype == np.float32


class Probe(NamedTuple):
    """What a look at some images told.

    Attributes:
      common: ``(height, width)`` of all of them, or None where they differ.
      typical: the median of their shorter sides.
      smallest: height and width, each the smallest seen.
      largest: likewise.
      channels: 1 where all are grey, else 3; of features, how many there are.
    """

    common: Size | None
    typical: int
    smallest: Size
    largest: Size
    channels: int


def probe(source: Source) -> Probe:
    """Looks at the headers of up to 1,000 images, spread evenly over a source.

    Raises:
      ValueError: none of them decodes.
    """
    positions = np.unique(np.linspace(0, len(source) - 1, min(len(source), _PROBED)).astype(int)).tolist()
    sizes: list[Size] = []
    grey, features = True, None
    for image in (source.read([position])[0]["image"] for position in positions):  # one at a time: they may be large
        if isinstance(image, np.ndarray):
            sizes.append((image.shape[0], image.shape[1]))
            grey &= image.shape[2] == 1
            features = image.shape[2] if is_features(image) else None
            continue
        try:
            sizes.append(image_size(image))
            grey &= is_grey(image)
        except DecodeError:
            continue  # named or passed over when it is its turn
    if not sizes:
        raise ValueError(f"none of {len(positions)} images decodes, for example {source.where(0)}")
    heights, widths = zip(*sizes, strict=True)
    return Probe(
        common=sizes[0] if len(set(sizes)) == 1 else None,
        typical=int(np.median([min(size) for size in sizes])),
        smallest=(min(heights), min(widths)),
        largest=(max(heights), max(widths)),
        channels=features or (1 if grey else 3),
    )
