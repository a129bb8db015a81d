"""NumPy arrays in a file ``.npz``, or handed over in memory."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vision.data.source import ArraySource
from vision.errors import UserError

_NAMES = {"image": "image", "images": "image", "x": "image", "label": "label", "labels": "label", "y": "label"}
_NAMES |= {"target": "target", "caption": "caption", "num_captions": "num_captions"}


def read(path: Path) -> dict[str, ArraySource]:
    """Returns the splits of an ``.npz`` file.

    Its arrays are ``train_image``, ``train_label``, ``test_image``, ... or, as Keras writes them, ``x_train``,
    ``y_train``; without a split in the name they are ``train``. Images are ``[n, height, width]`` or
    ``[n, height, width, channels]``, uint8.

    Raises:
      UserError: the file cannot be read or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, AttributeError) as error:
        raise UserError(f"config.data.name: {path} cannot be read as .npz: {error}") from error
    splits: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        words = name.lower().split("_", 1)
        if name.lower() in _NAMES:
            split, key = "train", _NAMES[name.lower()]
        elif len(words) == 2 and words[0] in _NAMES and words[1] not in _NAMES:
            split, key = words[1], _NAMES[words[0]]
        elif len(words) == 2 and words[1] in _NAMES:
            split, key = words[0], _NAMES[words[1]]
        else:
            raise UserError(f"{path}: array {name!r}; write image, label, train_image, x_train and the like")
        splits.setdefault(split, {})[key] = array
    classes = 1 + max((int(each["label"].max()) for each in splits.values() if _is_classes(each)), default=-1)
    return {
        name: from_arrays(each, num_classes=classes or None, what=f"{path}, {name}") for name, each in splits.items()
    }


def _is_classes(arrays: Mapping[str, np.ndarray]) -> bool:
    return "label" in arrays and arrays["label"].size > 0 and arrays["label"].squeeze().ndim == 1


def from_arrays(
    arrays: Mapping[str, np.ndarray],
    *,
    num_classes: int | None = None,
    class_names: tuple[str, ...] = (),
    what: str = "arrays",
) -> ArraySource:
    """Returns a source of arrays in memory.

    Args:
      arrays: ``image`` uint8 ``[n, height, width]`` or ``[n, height, width, channels]``, and for example ``label``,
        whole numbers ``[n]`` or zeros and ones ``[n, classes]``.
      num_classes: None for as many as the labels (or ``target``'s outputs) show.
      class_names: where known.
      what: names the arrays in messages.

    Raises:
      UserError: the arrays are not these.
    """
    ready = {name: np.asarray(array) for name, array in arrays.items()}
    image = ready.get("image")
    if image is None or image.dtype != np.uint8 or image.ndim not in (3, 4):
        got = "nothing" if image is None else f"{image.dtype} {image.shape}"
        raise UserError(f"{what}: image must be uint8 [n, height, width(, channels)], got {got}")
    ready["image"] = image[..., None] if image.ndim == 3 else image
    if ready["image"].shape[-1] not in (1, 3):
        raise UserError(f"{what}: images need 1 or 3 channels, got {ready['image'].shape[-1]}")
    label = ready.get("label")
    classes = num_classes or 0
    if label is not None:
        label = label[:, 0] if label.ndim == 2 and label.shape[1] == 1 else label
        whole = np.issubdtype(label.dtype, np.integer) or np.issubdtype(label.dtype, np.bool_)
        if label.ndim == 2:
            ready["label"], classes = label.astype(np.float32), num_classes or label.shape[1]
        elif label.ndim == 1 and whole and label.size:
            ready["label"], classes = label.astype(np.int32), num_classes or int(label.max()) + 1
        else:
            raise UserError(f"{what}: label must be whole numbers [n] or [n, classes], got {label.dtype} {label.shape}")
    elif "target" in ready:
        target = ready["target"].astype(np.float32)
        ready["target"] = target[:, None] if target.ndim == 1 else target
        classes = ready["target"].shape[1]
    try:
        return ArraySource(ready, classes, class_names)
    except ValueError as error:
        raise UserError(f"{what}: {error}") from error
