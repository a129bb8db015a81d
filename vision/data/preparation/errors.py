"""What may go wrong while TFDS prepares a data set, each said in one line with its cure."""

import errno
import re
from collections.abc import Iterator
from pathlib import Path

from vision.errors import UserError

INSTALL_TENSORFLOW = 'pip install -e ".[prepare]"'
_FULL = re.compile(r"no space left|disk full|resource_?exhausted|quota exceeded|not enough disk space", re.IGNORECASE)
_MANUAL = re.compile(r"\bmanual", re.IGNORECASE)


def readable(error: BaseException, name: str, folder: Path) -> UserError | None:
    """Returns the error that a person can cure behind an exception of TFDS, or None where it is none of them.

    Args:
      error: what was raised; what it was raised from is looked at too.
      name: the data set's name.
      folder: the folder of all prepared data sets.
    """
    for each in _chain(error):
        if isinstance(each, UserError):
            return each
        message = _message(each, name, folder)
        if message:
            return UserError(message)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _message(error: BaseException, name: str, folder: Path) -> str | None:
    kind, text = type(error).__name__, " ".join(str(error).split())
    if isinstance(error, ImportError):
        missing = (error.name or text).split(".")[0]
        if missing == "tensorflow" or "tensorflow" in text.lower():
            return f"{name} needs TensorFlow to be prepared (reading it does not): {INSTALL_TENSORFLOW}"
        return f"{name} needs the Python package {missing} to be prepared: pip install {missing.replace('_', '-')}"
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or _FULL.search(text):
        return f"no space left while preparing {name} in {folder}; free some, or choose another place with --data_dir"
    if isinstance(error, PermissionError | NotADirectoryError | FileExistsError) or kind == "PermissionDeniedError":
        return f"cannot write {getattr(error, 'filename', None) or folder}: {text}; choose a place with --data_dir"
    if getattr(error, "errno", None) == errno.EROFS:
        return f"cannot write {folder}: it is mounted read only; choose another place with --data_dir"
    if kind == "NonMatchingChecksumError":
        return f"{name}: a download is not the file TFDS knows (changed at its source, or an error page): {_cut(text)}"
    if kind == "DownloadError":
        return f"{name}: {_cut(text)}; its source may have moved, see the data set's page in the TFDS catalogue"
    if kind in ("ConnectionError", "ConnectTimeout", "ReadTimeout", "ProxyError", "SSLError", "ChunkedEncodingError"):
        return f"{name}: the download broke off; the same command goes on with the files still missing: {_cut(text)}"
    if kind in ("URLError", "gaierror", "MaxRetryError", "RetryError", "ProtocolError"):
        return f"{name}: no way to its source; check the network, then run the same command: {_cut(text)}"
    by_hand = str(folder / "downloads" / "manual")
    if by_hand in text and (kind == "NotFoundError" or isinstance(error, FileNotFoundError)):
        return f"{name} is downloaded by hand into {by_hand}, and not all of it is there: {text}"
    if kind in ("ReadError", "BadZipFile", "BadGzipFile", "EOFError"):
        return f"a file of {name} in {folder / 'downloads'} is cut or damaged ({_cut(text)}); remove it, then run again"
    if isinstance(error, AssertionError | FileNotFoundError) and _MANUAL.search(text):
        return _manual(name, text.rpartition("instructions:")[2], folder)
    if "cannot be loaded at version" in text or "too old for this version of TFDS" in text:
        return text[text.rfind("Dataset ") if "Dataset " in text else 0 :].rstrip(".")
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot prepare {name} in {folder}: {text}"
    return None


def _manual(name: str, instructions: str, folder: Path) -> str:
    what = instructions.strip().replace("manual_dir", "that folder").rstrip(". ")
    return f"{name} is downloaded by hand into {folder / 'downloads' / 'manual'}: {what}; then run the same command"


def _cut(text: str, longest: int = 240) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
