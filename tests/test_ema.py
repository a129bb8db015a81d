"""The average of the parameters is the one that its formula says, and the one that evaluators see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision import models
from vision.config.calling import call
from vision.errors import ConfigError
from vision.objectives.classify import classify
from vision.objectives.ema import with_ema

SPEC = {"image": jax.ShapeDtypeStruct((2, 2, 2, 1), jnp.float32), "label": jax.ShapeDtypeStruct((2,), jnp.int32)}
HALF = "params=bfloat16,compute=bfloat16,output=float32"


def averaged(decay: float = 0.9, **options):
    plain = classify(models.build("linear", num_classes=3, **options))
    return plain, with_ema(plain, decay=decay)


def shifted(params, amount: float):
    return jax.tree.map(lambda p: (p + amount).astype(p.dtype), params)


def refreshed(objective, params, extra, updates: int):
    """The state after updates that set every parameter to its initial value plus 1, plus 2, and so on."""
    for n in range(1, updates + 1):
        extra = objective.refresh(shifted(params, float(n)), extra, jnp.asarray(n))
    return shifted(params, float(updates)), extra


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_average_after_n_updates_is_the_closed_form(decay):
    _, objective = averaged(decay, zero_init=False)
    start, extra = objective.init(jax.random.key(0), SPEC)
    n = 6
    _, extra = refreshed(objective, start, extra, n)
    # decay^n start + (1 - decay) sum_i decay^(n - i) (start + i): the weights add up to 1
    offset = sum((1 - decay) * decay ** (n - i) * i for i in range(1, n + 1))
    for average, value in zip(jax.tree.leaves(extra["ema"]), jax.tree.leaves(start), strict=True):
        np.testing.assert_allclose(average, value + offset, rtol=1e-5, atol=1e-6)


def test_average_starts_at_the_initial_parameters_and_leaves_their_drawing_alone():
    plain, objective = averaged(zero_init=False)
    params, extra = objective.init(jax.random.key(1), SPEC)
    without, _ = plain.init(jax.random.key(1), SPEC)
    assert np.ptp(jax.tree.leaves(params)[1]) > 0.0
    for average, value, other in zip(*map(jax.tree.leaves, (extra["ema"], params, without)), strict=True):
        np.testing.assert_array_equal(average, value)
        np.testing.assert_array_equal(other, value)


def test_evaluators_see_the_average_and_training_the_parameters():
    plain, objective = averaged(0.5, zero_init=False)
    start, extra = objective.init(jax.random.key(0), SPEC)
    params, extra = refreshed(objective, start, extra, 3)
    batch = {"image": jnp.arange(8.0).reshape(2, 2, 2, 1), "label": jnp.zeros(2, jnp.int32)}
    seen = objective.encode(params, extra, batch)["output"]
    np.testing.assert_array_equal(seen, plain.encode(extra["ema"], extra, batch)["output"])
    trained = plain.encode(params, extra, batch)["output"]
    assert np.min(np.abs(seen - trained)) > 0.1
    outputs, _ = objective.forward(params, extra, batch, None, True)
    np.testing.assert_array_equal(outputs["output"], trained)


def test_average_of_bfloat16_parameters_is_kept_in_float32():
    _, objective = averaged(0.999, precision=HALF)
    params, extra = objective.init(jax.random.key(0), SPEC)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}
    params = shifted(params, 1.0)
    for n in range(1, 5):
        extra = objective.refresh(params, extra, jnp.asarray(n))
    for average in jax.tree.leaves(extra["ema"]):
        assert average.dtype == jnp.float32
        np.testing.assert_allclose(average, 1.0 - 0.999**4, rtol=1e-5)


def test_small_steps_of_the_average_are_not_lost_to_rounding():
    _, objective = averaged(0.999, precision=HALF)
    params, extra = objective.init(jax.random.key(0), SPEC)
    extra = {**extra, "ema": jax.tree.map(jnp.ones_like, extra["ema"])}
    extra = objective.refresh(shifted(params, 2.0), extra, jnp.asarray(1))
    for average in jax.tree.leaves(extra["ema"]):
        np.testing.assert_allclose(average, 1.001, rtol=1e-6)  # the next bfloat16 after 1 is 1.0078


def test_refresh_keeps_what_else_the_objective_carries():
    _, objective = averaged()
    params, extra = objective.init(jax.random.key(0), SPEC)
    assert set(extra) == {"collections", "ema"}
    assert set(objective.refresh(params, extra, jnp.asarray(1))) == {"collections", "ema"}


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_impossible_decay_is_refused_by_name(decay):
    objective, _ = averaged()
    with pytest.raises(ConfigError, match=r"config\.ema: decay must be in \[0, 1\)"):
        call(with_ema, {"decay": decay}, "config.ema", objective=objective)
