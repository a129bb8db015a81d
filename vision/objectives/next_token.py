"""Language from left to right: every token predicts the next one."""

from vision.models.text import until_end
from vision.models.text_interface import TextModel
from vision.objectives.base import Objective
from vision.objectives.language import language, token_scores


def next_token(text: TextModel, *, label_smoothing: float = 0.0) -> Objective:
    """Returns the objective of a decoder (Radford et al. 2018, GPT, equation 1).

    Each token predicts the next, up to and including the first ``end``; what follows it is padding and never counts,
    whichever ids it has. A text that was cut has its ``end`` at the last place, and is asked for it too. Logits are
    products with the embeddings of the input. See :func:`vision.objectives.language.language` for the loss, the mean
    over the tokens of the batch, and the metrics.

    Args:
      text: a causal text model.
      label_smoothing: share of every target spread evenly over the vocabulary, in [0, 1).

    Raises:
      ValueError: the model sees what it is to predict, or ``label_smoothing`` is out of range.
    """
    if not text.causal:
        raise ValueError("next_token predicts what it has not seen; its text model needs causal=True")
    if not 0.0 <= label_smoothing < 1.0:
        raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")

    def scores_of(params, tokens, keys, train):
        _, features = text.apply(params, tokens[:, :-1], keys=keys, train=train)
        logits = text.logits(params, features["tokens"])
        counted = until_end(tokens, text.end)[:, 1:]
        return token_scores(logits, tokens[:, 1:], counted, label_smoothing=label_smoothing)

    return language(text, scores_of)
