"""Gradient accumulation equals the big batch, for every kind of objective, on any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mesh_of
from infonce import infonce

from vision import models
from vision.objectives import OBJECTIVES
from vision.training.accumulate import loss_and_gradients
from vision.training.sharding import batch_sharding

BATCH = 32
SPEC = {"image": jax.ShapeDtypeStruct((BATCH, 6, 6, 1), jnp.float32)}
SPEC["global"] = jax.ShapeDtypeStruct((BATCH, 2, 6, 6, 1), jnp.float32)
VIEWS = jax.random.normal(jax.random.key(0), SPEC["global"].shape)
BATCHED = {"image": VIEWS[:, 0], "label": jnp.arange(BATCH) % 5, "global": VIEWS}
MODEL = models.build("mlp/128", num_classes=5, hidden_sizes=(16,), dropout=0.3)
OBJECTIVE = {
    "softmax": OBJECTIVES["classify"](MODEL, label_smoothing=0.1, l2=1e-3),
    "sigmoid": OBJECTIVES["classify"](MODEL, loss="sigmoid"),
    "regress": OBJECTIVES["regress"](MODEL),
    "infonce": infonce(MODEL),
    "simclr": OBJECTIVES["simclr"](MODEL, hidden_size=16, out_size=8, batch_norm=False),
}


def gradients(name, microbatches, devices=1):
    objective = OBJECTIVE[name]
    params, extra = objective.init(jax.random.key(1), SPEC)
    keys = jax.random.split(jax.random.key(2), BATCH)
    batch, keys = jax.device_put((BATCHED, keys), batch_sharding(mesh_of(devices)))

    @jax.jit
    def run(params, extra, batch, keys):
        return loss_and_gradients(objective, params, extra, batch, keys, jnp.int32(0), microbatches=microbatches)

    return jax.device_get(run(params, extra, batch, keys))


def relative(a, b):
    size = max(np.abs(leaf).max() for leaf in jax.tree.leaves(b))
    return max(np.abs(x - y).max() for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)) / size


@pytest.mark.parametrize(
    ("name", "microbatches"),
    [
        pytest.param(name, count, marks=[pytest.mark.slow] * (count != 4 or name == "simclr"))
        for name in OBJECTIVE
        for count in (2, 4, 16)
        if name != "simclr" or count == 4
    ],
)
def test_accumulation_equals_the_big_batch_dropout_included(name, microbatches):
    whole, parts = gradients(name, 1), gradients(name, microbatches)
    for one, other in zip(parts, whole, strict=True):
        assert relative(one, other) < 5e-6 if jax.tree.leaves(other) else True


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name != "infonce")) for name in ("softmax", "infonce", "simclr")],
)
def test_accumulation_on_eight_devices_equals_one(name):
    whole, parts = gradients(name, 1), gradients(name, 4, devices=8)
    assert relative(parts[:2], whole[:2]) < 5e-6


def test_accumulating_infonce_by_averaging_would_be_wrong():
    """The control: a contrastive loss has fewer negatives in each microbatch, so averages are another gradient."""
    wrong = OBJECTIVE["infonce"]._replace(separable=True)
    OBJECTIVE["averaged"] = wrong
    try:
        assert relative(gradients("averaged", 4)[1], gradients("infonce", 1)[1]) > 0.05
    finally:
        del OBJECTIVE["averaged"]


def test_accumulation_does_not_communicate_more_than_the_big_batch():
    """Rows j::m stay where they are: the program of 8 devices gathers no images."""
    objective = OBJECTIVE["softmax"]
    params, extra = objective.init(jax.random.key(1), SPEC)
    sharding = batch_sharding(mesh_of(8))
    batch, keys = jax.device_put((BATCHED, jax.random.split(jax.random.key(2), BATCH)), sharding)

    def compiled(microbatches):
        run = lambda *a: loss_and_gradients(objective, *a, jnp.int32(0), microbatches=microbatches)[:2]  # noqa: E731
        return jax.jit(run).lower(params, extra, batch, keys).compile().as_text()

    for collective in ("all-to-all", "all-gather", "collective-permute"):
        assert compiled(4).count(f" {collective}(") <= compiled(1).count(f" {collective}(")


def test_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="32 does not divide into 3"):
        gradients("softmax", 3)
