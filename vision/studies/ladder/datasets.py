"""The data that the ladder stands on, and how much of them and of training each size takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vision.errors import UserError, did_you_mean

Section = Mapping[str, Any]
SIZES = ("small", "medium", "full")


@dataclass(frozen=True)
class Ground:
    """A data set at a size.

    Attributes:
      name: of the data set.
      train: split that every rung learns from.
      test: split that every rung is measured on.
      channels: 1 for grey, 3 for colour.
      native: side of the images in pixels.
      side: that networks get, where the images themselves are too small for them.
      mean: per channel, of pixels scaled to [0, 1] (of the training split).
      std: likewise.
      augment: what networks see of an image, beside the image itself.
      epochs: of the networks.
      width: how wide networks are, in channels of the first block.
      neighbours: of the nearest-neighbour rungs.
    """

    name: str
    train: str
    test: str
    channels: int
    native: int
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: tuple[Section, ...]
    epochs: int
    width: int
    neighbours: int

    def data(self, *, side: int | None = None) -> dict[str, Any]:
        """Returns the data section that trained and fitted rungs share."""
        return {"name": self.name, "split": self.train, "channels": self.channels, "image_size": side or self.native}


_SHIFT = ({"name": "random_shift", "pixels": 1},)
_SHIFT_FLIP = ({"name": "random_shift", "pixels": 1}, {"name": "random_flip"})
_CROP_FLIP = ({"name": "random_shift", "pixels": 4}, {"name": "random_flip"})
_GROUNDS: dict[str, dict[str, Any]] = {
    "digits": {"channels": 1, "native": 8, "side": 16, "mean": (0.306,), "std": (0.376,), "neighbours": 3},
    "fashion_mnist": {"channels": 1, "native": 28, "side": 28, "mean": (0.286,), "std": (0.353,), "neighbours": 5},
    "cifar10": {
        "channels": 3,
        "native": 32,
        "side": 32,
        "mean": (0.4914, 0.4822, 0.4465),
        "std": (0.2470, 0.2435, 0.2616),
        "neighbours": 10,
    },
}
_AUGMENT = {"digits": _SHIFT, "fashion_mnist": _SHIFT_FLIP, "cifar10": _CROP_FLIP}
_AMOUNTS: dict[str, dict[str, dict[str, Any]]] = {
    "digits": {
        "small": {"train": "train", "test": "test", "epochs": 25, "width": 16},
        "medium": {"train": "train", "test": "test", "epochs": 100, "width": 16},
        "full": {"train": "train", "test": "test", "epochs": 200, "width": 32},
    },
    "fashion_mnist": {
        "small": {"train": "train[:6000]", "test": "test[:2000]", "epochs": 10, "width": 16},
        "medium": {"train": "train[:20000]", "test": "test", "epochs": 10, "width": 16},
        "full": {"train": "train", "test": "test", "epochs": 20, "width": 32},
    },
    "cifar10": {
        "small": {"train": "train[:6000]", "test": "test[:2000]", "epochs": 10, "width": 16},
        "medium": {"train": "train[:20000]", "test": "test", "epochs": 15, "width": 16},
        "full": {"train": "train", "test": "test", "epochs": 30, "width": 32},
    },
}


def ground(dataset: str, size: str) -> Ground:
    """Returns a data set at a size.

    Raises:
      UserError: there is no such data set or size.
    """
    for what, word, known in (("--dataset", dataset, _GROUNDS), ("--size", size, SIZES)):
        if word not in known:
            raise UserError(f"{what}: unknown {word!r}{did_you_mean(word, known)}; known: {', '.join(known)}")
    return Ground(name=dataset, augment=_AUGMENT[dataset], **_GROUNDS[dataset], **_AMOUNTS[dataset][size])
