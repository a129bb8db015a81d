"""Language in both directions: words that are hidden from the rest of the sentence."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key

from vision.models.text import until_end
from vision.models.text_interface import TextModel
from vision.objectives.base import Objective
from vision.objectives.language import language, token_scores

_HIDDEN, _REPLACED = 0.8, 0.1  # shares of the chosen tokens; the others stay (Devlin et al. 2019, section 3.1)


def masked_token(text: TextModel, *, mask_fraction: float = 0.15) -> Objective:
    """Returns the objective of an encoder (Devlin et al. 2019, BERT, section 3.1, task 1).

    In each text ``mask_fraction`` of the tokens between ``start`` and ``end`` are chosen, rounded to whole tokens but
    at least one: of these 80 % are hidden, 10 % are replaced by an id drawn from all but ``start`` and ``end``, which
    may be their own, and 10 % stay as they are; all are to be predicted. ``start``, ``end`` and padding are never
    chosen. The draws come from the keys of the examples; without keys, as in evaluations, from the text itself, so that
    a text is always asked the same.

    **The mask is the id of** ``start``. A vocabulary of captions has no id of its own for it, and ``start`` stands
    nowhere but at the first place, so that inside a text it can mean nothing else; the position tells the two apart.

    See :func:`vision.objectives.language.language` for the loss, the mean over the chosen tokens of the batch, and the
    metrics.

    Args:
      text: a text model that is not causal and has ``mask_padding=True``, so that what follows ``end`` says nothing.
      mask_fraction: share of the tokens that are chosen, in (0, 1].

    Raises:
      ValueError: the model sees one side only, or padding, or ``mask_fraction`` is out of range.
    """
    if text.causal:
        raise ValueError("masked_token looks to both sides; its text model needs causal=False")
    if not getattr(text.module, "mask_padding", True):
        raise ValueError("masked_token must not read padding as words; its text model needs mask_padding=True")
    if not 0.0 < mask_fraction <= 1.0:
        raise ValueError(f"mask_fraction must be in (0, 1], got {mask_fraction}")

    def scores_of(params, tokens, keys, train):
        draws = keys_of(tokens) if keys is None else _folded(keys, 0)
        chosen = chosen_places(draws, tokens, end=text.end, fraction=mask_fraction)
        shown = hidden(draws, tokens, chosen, end=text.end)
        own = None if keys is None else _folded(keys, 1)
        _, features = text.apply(params, shown, keys=own, train=train)
        return token_scores(text.logits(params, features["tokens"]), tokens, chosen)

    return language(text, scores_of)


def mask_id(end: int) -> int:
    """Returns the id that stands for a hidden token: that of ``start``, the last but one."""
    return end - 1


def chosen_places(
    keys: Key[Array, " texts"], tokens: Int[Array, "texts length"], *, end: int, fraction: float
) -> Bool[Array, "texts length"]:
    """Returns which tokens are to be predicted: this share of each text's words, at least one where there is any."""
    words = until_end(tokens, end) & (tokens != end) & (tokens != end - 1)
    counts = jnp.sum(words, axis=1)
    wanted = jnp.minimum(jnp.maximum(jnp.round(fraction * counts), 1), counts)
    drawn = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 0), tokens.shape[1:]))(keys)
    ranks = jnp.argsort(jnp.argsort(jnp.where(words, drawn, jnp.inf), axis=1), axis=1)
    return ranks < wanted[:, None]


def hidden(
    keys: Key[Array, " texts"], tokens: Int[Array, "texts length"], chosen: Bool[Array, "texts length"], *, end: int
) -> Int[Array, "texts length"]:
    """Returns the texts as the model sees them: chosen tokens hidden, replaced or left."""

    def drawn(key):
        kinds = jax.random.uniform(jax.random.fold_in(key, 1), tokens.shape[1:])
        return kinds, jax.random.randint(jax.random.fold_in(key, 2), tokens.shape[1:], 0, mask_id(end))

    kinds, others = jax.vmap(drawn)(keys)
    seen = jnp.where(kinds < _HIDDEN, mask_id(end), jnp.where(kinds < _HIDDEN + _REPLACED, others, tokens))
    return jnp.where(chosen, seen, tokens)


def keys_of(tokens: Int[Array, "texts length"]) -> Key[Array, " texts"]:
    """Returns a key that depends on nothing but the text."""
    powers = [pow(31, place, 2**32) for place in range(tokens.shape[1])]
    sums = jnp.sum(tokens.astype(jnp.uint32) * np.array(powers, np.uint32), axis=1, dtype=jnp.uint32)
    return jax.vmap(lambda each: jax.random.fold_in(jax.random.key(0), each))(sums)


def _folded(keys: Key[Array, " texts"], number: int) -> Key[Array, " texts"]:
    return jax.vmap(jax.random.fold_in, (0, None))(keys, number)
