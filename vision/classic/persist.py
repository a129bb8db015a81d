"""Fitted features and estimators on disk, as skops files: arrays and names of types, no code that a file brings."""

import os
from pathlib import Path
from typing import Any

from skops import io

from vision.errors import UserError

_TRUSTED = ("vision.classic.", "sklearn.")


def save(path: Path, chain: Any, estimator: Any) -> None:
    """Writes both into one file; see :func:`write`."""
    write(path, {"chain": chain, "estimator": estimator})


def load(path: Path) -> tuple[Any, Any]:
    """Returns ``(chain, estimator)``, which predict bit for bit what they did.

    Raises:
      UserError: there is no such file, it is broken, or it holds something else.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no fitted estimator here")
    whole = read(path)
    if whole.keys() != {"chain", "estimator"}:
        raise UserError(f"{path}: holds {', '.join(map(str, whole)) or 'nothing'}, not a chain and an estimator")
    return whole["chain"], whole["estimator"]


def write(path: Path, whole: dict[str, Any]) -> None:
    """Writes a dict into a file; whoever reads meanwhile sees the old one or the new one.

    Raises:
      OSError: the file cannot be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        io.dump(whole, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read(path: Path) -> dict[str, Any]:
    """Returns the dict that :func:`write` wrote; only types of this package and of scikit-learn are made.

    Raises:
      UserError: the file is broken, or holds something else.
    """
    try:
        unknown = io.get_untrusted_types(file=path)
        foreign = [name for name in unknown if not name.startswith(_TRUSTED)]
        whole = None if foreign else io.load(path, trusted=unknown)
    except Exception as error:  # a broken archive, another version's types: each reader has errors of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: cannot be read by this version ({reason[:200]}); fit it anew") from error
    if foreign:
        raise UserError(f"{path}: holds {', '.join(foreign[:3])}, which is no part of an estimator")
    if not isinstance(whole, dict):
        raise UserError(f"{path}: holds a {type(whole).__name__}, which is no part of an estimator")
    return whole
