"""The images that the small networks of the study learn."""

import numpy as np

from vision.data.host import HostPart, probe
from vision.data.materialize import materialize
from vision.data.sources import Opener
from vision.errors import UserError
from vision.studies.optimization.small_runs import Data

MOST = 2000


def read(name: str) -> Data:
    """Returns the first 2,000 training and test images of a data set, standardised over all training pixels.

    Raises:
      UserError: the data are not there, or the images differ in size.
    """
    opener = Opener(name)
    (images, labels), (test_images, test_labels) = (_arrays(opener, name, split) for split in ("train", "test"))
    mean, deviation = images.mean(), images.std()
    return Data((images - mean) / deviation, labels, (test_images - mean) / deviation, test_labels)


def _arrays(opener: Opener, name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    count = min(MOST, len(opener(split)))
    source = opener(f"{split}[:{count}]")
    looked_at = probe(source)
    if looked_at.common is None:
        raise UserError(f"--dataset {name}: its images differ in size, which a small network does not take")
    arrays = materialize(source, HostPart(looked_at.common, looked_at.channels)).arrays
    return arrays["image"].astype(np.float32) / 255, np.asarray(arrays["label"], np.int32)
