"""Words that a text model has come to hold for alike."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from vision.data.tokenizer import Tokenizer
from vision.errors import UserError, did_you_mean

Neighbours = list[tuple[str, float]]


def whole_words(tokenizer: Tokenizer) -> dict[str, int]:
    """Returns the words that are one token each, with its id; parts of words and lone bytes are none."""
    found = {}
    for token in range(tokenizer.start):
        word = tokenizer.decode([token])
        if word and tokenizer.tokens(word) == [token]:
            found[word] = token
    return found


def word_neighbours(
    table: Float[np.ndarray, "vocabulary width"], tokenizer: Tokenizer, words: Sequence[str], *, count: int = 5
) -> dict[str, Neighbours]:
    """Returns for each word the whole words whose embeddings have the largest cosine with its own, and the cosines.

    Args:
      table: the embedding of each token.
      tokenizer: whose tokens they are.
      words: that are one token each.
      count: neighbours of each; fewer where the vocabulary has no more.

    Raises:
      UserError: a word that is none of the vocabulary.
    """
    known = whole_words(tokenizer)
    for word in words:
        if word not in known:
            parts = len(tokenizer.tokens(word))
            told = f"{parts} tokens" if parts else "nothing"
            raise UserError(f"{word!r} is no word of the vocabulary but {told}{did_you_mean(word, known)}")
    names, ids = list(known), np.array(list(known.values()))
    rows = np.asarray(table, np.float64)[ids]
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    result = {}
    for word in words:
        own = names.index(word)
        cosines = rows @ rows[own]
        order = [other for other in np.argsort(-cosines, kind="stable") if other != own][:count]
        result[word] = [(names[other], float(cosines[other])) for other in order]
    return result
