"""Which TFDS data sets lie prepared, and the preparation of our own; stock ones are prepared by ``stock``.

A prepared data set is ``FOLDER/NAME[/CONFIG]/VERSION`` with its ``dataset_info.json``. TFDS writes into
``incomplete.*_VERSION`` beside it and renames that at the end, so what a kill left behind never counts as prepared.
"""

import contextlib
import importlib
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vision.data.preparation.errors import readable
from vision.errors import UserError

OWN_BUILDERS = ("digits", "shapes", "shapes24")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_NAME = re.compile(r"(?P<name>\w+)(?:/(?P<config>[\w.-]+))?(?::(?P<version>\d+\.\d+\.\d+))?")

Report = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """A data set as a person names it, ``name[/config][:version]``.

    Attributes:
      name: TFDS name, such as ``imagenette``.
      config: one of its configs, such as ``160px-v2``; None for the default.
      version: such as ``1.0.0``; None for the newest.
    """

    name: str
    config: str | None = None
    version: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Wanted":
        """Reads ``name[/config][:version]``; raises UserError for any other form."""
        found = _NAME.fullmatch(text)
        if not found:
            raise UserError(f"{text!r} is no data set's name; write name, name/config or name:1.2.3")
        return cls(**found.groupdict())

    def __str__(self) -> str:
        return self.name + (f"/{self.config}" if self.config else "") + (f":{self.version}" if self.version else "")


def data_folder(data_dir: str | None) -> Path:
    """Returns the folder of prepared data sets: as given, ``TFDS_DATA_DIR``, or ``~/tensorflow_datasets``."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def newest_version(folder: Path) -> Path | None:
    """Returns the newest complete ``folder/x.y.z``, or None."""
    found = [path.parent for path in folder.glob("*/dataset_info.json") if _VERSION.fullmatch(path.parent.name)]
    return max(found, key=lambda path: tuple(int(part) for part in path.name.split(".")), default=None)


def find(name: str, folder: Path) -> Path | None:
    """Returns where ``name[/config][:version]`` lies prepared in ``folder``, or None.

    Without a config it is the data set itself or, where it has configs, the default one as TFDS wrote it down.
    """
    wanted = Wanted.parse(name)
    place = folder / wanted.name / (wanted.config or "")
    places = [place]
    if not wanted.config:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            default = json.loads((place / ".config" / "metadata.json").read_text())["default_config_name"]
            places.append(place / default)
    for each in places:
        if not wanted.version:
            found = newest_version(each)
        else:
            found = each / wanted.version if (each / wanted.version / "dataset_info.json").is_file() else None
        if found:
            return found
    return None


def prepare_own(name: str, folder: Path, *, overwrite: bool = False) -> Path:
    """Prepares a data set of ours in ``folder``; a second process waits for the first and finds it done.

    Args:
      name: one of ``OWN_BUILDERS``.
      folder: the folder of all prepared data sets.
      overwrite: prepare it anew even where it is there.

    Returns:
      The folder of the prepared version.

    Raises:
      UserError: the folder cannot be written, or the disk is full.
    """
    print(f"preparing {name} in {folder} (once; set TFDS_DATA_DIR for another place)", file=sys.stderr)
    builder_class = getattr(importlib.import_module(f"vision.data.builders.{name}"), name.title().replace("_", ""))
    try:
        with alone(name, folder, to_stderr), aside(folder / name / str(builder_class.VERSION), overwrite):
            return run(builder_class(data_dir=str(folder), file_format="array_record"))
    except OSError as error:
        raise UserError(
            f"cannot prepare {name} in {folder}: {error}; set TFDS_DATA_DIR to a folder that can be written"
        ) from error
    except Exception as error:  # the library that writes array records has errors of its own for a full disk
        raise_readable(error, name, folder)
        raise


def unfinished(name: str, folder: Path) -> list[Path]:
    """Returns what a killed preparation of ``name`` left behind: half-written versions and cut downloads."""
    half_written = (folder / name).glob("**/incomplete.??????_*.*.*")
    cut = (folder / "downloads" / name).glob("*.tmp.*")
    return [path for path in (*half_written, *cut) if path.is_dir()]


def run(builder: Any) -> Path:
    """Lets TFDS prepare the data set, its bars on a terminal only, and what it prints nowhere."""
    import tensorflow_datasets as tfds

    tfds.display_progress_bar(sys.stderr.isatty())
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    with quiet():
        builder.download_and_prepare(download_config=config, file_format="array_record")
    return Path(builder.data_dir)


@contextlib.contextmanager
def aside(place: Path, overwrite: bool) -> Iterator[None]:
    """Puts a prepared data set aside while it is prepared anew, and back if that fails."""
    old = place.with_name(f"incomplete.BEFORE_{place.name}")
    if not overwrite or not place.exists():
        yield
        return
    place.rename(old)
    try:
        yield
    finally:
        if place.exists():
            shutil.rmtree(old)
        else:
            old.rename(place)


@contextlib.contextmanager
def alone(name: str, folder: Path, report: Report) -> Iterator[None]:
    """Holds the lock of one data set, and first removes what a killed preparation of it left."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f".{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report(f"waiting for another process that prepares {name} in {folder}")
        lock.acquire()
    try:
        for path in unfinished(name, folder):
            report(f"removing {path}, left by a preparation that was stopped")
            shutil.rmtree(path)
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drops what TFDS prints on standard output: of a download that does not take place, of a missing TensorFlow."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def raise_readable(error: Exception, name: str, folder: Path) -> None:
    """Raises the readable error behind an exception, if there is one."""
    cure = readable(error, name, folder)
    if cure:
        raise cure from error


def to_stderr(line: str) -> None:
    """Prints a line for people at once."""
    print(line, file=sys.stderr, flush=True)
