"""The text model of a run or of a converted pair, with its weights and the tokenizer it was trained with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from vision import models
from vision.config.loading import plain
from vision.data.tokenizer import Tokenizer
from vision.errors import UserError
from vision.interop.fit import fit
from vision.interop.pair import parameters
from vision.interop.trees import flat, nested
from vision.models.interface import Variables
from vision.models.precision import FLOAT32
from vision.models.text_interface import TextModel
from vision.objectives import OF_WORDS
from vision.training.checkpoint import load_arrays
from vision.training.saved_tokenizer import tokenizer_of

_TEXT = "params/text/"


class TextRun(NamedTuple):
    """A text model that has been trained.

    Attributes:
      model: built as it was.
      params: of it alone.
      tokenizer: makes and reads its tokens.
      name: of the variant.
      objective: the name of what it learned by, empty where the checkpoint does not say.
      step: of the training.
    """

    model: TextModel
    params: Variables
    tokenizer: Tokenizer
    name: str
    objective: str
    step: int

    @property
    def writes(self) -> bool:
        """Whether it has learned to predict tokens."""
        return self.objective in OF_WORDS


def load_text(
    workdir: str, *, step: int | None = None, tokenizer: Path | None = None, note: Callable[[str], None]
) -> TextRun:
    """Returns the text model of a checkpoint.

    Args:
      workdir: folder of a run that learned from captions, or of a converted pair.
      step: which checkpoint; None for the newest.
      tokenizer: a file of it, for a checkpoint that has none.
      note: told what people should know.

    Raises:
      UserError: there is no checkpoint, it has no text model, or says not what is needed.
    """
    taken, arrays, metadata = load_arrays(workdir, step)
    config = plain(metadata.get("config") or {})
    objective = plain(metadata.get("objective") or config.get("objective") or {}).get("name", "")
    section = plain(metadata.get("text") or config.get("text") or {})
    if not section and objective in OF_WORDS:
        section = config["model"]
    if "name" not in section:
        raise UserError(f"{workdir} has no text model; runs of contrast, next_token and masked_token have one")
    of_text = parameters(arrays, under=_TEXT, note=note)
    found = {f"params/{path.removeprefix(_TEXT)}": array for path, array in of_text.items()}
    table, places = (found.get(f"params/{name}_embedding") for name in ("token", "position"))
    if table is None or places is None:
        raise UserError(f"{workdir} has no text model among its arrays, though it speaks of {section['name']}")
    kernel = found.get("params/projection/kernel")
    sizes: dict[str, Any] = {
        "vocab_size": len(table),
        "length": len(places),
        "out_size": 0 if kernel is None else kernel.shape[-1],
    }
    precision = metadata.get("precision") or config.get("precision") or FLOAT32
    model = models.build_text(**section, **sizes, precision=precision)
    wanted = flat(jax.eval_shape(model.init, jax.random.key(0)), {})
    params, _ = nested(fit(found, wanted, source=f"{workdir} ({section['name']})").arrays)
    words = tokenizer_of(workdir, metadata.get("tokenizer"), tokenizer, vocab_size=model.vocab_size)
    return TextRun(model, params, words, section["name"], objective, taken)
