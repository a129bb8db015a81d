"""Softmax attention that keeps one array of queries by keys for the backward pass, in the type of its inputs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_UNSEEN = -0.7 * float(jnp.finfo(jnp.float32).max)  # of scores; its difference to any is finite

Heads = Float[Array, "batch tokens heads head_width"]
Seen = Bool[Array, "*each keys"] | None


def attention_weights(query: Heads, key: Heads, seen: Seen = None) -> Float[Array, "batch heads queries keys"]:
    """Returns ``softmax(q k / sqrt(head_width))`` in float32; every row sums to 1.

    Args:
      query: what asks.
      key: what is asked.
      seen: False, at what broadcasts to ``[batch, heads, queries, keys]``, where the weight is zero.
    """
    return jax.nn.softmax(_scores(query, key, seen), axis=-1)


@jax.custom_vjp
def softmax_attention(query: Heads, key: Heads, value: Heads, seen: Seen) -> Heads:
    """Returns ``softmax(q k / sqrt(head_width)) v``, the softmax in float32.

    Weights are rounded to the type of the values before they are summed and multiplied, so that they sum to 1 as they
    are used, and are divided by their sum after the product (as in Dao et al. 2022, FlashAttention, algorithm 1). The
    backward pass has the rounded weights, and takes the softmax's correction from the output (their appendix B.2).
    What autodiff keeps of the plain form are the scores, the weights in float32 and the weights rounded.

    Args:
      query: what asks.
      key: what is asked.
      value: what is mixed.
      seen: False, at what broadcasts to ``[batch, heads, queries, keys]``, where nothing is taken from.
    """
    return _forward(query, key, value, seen)[0]


def _forward(query: Heads, key: Heads, value: Heads, seen: Seen):
    scores = _scores(query, key, seen)
    weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True)).astype(value.dtype)
    sums = weights.sum(axis=-1, dtype=jnp.float32)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value, preferred_element_type=jnp.float32)
    mixed = (mixed / _over_heads(sums)).astype(value.dtype)
    return mixed, (query, key, value, seen, weights, sums, mixed)


def _backward(kept, gradient: Heads):
    query, key, value, seen, weights, sums, mixed = kept
    mixed = jax.lax.optimization_barrier(mixed)
    exact = {"preferred_element_type": jnp.float32}
    correction = jnp.einsum("bqhd,bqhd->bhq", gradient, mixed, **exact)[..., None]
    scaled = (gradient / _over_heads(sums)).astype(value.dtype)
    of_value = jnp.einsum("bhqk,bqhd->bkhd", weights, scaled)
    of_weights = jnp.einsum("bqhd,bkhd->bhqk", gradient, value, **exact)
    of_scores = weights * (of_weights - correction) * (query.shape[-1] ** -0.5 / sums[..., None])
    of_scores = (of_scores if seen is None else jnp.where(seen, of_scores, 0)).astype(query.dtype)
    of_query = jnp.einsum("bhqk,bkhd->bqhd", of_scores, key)
    of_key = jnp.einsum("bhqk,bqhd->bkhd", of_scores, query)
    return of_query, of_key, of_value, None


def _scores(query: Heads, key: Heads, seen: Seen) -> Float[Array, "batch heads queries keys"]:
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
    scores = scores * query.shape[-1] ** -0.5
    # A finite number: a row that sees nothing, whose result is not used, would be no number, and so its gradient.
    return scores if seen is None else jnp.where(seen, scores, _UNSEEN)


def _over_heads(sums: Float[Array, "batch heads queries"]) -> Float[Array, "batch queries heads 1"]:
    return jnp.swapaxes(sums, 1, 2)[..., None]


softmax_attention.defvjp(_forward, _backward)
