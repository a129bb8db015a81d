"""NumPy arrays in a file ``.npz``, or handed over in memory."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vision.data.source import MAX_CLASSES, ArraySource
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
        with open(path, "rb") as handle:
            file = np.load(handle, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array without a name; write it with np.savez")
            arrays = {name: file[name] for name in file.files}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise ValueError("a member is no array")
    except Exception as error:  # on broken files, NumPy and zipfile raise whatever they stumble over
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"config.data.name: {path} cannot be read as .npz: {reason}") from error
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
            raise UserError(f"{path}: array {name!r}; those that are read are image, label, train_image, x_train, ...")
        splits.setdefault(split, {})[key] = array
    classes = 1 + max((int(each["label"].max()) for each in splits.values() if _is_classes(each)), default=-1)
    return {
        name: from_arrays(each, num_classes=classes or None, what=f"{path}, {name}") for name, each in splits.items()
    }


def _is_classes(arrays: Mapping[str, np.ndarray]) -> bool:
    label = arrays.get("label", np.zeros(0))
    return label.size > 0 and label.size == len(label) and np.issubdtype(label.dtype, np.integer)


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
    ready["image"] = _images(ready.pop("image", None), what)
    ready = {"image": ready.pop("image"), **ready}
    flat = next((name for name, array in ready.items() if not array.ndim or array.dtype.kind not in "biuf"), None)
    if flat is not None:
        got = f"{ready[flat].dtype} {ready[flat].shape}"
        raise UserError(f"{what}: {flat} must be numbers, as many as there are images, got {got}")
    classes = num_classes or 0
    if "label" in ready:
        ready["label"] = _labels(ready["label"], what)
        several = ready["label"].ndim == 2
        classes = num_classes or (ready["label"].shape[1] if several else int(ready["label"].max()) + 1)
    elif "target" in ready:
        target = ready["target"].astype(np.float32)
        ready["target"] = target[:, None] if target.ndim == 1 else target
        classes = ready["target"].shape[1]
    try:
        return ArraySource(ready, classes, class_names)
    except ValueError as error:
        raise UserError(f"{what}: {error}") from error


def _images(image: np.ndarray | None, what: str) -> np.ndarray:
    if image is None or image.dtype != np.uint8 or image.ndim not in (3, 4) or not image.size:
        got = "nothing" if image is None else f"{image.dtype} {image.shape}"
        raise UserError(f"{what}: image must be uint8 [n, height, width(, channels)], got {got}")
    image = image[..., None] if image.ndim == 3 else image
    if image.shape[-1] not in (1, 3):
        raise UserError(f"{what}: images need 1 or 3 channels, got {image.shape[-1]}")
    return image


def _labels(label: np.ndarray, what: str) -> np.ndarray:
    """Returns classes int32 ``[n]``, or shares in classes float32 ``[n, classes]``."""
    label = label[:, 0] if label.ndim == 2 and label.shape[1] == 1 else label
    got = f"{label.dtype} {label.shape}"
    if label.ndim == 2 and label.size and 0 <= label.min() <= label.max() <= 1:  # not true of NaN
        return label.astype(np.float32)
    if label.ndim != 1 or not label.size or label.dtype.kind not in "biu":
        raise UserError(f"{what}: label must be whole numbers [n], or 0 to 1 [n, classes], got {got}")
    if not 0 <= int(label.min()) <= int(label.max()) < MAX_CLASSES:
        raise UserError(f"{what}: label reaches from {label.min()} to {label.max()}, not from 0 to {MAX_CLASSES - 1}")
    return label.astype(np.int32)
