"""A TFDS builder for the handwritten digits that scikit-learn ships; it needs neither download nor TensorFlow."""

import io
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

_TEST_FRACTION = 0.2
_SPLIT_SEED = 0


class Digits(tfds.core.GeneratorBasedBuilder):
    """1,797 digits of 43 writers, 8x8 grey levels (Alpaydin and Kaynak 1998, UCI "Optical recognition").

    Grey levels 0 to 16 are stored as 0 to 255. The split is stratified by class, shuffled, 80/20 and fixed:
    1,437 training and 360 test images.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {"image": tfds.features.Image(shape=(8, 8, 1)), "label": tfds.features.ClassLabel(num_classes=10)}
        )
        return tfds.core.DatasetInfo(
            builder=self, description=self.__doc__, features=features, supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        train, test = split_indices()
        return {"train": self._generate_examples(train), "test": self._generate_examples(test)}

    def _generate_examples(self, indices: np.ndarray) -> Iterator[tuple[int, dict]]:
        images, labels = raw_digits()
        for index in indices:
            yield int(index), {"image": _png(images[index]), "label": int(labels[index])}


def raw_digits() -> tuple[np.ndarray, np.ndarray]:
    """Returns all images as uint8 ``[1797, 8, 8]`` in 0 to 255, and their labels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.round(digits.images * (255.0 / 16.0)).astype(np.uint8), digits.target


def split_indices() -> tuple[np.ndarray, np.ndarray]:
    """Returns the training and the test examples' positions in scikit-learn's order."""
    from sklearn.model_selection import train_test_split

    _, labels = raw_digits()
    train, test = train_test_split(
        np.arange(len(labels)), test_size=_TEST_FRACTION, stratify=labels, shuffle=True, random_state=_SPLIT_SEED
    )
    return train, test


def _png(image: np.ndarray) -> io.BytesIO:
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, format="PNG")
    encoded.seek(0)
    return encoded
