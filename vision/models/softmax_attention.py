"""Softmax attention in the forms that are fast on a CPU, a GPU and a TPU."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vision.models.platform import platform

_UNSEEN = -0.7 * float(jnp.finfo(jnp.float32).max)  # of scores; its difference to any is finite

Heads = Float[Array, "batch _ heads head_width"]  # of queries as many as of results, and of keys as of values
Seen = Bool[Array, "*each keys"] | None


def attention_weights(query: Heads, key: Heads, seen: Seen = None) -> Float[Array, "batch heads queries keys"]:
    """Returns ``softmax(q k / sqrt(head_width))`` in float32; every row sums to 1.

    Args:
      query: what asks.
      key: what is asked.
      seen: False, at what broadcasts to ``[batch, heads, queries, keys]``, where the weight is zero.
    """
    return jax.nn.softmax(_scores(query, key, seen), axis=-1)


def attend(query: Heads, key: Heads, value: Heads, *, seen: Seen = None, causal: bool = False) -> Heads:
    """Returns ``softmax(q k / sqrt(head_width)) v`` in the form that is fast on the device that it is compiled for.

    On a CPU the weights are applied as they are, as JAX's own function orders its arrays for other devices; on a GPU it
    is that function; on a TPU :func:`softmax_attention`.

    Args:
      query: what asks.
      key: what is asked.
      value: what is mixed.
      seen: False, at what broadcasts to ``[batch, heads, queries, keys]``, where nothing is taken from.
      causal: whether a token sees only those up to itself.
    """
    if platform() in ("gpu", "cuda"):
        return jax.nn.dot_product_attention(query, key, value, mask=seen, is_causal=causal)
    seen = up_to_itself(seen, query.shape[1]) if causal else seen
    if platform() == "cpu":
        weights = attention_weights(query, key, seen)
        return jnp.einsum("bhqk,bkhd->bqhd", weights.astype(value.dtype), value)
    return softmax_attention(query, key, value, seen)


def up_to_itself(seen: Seen, tokens: int) -> Bool[Array, "*all keys"]:
    """Returns ``seen`` without what comes after a token (Vaswani et al. 2017, section 3.2.3)."""
    before = jnp.tri(tokens, dtype=bool)
    return before if seen is None else seen & before


@jax.custom_vjp
def softmax_attention(query: Heads, key: Heads, value: Heads, seen: Seen) -> Heads:
    """Returns ``softmax(q k / sqrt(head_width)) v``, the softmax in float32, and keeps no array of queries by keys.

    Weights are rounded to the type of the values before they are summed and multiplied, so that they sum to 1 as they
    are used, and are divided by their sum after the product (as in Dao et al. 2022, FlashAttention, algorithm 1). The
    backward pass computes them again and takes the softmax's correction from the output (their appendix B.2). What
    autodiff keeps of the plain form are the scores, the weights in float32 and the weights rounded.

    Args:
      query: what asks.
      key: what is asked.
      value: what is mixed.
      seen: False, at what broadcasts to ``[batch, heads, queries, keys]``, where nothing is taken from.
    """
    return _forward(query, key, value, seen)[0]


def _forward(query: Heads, key: Heads, value: Heads, seen: Seen):
    weights = _unnormalized(query, key, seen, value.dtype)
    sums = weights.sum(axis=-1, dtype=jnp.float32)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value, preferred_element_type=jnp.float32)
    mixed = (mixed / _over_heads(sums)).astype(value.dtype)
    return mixed, (query, key, value, seen, mixed, sums)


def _backward(kept, gradient: Heads):
    query, key, value, seen, mixed, sums = kept
    # Without a barrier the compiler would take the weights of the forward pass and keep them, or make them all at once.
    query, key, mixed, gradient = jax.lax.optimization_barrier((query, key, mixed, gradient))
    weights = _unnormalized(query, key, seen, value.dtype)
    exact = {"preferred_element_type": jnp.float32}
    correction = jnp.einsum("bqhd,bqhd->bhq", gradient, mixed, **exact)[..., None]
    of_value = jnp.einsum("bhqk,bqhd->bkhd", weights, (gradient / _over_heads(sums)).astype(value.dtype))
    of_weights = jnp.einsum("bqhd,bkhd->bhqk", gradient, value, **exact)
    of_scores = weights * (of_weights - correction) * (query.shape[-1] ** -0.5 / sums[..., None])
    of_scores = (of_scores if seen is None else jnp.where(seen, of_scores, 0)).astype(query.dtype)
    of_query = jnp.einsum("bhqk,bkhd->bqhd", of_scores, key)
    of_key = jnp.einsum("bhqk,bqhd->bkhd", of_scores, query)
    return of_query, of_key, of_value, None


softmax_attention.defvjp(_forward, _backward)


def _unnormalized(query: Heads, key: Heads, seen: Seen, dtype: jnp.dtype) -> Float[Array, "batch heads queries keys"]:
    """The weights before they are divided by their sums; the largest of a row is 1."""
    scores = _scores(query, key, seen)
    return jnp.exp(scores - scores.max(axis=-1, keepdims=True)).astype(dtype)


def _scores(query: Heads, key: Heads, seen: Seen) -> Float[Array, "batch heads queries keys"]:
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
    scores = scores * query.shape[-1] ** -0.5
    # A finite number: a row that sees nothing, whose result is not used, would be no number, and so its gradient.
    return scores if seen is None else jnp.where(seen, scores, _UNSEEN)


def _over_heads(sums: Float[Array, "batch heads queries"]) -> Float[Array, "batch queries heads 1"]:
    return jnp.swapaxes(sums, 1, 2)[..., None]
