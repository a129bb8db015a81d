"""ReLU, and the exact GELU and its slope against SciPy's distribution function of the normal in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from vision.models.activations import gelu, relu
from vision.models.platform import compiled_for


def exact(x):
    return x * norm.cdf(x), norm.cdf(x) + x * norm.pdf(x)


@pytest.mark.parametrize(("dtype", "value", "slope"), [(jnp.float32, 1.2e-6, 3e-7), (jnp.bfloat16, 2e-2, 1e-2)])
def test_gelu_and_its_slope_are_the_exact_ones(dtype, value, slope):
    """To the rounding of the result: at most 8, where a float32 is known to 5e-7 and a bfloat16 to 2e-2."""
    x = jnp.linspace(-8, 8, 20_001).astype(dtype)
    expected, expected_slope = exact(np.asarray(x, np.float64))
    np.testing.assert_allclose(np.asarray(gelu(x), np.float64), expected, atol=value)
    np.testing.assert_allclose(np.asarray(jax.vmap(jax.grad(gelu))(x), np.float64), expected_slope, atol=slope)


def test_the_tail_is_kept_in_few_bits():
    """At -3 the value is -0.00405; one plus an error function in bfloat16 would leave 0 or -0.006."""
    assert float(gelu(jnp.bfloat16(-3.0))) == pytest.approx(exact(-3.0)[0], rel=5e-2)


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_relu_is_the_positive_part_and_keeps_what_is_no_number(platform):
    x = jnp.asarray([-2.0, -0.0, 0.0, 3.0, -jnp.inf, jnp.inf, jnp.nan])
    with compiled_for(platform):
        np.testing.assert_array_equal(relu(x), [0.0, 0.0, 0.0, 3.0, 0.0, jnp.inf, jnp.nan])
        np.testing.assert_array_equal(jax.vmap(jax.grad(relu))(x[:6]), [0.0, 0.0, 0.0, 1.0, 0.0, 1.0])
