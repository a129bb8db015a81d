"""How well a language model predicts the captions of a split."""

from collections.abc import Iterator

import numpy as np

from vision.evaluation.base import EvalSet, Evaluator, State, Value
from vision.evaluation.features import Features
from vision.objectives.base import Objective
from vision.objectives.language import SCORES


def perplexity(eval_set: EvalSet, objective: Objective, features: Features | None = None) -> Evaluator:
    """Returns an evaluator that yields what a language model makes of all captions of a split, each of them once.

    - ``perplexity``: ``exp`` of the mean cross-entropy over all tokens that are asked for, not over captions. One that
      knows nothing has the size of the vocabulary.
    - ``token_loss``: that mean, in nats;
    - ``token_accuracy``: the share of these tokens that was the most probable one;
    - ``tokens``: how many there are.

    Of ``next_token`` these are all tokens after ``start``, up to ``end``. Of ``masked_token`` they are the chosen ones,
    the same at every evaluation, and the number is no likelihood of the captions: do not compare the two.

    Args:
      eval_set: what to pass over.
      objective: ``next_token`` or ``masked_token``.
      features: gives the outputs of splits.

    Raises:
      ValueError: the objective predicts no tokens.
    """
    features = Features(objective) if features is None else features
    if features.outputs is not None and not set(SCORES) <= set(features.outputs):
        raise ValueError("perplexity needs an objective that predicts tokens: next_token or masked_token")
    read = features.of(eval_set, SCORES)

    def run(state: State) -> Iterator[tuple[str, Value]]:
        outputs = read(state).outputs
        loss, predicted, hits = (float(np.sum(outputs[name], dtype=np.float64)) for name in SCORES)
        if not predicted:
            raise ValueError("perplexity: the captions of the split have no tokens to predict")
        with np.errstate(over="ignore"):
            yield "perplexity", float(np.exp(loss / predicted))
        yield "token_loss", loss / predicted
        yield "token_accuracy", hits / predicted
        yield "tokens", predicted

    return Evaluator(run, ("perplexity", "token_loss", "token_accuracy", "tokens"))
