"""Batch normalisation, held against Flax's, against formulas, and against hard numbers."""

from contextlib import nullcontext

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision.models.batch_norm import BatchNorm, normalize
from vision.models.platform import compiled_for

X = 3.0 + 2.0 * jax.random.normal(jax.random.key(0), (6, 5, 4, 8))
GRADIENT = jax.random.normal(jax.random.key(1), X.shape)
PLATFORMS = {"cpu": nullcontext, "tpu": lambda: compiled_for("tpu")}


def step(layer, variables, x, gradient):
    """Output, new statistics, and gradients of parameters and input."""

    def apply(params, x):
        return layer.apply({**variables, "params": params}, x, False, mutable=["batch_stats"])

    output, pull, new = jax.vjp(apply, variables["params"], x, has_aux=True)
    return output, new, pull(gradient)


def drawn(layer):
    variables = layer.init(jax.random.key(2), X, True)
    return jax.tree.map(lambda leaf: leaf + jax.random.uniform(jax.random.key(leaf.size), leaf.shape), variables)


@pytest.mark.parametrize("options", [{}, {"use_scale": False}, {"use_bias": False}], ids=str)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_step_is_that_of_flax(platform, options):
    theirs = nn.BatchNorm(momentum=0.9, use_fast_variance=False, **options)
    variables = drawn(theirs)
    expected = step(theirs, variables, X, GRADIENT)
    with PLATFORMS[platform]():
        ours = step(BatchNorm(momentum=0.9, **options), variables, X, GRADIENT)
    chex.assert_trees_all_close(ours, expected, rtol=2e-5, atol=2e-6)


def test_evaluation_is_that_of_flax():
    variables = drawn(nn.BatchNorm())
    ours, theirs = (layer.apply(variables, X, True) for layer in (BatchNorm(), nn.BatchNorm()))
    chex.assert_trees_all_close(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_in_bfloat16_statistics_and_gradients_are_as_near_to_float32_as_those_of_flax(platform):
    variables = drawn(BatchNorm())
    x, gradient = X.astype(jnp.bfloat16), GRADIENT.astype(jnp.bfloat16)
    exact = step(nn.BatchNorm(), variables, x.astype(jnp.float32), gradient.astype(jnp.float32))

    def errors(layer):
        found = step(layer, variables, x, gradient)
        pairs = zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True)
        return [float(np.abs(np.float32(one) - two).max() / np.abs(two).max()) for one, two in pairs]

    with PLATFORMS[platform]():
        ours = errors(BatchNorm(dtype=jnp.dtype(jnp.bfloat16)))
    theirs = errors(nn.BatchNorm(dtype=jnp.dtype(jnp.bfloat16)))
    assert all(one <= max(1.1 * two, 1e-5) for one, two in zip(ours, theirs, strict=True)), (ours, theirs)


def test_the_variance_around_the_mean_is_exact_for_channels_far_from_zero():
    x = 1000.0 + np.random.default_rng(0).standard_normal((64, 8, 8, 3)).astype(np.float32)
    expected = np.float64(x).var((0, 1, 2))
    for shift in (None, jnp.full(3, 990.0)):
        _, mean, var = normalize(jnp.asarray(x), jnp.ones(3), jnp.zeros(3), shift, 1e-5)
        np.testing.assert_allclose(mean, np.float64(x).mean((0, 1, 2)), rtol=1e-6)
        np.testing.assert_allclose(var, expected, rtol=1e-4)


def test_far_from_the_shift_it_is_what_the_docstring_says():
    """(mean - shift)^2 / var is 10,000: a relative error of about 1e4 * 2^-24 = 6e-4."""
    x = 100.0 + np.random.default_rng(0).standard_normal((64, 8, 8, 3)).astype(np.float32)
    _, _, var = normalize(jnp.asarray(x), jnp.ones(3), jnp.zeros(3), jnp.zeros(3), 1e-5)
    np.testing.assert_allclose(var, np.float64(x).var((0, 1, 2)), rtol=6e-3)


def test_a_constant_channel_gives_its_bias_and_finite_gradients():
    x = jnp.full((4, 3, 3, 2), 7.0)
    for platform in PLATFORMS.values():
        with platform():
            layer = BatchNorm()
            output, _, (_, of_x) = step(layer, layer.init(jax.random.key(0), x, True), x, GRADIENT[:4, :3, :3, :2])
        np.testing.assert_allclose(output, 0.0, atol=1e-6)
        assert jnp.isfinite(of_x).all()
