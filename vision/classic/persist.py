"""Fitted features and estimators on disk, as skops files: arrays and names of types, no code that a file brings."""

import os
from pathlib import Path
from typing import Any

from skops import io

from vision.errors import UserError

_TRUSTED = ("vision.classic.", "sklearn.")


def save(path: Path, chain: Any, estimator: Any) -> None:
    """Writes both into one file; whoever reads meanwhile sees the old one or the new one.

    Raises:
      OSError: the file cannot be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        io.dump({"chain": chain, "estimator": estimator}, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load(path: Path) -> tuple[Any, Any]:
    """Returns ``(chain, estimator)``, which predict bit for bit what they did.

    Only types of this package and of scikit-learn are made.

    Raises:
      UserError: there is no such file, it is broken, or it holds something else.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no fitted estimator here")
    try:
        unknown = io.get_untrusted_types(file=path)
        foreign = [name for name in unknown if not name.startswith(_TRUSTED)]
        if foreign:
            raise UserError(f"{path}: holds {', '.join(foreign[:3])}, which is no part of an estimator")
        whole = io.load(path, trusted=unknown)
        return whole["chain"], whole["estimator"]
    except UserError:
        raise
    except Exception as error:  # a broken archive, another version's types: every reader below has its own errors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: is no estimator of this version ({reason[:200]}); fit it anew") from error
