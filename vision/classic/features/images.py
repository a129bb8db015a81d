"""What every feature made from images asks of them, and their grey levels."""

import numpy as np


def check_images(images: np.ndarray, name: str, *, least: int = 1, window: str = "one pixel") -> None:
    """Raises a ValueError unless these are uint8 images ``[n, height, width, channels]`` of at least ``least`` pixels.

    Args:
      images: what was given.
      name: of the feature, for the message.
      least: the smallest side that the feature can do with, in pixels.
      window: what is that large, for the message.

    Raises:
      ValueError: pixels that are NaN, another type or shape, or images smaller than the window.
    """
    if images.dtype.kind == "f" and np.isnan(images).any():
        broken = np.flatnonzero(np.isnan(images).reshape(len(images), -1).any(1))
        raise ValueError(f"{name}: pixels of {len(broken)} of {len(images)} images are NaN, first in image {broken[0]}")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
        got = f"{images.dtype} {list(images.shape)}"
        raise ValueError(f"{name}: takes uint8 images [n, height, width, 1 or 3 channels], got {got}")
    height, width = images.shape[1:3]
    if min(height, width) < least:
        raise ValueError(f"{name}: images of {height}x{width} pixels are smaller than {window}, {least}x{least} pixels")


def grey_levels(images: np.ndarray) -> np.ndarray:
    """Returns the luma of ITU-R BT.601, 0 to 255, float32 ``[n, height, width]``; that of a grey image is the image."""
    if images.shape[-1] == 1:
        return images[..., 0].astype(np.float32)
    return images.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
