"""Texts that a language model writes: what follows a prompt, or what stands at its blanks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from vision.data.tokenizer import Tokenizer
from vision.errors import UserError
from vision.models.text_interface import TextModel
from vision.objectives.masked_token import mask_id

MASK = "[mask]"
Sampler = Callable[[Any, Array, Array, Array], tuple[Array, Array]]


class Prompt(NamedTuple):
    """A text with places to be filled.

    Attributes:
      tokens: int32 ``[length]``.
      blank: bool ``[length]``, True at the places that are to be filled.
    """

    tokens: np.ndarray
    blank: np.ndarray


def make_sampler(text: TextModel, *, temperature: float = 1.0, top_k: int | None = None) -> Sampler:
    """Returns ``sample(params, tokens, blank, keys) -> (tokens, log_odds)``, compiled once for each number of texts.

    Blanks are filled from the first to the last, each by a draw from the softmax of ``logits / temperature`` given
    all that stands there by then. A causal model looks at what is before the blank, and whatever follows the first
    ``end`` that it draws stays as it was. Any other model sees the blanks that are still open as hidden words, and
    knows how long the text is. ``start`` is never drawn, and ``end`` by causal models alone.

    ``log_odds`` ``[texts]`` is the sum over the filled places of the logarithm of the probability that the model gives
    the token, at temperature 1 and among all tokens that may be drawn there.

    Args:
      text: the model.
      temperature: 0 takes the most probable token.
      top_k: draw from that many most probable tokens; None for all.

    Raises:
      ValueError: an option that cannot be.
    """
    if not 0.0 <= temperature < float("inf"):
        raise ValueError(f"temperature must be 0 or more, got {temperature}")
    if top_k is not None and not 1 <= top_k <= text.vocab_size:
        raise ValueError(f"top_k must be in [1, {text.vocab_size}], the size of the vocabulary, got {top_k}")
    never = np.zeros(text.vocab_size, bool)
    never[[mask_id(text.end)] if text.causal else [mask_id(text.end), text.end]] = True

    def logits_at(params: Any, tokens: Array, place: Array) -> Float[Array, "texts vocabulary"]:
        _, features = text.apply(params, tokens, keys=None, train=False)
        before = place - 1 if text.causal else place
        logits = text.logits(params, jax.lax.dynamic_index_in_dim(features["tokens"], before, 1, keepdims=False))
        return jnp.where(never, -jnp.inf, logits)

    @jax.jit
    def sample(
        params: Any,
        tokens: Int[Array, "texts length"],
        blank: Bool[Array, "texts length"],
        keys: Key[Array, " texts"],
    ) -> tuple[Int[Array, "texts length"], Float[Array, " texts"]]:
        tokens = tokens if text.causal else jnp.where(blank, mask_id(text.end), tokens)

        def fill(carry, place):
            tokens, log_odds = carry
            logits = logits_at(params, tokens, place)
            drawn = draw(jax.vmap(jax.random.fold_in, (0, None))(keys, place), logits, temperature, top_k)
            ended = jnp.any((tokens == text.end) & (jnp.arange(tokens.shape[1]) < place), axis=1) & text.causal
            here = blank[:, place] & ~ended
            odds = jnp.take_along_axis(jax.nn.log_softmax(logits), drawn[:, None], axis=1)[:, 0]
            filled = tokens.at[:, place].set(jnp.where(here, drawn, tokens[:, place]))
            return (filled, log_odds + jnp.where(here, odds, 0.0)), None

        places = jnp.arange(1, tokens.shape[1])
        (tokens, log_odds), _ = jax.lax.scan(fill, (tokens, jnp.zeros(len(tokens))), places)
        return tokens, log_odds

    return sample


def draw(
    keys: Key[Array, " texts"], logits: Float[Array, "texts vocabulary"], temperature: float, top_k: int | None
) -> Int[Array, " texts"]:
    """Returns a token for each text: of equally large logits the smaller id comes first."""
    if temperature == 0.0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    candidates, ids = jax.lax.top_k(logits, logits.shape[-1] if top_k is None else top_k)
    chosen = jax.vmap(jax.random.categorical)(keys, candidates / temperature)
    return jnp.take_along_axis(ids, chosen[:, None], axis=1)[:, 0]


def prompt_of(words: str, tokenizer: Tokenizer, *, length: int, causal: bool) -> Prompt:
    """Returns the tokens of a prompt and where it is to be filled.

    For a causal model everything after the prompt's last token is blank. For others each ``[mask]`` is, as one token;
    what stands around it is taken as whole words.

    Raises:
      UserError: there is nothing to fill, or no room for it.
    """
    parts = words.split(MASK)
    if causal and len(parts) > 1:
        raise UserError(f"--prompt: this model writes from left to right and fills no {MASK}; give the beginning alone")
    if not causal and len(parts) == 1:
        raise UserError(
            f"--prompt: this model fills in words; write {MASK} for each of them, such as 'a {MASK} circle'"
        )
    ids, blank = [tokenizer.start], [False]
    for number, part in enumerate(parts):
        if number:
            ids.append(mask_id(tokenizer.end))
            blank.append(True)
        inside = tokenizer.tokens(part)
        ids += inside
        blank += [False] * len(inside)
    if not causal:
        ids.append(tokenizer.end)
        blank.append(False)
    room = length - len(ids)
    if room < causal:
        raise UserError(f"--prompt: {len(ids)} tokens leave no room in the model's {length}")
    return Prompt(np.array(ids + [0] * room, np.int32), np.array(blank + [causal] * room, bool))


def probable_words(
    text: TextModel, params: Any, prompt: Prompt, tokenizer: Tokenizer, *, count: int
) -> list[list[tuple[str, float]]]:
    """Returns for each blank the most probable tokens with their probabilities, all other blanks being hidden.

    Args:
      text: a model that is not causal.
      params: of it.
      prompt: with blanks.
      tokenizer: of the model.
      count: tokens for each blank.
    """
    _, features = jax.jit(lambda p, t: text.apply(p, t, keys=None, train=False))(params, prompt.tokens[None])
    odds = np.asarray(jax.nn.softmax(text.logits(params, features["tokens"][0, np.flatnonzero(prompt.blank)])))
    order = np.argsort(-odds, axis=1, kind="stable")[:, :count]
    return [
        [(symbol_of(int(token), tokenizer), float(row[token])) for token in best]
        for row, best in zip(odds, order, strict=True)
    ]


def symbol_of(token: int, tokenizer: Tokenizer) -> str:
    """Returns a token for people; the end of a text is ``[end]``, its start ``[start]``."""
    return {tokenizer.start: "[start]", tokenizer.end: "[end]"}.get(token) or tokenizer.decode([token])
