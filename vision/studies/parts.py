"""Parts of a study: each is computed once, written, and read again by the next start of the same study."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vision.errors import UserError


def done_or_new(
    folder: Path, name: str, options: Mapping[str, Any], compute: Callable[[], Any], *, note: Callable[[str], None]
) -> Any:
    """Returns what an earlier start with the same options wrote, or computes and writes it.

    Args:
      folder: of the parts; made if need be.
      name: of the part, one word.
      options: what the result depends on; a part written with others is computed anew.
      compute: returns the result, which JSON can hold.
      note: told what happens.

    Raises:
      UserError: the folder cannot be written.
    """
    path = folder / f"{name}.json"
    wanted = json.loads(json.dumps(dict(options)))
    found = _read(path)
    if found is not None and found.get("options") == wanted and "result" in found:
        note(f"{name}: done before, in {path}")
        return found["result"]
    began = time.monotonic()
    result = json.loads(json.dumps(compute()))
    seconds = time.monotonic() - began
    write(path, {"options": wanted, "seconds": round(seconds, 2), "result": result})
    note(f"{name}: {seconds:.1f} s")
    return result


def write(path: Path, value: Any) -> None:
    """Writes a JSON file whole or not at all.

    Raises:
      UserError: it cannot be written.
    """
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def _read(path: Path) -> dict[str, Any] | None:
    """A file that is missing or half written is computed anew."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
