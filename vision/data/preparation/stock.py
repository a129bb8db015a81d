"""Preparation of the data sets that TFDS has: mostly with a download and TensorFlow, once; reading needs neither."""

import importlib
import importlib.util
import inspect
import os
import sys
from pathlib import Path
from typing import Any

from vision.data.preparation.names import stock_names
from vision.data.preparation.prepared import (
    OWN_BUILDERS,
    Report,
    Wanted,
    alone,
    aside,
    quiet,
    raise_readable,
    run,
    to_stderr,
)
from vision.errors import UserError, did_you_mean


def stock_builder(name: str, folder: Path) -> Any:
    """Returns TFDS's builder of ``name[/config][:version]``; nothing is downloaded or written.

    Raises:
      UserError: no such name, config or version, or the builder needs TensorFlow and there is none.
    """
    import tensorflow_datasets as tfds

    wanted = Wanted.parse(name)
    known = stock_names()
    if wanted.name not in known:
        near = did_you_mean(wanted.name, {*OWN_BUILDERS, *known})
        raise UserError(
            f"unknown data set {wanted.name!r}{near} (ours: {', '.join(OWN_BUILDERS)}; TFDS has {len(known)})"
        )
    try:
        with quiet():
            _import_tensorflow()
            builder_class = tfds.builder_cls(wanted.name)
            configs = list(builder_class.builder_configs)
            if wanted.config and wanted.config not in configs:
                near = did_you_mean(wanted.config, configs)
                raise UserError(f"{wanted.name} has no config {wanted.config!r}{near} (has: {_few(configs)})")
            if "import tensorflow as tf" in inspect.getsource(sys.modules[builder_class.__module__]):
                importlib.import_module("tensorflow")
            options = {"config": wanted.config, "version": wanted.version, "data_dir": str(folder)}
            return builder_class(**options, file_format="array_record")
    except Exception as error:  # a builder runs code of its own; what a person can cure becomes one line
        if type(error).__name__ == "DatasetNotFoundError" and "tensorflow" not in sys.modules:
            # TFDS imports its older builders together and stops at the first that asks for TensorFlow.
            error = ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")
        raise_readable(error, str(wanted), folder)
        raise


def prepare_stock(builder: Any, folder: Path, *, overwrite: bool = False, report: Report | None = None) -> Path:
    """Downloads and prepares a data set of TFDS as array records; a second process waits and finds it done.

    Finished downloads stay in ``folder/downloads`` and are not fetched again; a file that was cut starts anew.

    Args:
      builder: what :func:`stock_builder` returned.
      folder: the folder of all prepared data sets.
      overwrite: prepare it anew, from the same downloads, even where it is there.
      report: gets one line for each thing worth knowing on the way; standard error by default.

    Returns:
      The folder of the prepared version.

    Raises:
      UserError: no network, a full disk, a missing package or file; the message is one line with the cure.
    """
    report = report or to_stderr
    place = Path(builder.data_dir)
    try:
        with alone(builder.name, folder, report):
            if place.is_dir() and not (place / "dataset_info.json").is_file() and not overwrite:
                raise UserError(f"{place} has no dataset_info.json (copied in part?); --force prepares it anew")
            with aside(place, overwrite):
                config = builder.builder_config.name if builder.builder_config else None
                options = {"config": config, "version": str(builder.version), "data_dir": str(folder)}
                # A builder that has seen the prepared data set does not prepare it again.
                return run(type(builder)(**options, file_format="array_record") if overwrite else builder)
    except Exception as error:  # likewise, and the libraries that download and write; the rest is raised as it is
        raise_readable(error, builder.name, folder)
        raise


def _import_tensorflow() -> None:
    """Imports TensorFlow if it is installed, without the notes that its C++ part writes past Python's streams."""
    if "tensorflow" in sys.modules or not importlib.util.find_spec("tensorflow"):
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        importlib.import_module("tensorflow")
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _few(words: list[str]) -> str:
    return ", ".join(words[:8]) + (", ..." if len(words) > 8 else "") if words else "none"
