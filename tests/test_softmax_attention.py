"""Attention in every form, held against JAX's own, against autodiff and against each other."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision.models.platform import compiled_for
from vision.models.softmax_attention import attend, attention_weights, softmax_attention

QUERY, KEY, VALUE, GRADIENT = (jax.random.normal(jax.random.key(seed), (2, 7, 3, 8)) for seed in range(4))
CAUSAL = jnp.tri(7, dtype=bool)
PADDED = jnp.arange(7)[None, None, None, :] < jnp.asarray([7, 4])[:, None, None, None]
MASKS = {"all": None, "causal": CAUSAL, "padded": PADDED, "both": CAUSAL & PADDED}


def with_gradients(attention, *arrays):
    output, pull = jax.vjp(attention, *arrays[:-1])
    return output, pull(arrays[-1])


@pytest.mark.parametrize("seen", MASKS.values(), ids=MASKS)
def test_output_and_gradients_are_those_of_jax(seen):
    ours = with_gradients(lambda q, k, v: softmax_attention(q, k, v, seen), QUERY, KEY, VALUE, GRADIENT)
    whole = None if seen is None else jnp.broadcast_to(seen, (2, 3, 7, 7))
    theirs = with_gradients(
        lambda q, k, v: jax.nn.dot_product_attention(q, k, v, mask=whole, implementation="xla"),
        *(QUERY, KEY, VALUE, GRADIENT),
    )
    chex.assert_trees_all_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_its_gradient_is_that_of_the_weights_applied():
    def plain(query, key, value):
        return jnp.einsum("bhqk,bkhd->bqhd", attention_weights(query, key, CAUSAL), value)

    ours = with_gradients(lambda q, k, v: softmax_attention(q, k, v, CAUSAL), QUERY, KEY, VALUE, GRADIENT)
    chex.assert_trees_all_close(ours, with_gradients(plain, QUERY, KEY, VALUE, GRADIENT), rtol=1e-5, atol=1e-6)


def test_in_bfloat16_it_is_as_near_to_float32_as_jax_is():
    """Errors of output and gradients against the same rounded inputs in float32, in units of the largest value."""
    rounded = [each.astype(jnp.bfloat16) for each in (QUERY, KEY, VALUE, GRADIENT)]
    exact = with_gradients(
        lambda q, k, v: softmax_attention(q, k, v, None), *(each.astype(jnp.float32) for each in rounded)
    )

    def errors(attention):
        found = with_gradients(attention, *rounded)
        assert {each.dtype for each in jax.tree.leaves(found)} == {jnp.dtype(jnp.bfloat16)}
        return [
            np.abs(np.float32(one) - two).max() / np.abs(two).max()
            for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True)
        ]

    ours = errors(lambda q, k, v: softmax_attention(q, k, v, None))
    theirs = errors(lambda q, k, v: jax.nn.dot_product_attention(q, k, v, implementation="xla"))
    assert max(ours) < 1.5 * max(theirs), (ours, theirs)


def test_scores_of_any_size_give_numbers():
    output, gradients = with_gradients(
        lambda q, k, v: softmax_attention(q, k, v, None), *(1e4 * QUERY, KEY, VALUE, GRADIENT)
    )
    chex.assert_tree_all_finite((output, gradients))
    hardest = VALUE[0, jnp.argmax(QUERY[0, 0, 0] @ KEY[0, :, 0].T), 0]
    np.testing.assert_allclose(output[0, 0, 0], hardest, rtol=1e-5)


def test_no_array_of_queries_by_keys_is_kept():
    """By the shapes that the backward pass takes."""
    pull = jax.eval_shape(
        lambda *a: jax.vjp(lambda q, k, v: softmax_attention(q, k, v, None), *a)[1], QUERY, KEY, VALUE
    )
    assert {each.shape for each in jax.tree.leaves(pull)} == {(2, 7, 3, 8), (2, 3, 7)}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("seen", [None, PADDED], ids=["all", "padded"])
def test_every_device_has_the_same_attention(seen, causal):
    found = {}
    for name in ("cpu", "gpu", "tpu"):
        with compiled_for(name):
            found[name] = with_gradients(
                lambda q, k, v: attend(q, k, v, seen=seen, causal=causal), QUERY, KEY, VALUE, GRADIENT
            )
    chex.assert_trees_all_close(found["cpu"], found["gpu"], rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(found["cpu"], found["tpu"], rtol=1e-5, atol=1e-6)


def test_a_token_that_sees_nothing_gives_numbers_and_gradients():
    """As where causal attention meets tokens that are masked from the start; its result is not used, but summed."""
    query = jnp.ones((1, 2, 1, 4))
    seen = jnp.asarray([[[[False, False], [True, False]]]])
    weights, pull = jax.vjp(lambda q: attention_weights(q, query, seen), query)
    chex.assert_tree_all_finite((weights, pull(jnp.ones_like(weights))))
    np.testing.assert_array_equal(weights[0, 0, 1], [1.0, 0.0])
    output, (gradient,) = with_gradients(lambda q: softmax_attention(q, query, query, seen), query, query)
    chex.assert_tree_all_finite((output, gradient))
    np.testing.assert_array_equal(gradient[0, 0], 0)
