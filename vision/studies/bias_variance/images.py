"""Images of a data set as rows of pixels."""

import numpy as np

from vision.data.host import HostPart, probe
from vision.data.materialize import materialize
from vision.data.source import Subset
from vision.data.sources import Opener
from vision.errors import UserError


def read(name: str, split: str, *, count: int | None = None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns pixels float32 ``[n, height * width * channels]`` in [0, 1], and labels int32 ``[n]``.

    Args:
      name: of the data set, see :class:`vision.data.sources.Opener`.
      split: such as ``train``.
      count: how many are drawn at random, without repeats and in their order; None for all.
      seed: of the draw.

    Raises:
      UserError: the data are not there, or the images differ in size.
    """
    source = Opener(name)(split)
    looked_at = probe(source)
    if looked_at.common is None:
        raise UserError(f"--dataset {name}: its images differ in size, so pixels cannot be compared; choose another")
    if count is not None and count < len(source):
        source = Subset(source, np.sort(np.random.default_rng(seed).choice(len(source), count, replace=False)))
    part = HostPart(looked_at.common, looked_at.channels)
    arrays = materialize(source, part).arrays
    pixels = arrays["image"].reshape(len(source), -1).astype(np.float32) / 255
    return pixels, np.asarray(arrays["label"], np.int32)
