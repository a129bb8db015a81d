"""Data sets by their TFDS name, read without TensorFlow."""

import contextlib
import importlib
import io
import os
import sys
from pathlib import Path

import numpy as np
from filelock import FileLock

from vision.data.source import ArraySource, decode
from vision.errors import UserError, did_you_mean

OWN_BUILDERS = ("digits",)
_CHUNK = 1024


def data_folder(data_dir: str | None) -> Path:
    """Returns the folder of prepared data sets: as given, ``TFDS_DATA_DIR``, or ``~/tensorflow_datasets``."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def load(name: str, split: str, *, data_dir: str | None = None) -> ArraySource:
    """Reads one split of a prepared TFDS data set into memory; our own data sets are prepared on first use.

    Args:
      name: TFDS name such as ``fashion_mnist``, optionally ``name/config``.
      split: TFDS split, slices included: ``train``, ``test``, ``train[:90%]``.
      data_dir: folder of prepared data sets; see :func:`data_folder`.

    Raises:
      UserError: the data set is not prepared, the split does not exist, or an image does not decode.
    """
    import tensorflow_datasets as tfds

    folder = data_folder(data_dir)
    version = _newest_version(folder / name)
    if version is None and name in OWN_BUILDERS:
        version = _prepare_own(name, folder)
    if version is None:
        known = {*OWN_BUILDERS, *(item.name for item in folder.glob("*") if item.is_dir())}
        raise UserError(
            f"config.data.name: {name!r} is not prepared in {folder}{did_you_mean(name, known)}; "
            f"set TFDS_DATA_DIR or config.data.data_dir to the folder that has it (known: {', '.join(sorted(known))})"
        )
    builder = tfds.builder_from_directory(version)
    features = builder.info.features
    try:
        raw = builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})
    except (ValueError, KeyError) as error:
        splits = ", ".join(builder.info.splits)
        raise UserError(
            f"data split {split!r} of {name}: {str(error).splitlines()[0]}; its splits: {splits}"
        ) from error
    if not len(raw):
        raise UserError(f"data split {split!r} of {name} is empty")
    images, labels = [], []
    for start in range(0, len(raw), _CHUNK):
        for offset, example in enumerate(raw.__getitems__(range(start, min(start + _CHUNK, len(raw))))):
            try:
                images.append(decode(example["image"]))
            except OSError as error:
                raise UserError(
                    f"{name}, split {split!r}, example {start + offset}: image does not decode: {error}"
                ) from error
            labels.append(example["label"])
    shapes = {image.shape for image in images}
    if len(shapes) != 1:
        raise UserError(
            f"{name}: images of {len(shapes)} different shapes do not stack; the first: {sorted(shapes)[:3]}"
        )
    arrays = {"image": np.stack(images), "label": np.asarray(labels, np.int32)}
    return ArraySource(arrays, features["label"].num_classes, tuple(features["label"].names))


def _newest_version(folder: Path) -> Path | None:
    """Returns the newest complete ``folder/x.y.z``, or None."""
    versions = [path.parent for path in folder.glob("[0-9]*.[0-9]*.[0-9]*/dataset_info.json")]
    return max(versions, key=lambda path: tuple(int(part) for part in path.name.split(".")), default=None)


def _prepare_own(name: str, folder: Path) -> Path:
    """Prepares a data set of ours in ``folder``; a second process waits for the first and finds it done."""
    module = importlib.import_module(f"vision.data.builders.{name}")
    print(f"preparing {name} in {folder} (once; set TFDS_DATA_DIR for another place)", file=sys.stderr)
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{name}.lock"):
            builder = getattr(module, name.title().replace("_", ""))(data_dir=str(folder), file_format="array_record")
            with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints of a download that does not take place
                builder.download_and_prepare()
    except OSError as error:
        raise UserError(
            f"cannot prepare {name} in {folder}: {error}; set TFDS_DATA_DIR to a folder that can be written"
        ) from error
    return Path(builder.data_dir)
