"""The tokenizer that a run was begun with: its ids are what the model has learned, so nothing else will do."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vision.data.tokenizer import Tokenizer, load
from vision.errors import UserError

FILE = "tokenizer.json"


def kept_tokenizer(config: Mapping[str, Any], workdir: str | Path) -> Tokenizer | None:
    """Returns the tokenizer of this folder, or of the run in ``config.resume``; None where training begins anew.

    Args:
      config: resolved.
      workdir: of the run.

    Raises:
      UserError: it cannot be read, or ``config.data.tokens.tokenizer`` names another.
    """
    if config["data"]["tokens"] is None:
        return None
    places = [Path(each) / FILE for each in (workdir, config["resume"]) if each is not None]
    place = next((each for each in places if each.is_file()), None)
    if place is None:
        return None
    try:
        kept = Tokenizer.from_json(place.read_text(encoding="utf-8"))
    except (OSError, UserError) as error:
        raise UserError(f"{place} cannot be read: {error}; put it back or choose another --workdir") from error
    named = config["data"]["tokens"]["tokenizer"]
    if named is not None and Path(named).is_file() and load(named).fingerprint != kept.fingerprint:
        raise UserError(
            f"config.data.tokens.tokenizer: {named} is not what the run was begun with, {place}; give that, or choose "
            "another --workdir"
        )
    return kept
