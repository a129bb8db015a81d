"""The tokenizer that the text model of a checkpoint was trained with."""

from pathlib import Path

from vision.data.tokenizer import Tokenizer, load
from vision.errors import UserError


def tokenizer_of(source: str | Path, saved: str | None, file: str | Path | None, *, vocab_size: int) -> Tokenizer:
    """Returns the tokenizer of a file, or else the one that was saved with the checkpoint.

    Args:
      source: the checkpoint, for messages.
      saved: the text of its ``tokenizer.json``, None or empty where it has none.
      file: that takes its place.
      vocab_size: ids of the text model.

    Raises:
      UserError: there is none, it cannot be read, or it has another number of ids.
    """
    if file is None and not saved:
        raise UserError(f"{source} has no tokenizer; give the file of the one that it was trained with: --tokenizer")
    words = Tokenizer.from_json(saved or "") if file is None else load(file)
    if words.vocab_size != vocab_size:
        raise UserError(
            f"the tokenizer has {words.vocab_size:,} ids, the model {vocab_size:,}; give its own: --tokenizer"
        )
    return words
