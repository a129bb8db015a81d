"""Every registered objective keeps the contract that the one train step relies on."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from infonce import infonce

from vision import models
from vision.objectives import OBJECTIVES
from vision.objectives.ema import with_ema

BATCH = 8
SPEC = {
    "image": jax.ShapeDtypeStruct((BATCH, 4, 4, 1), jnp.float32),
    "label": jax.ShapeDtypeStruct((BATCH,), jnp.int32),
}


def batch_of(seed=0):
    images = jax.random.normal(jax.random.key(seed), SPEC["image"].shape)
    return {"image": images, "label": jnp.arange(BATCH) % 3}


def model(**options):
    return models.build("mlp/128", num_classes=3, hidden_sizes=(8,), **options)


BUILDS = {
    **{name: lambda build=build: build(model(dropout=0.5)) for name, build in OBJECTIVES.items()},
    "ema": lambda: with_ema(OBJECTIVES["classify"](model()), decay=0.9),
    "infonce": lambda: infonce(model(dropout=0.5)),
}


@pytest.fixture(params=BUILDS)
def objective(request):
    return BUILDS[request.param]()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_contract_documented(name):
    assert "Args" in inspect.getdoc(OBJECTIVES[name])


def test_contract_outputs_are_floating_and_have_an_example_axis(objective):
    params, extra = objective.init(jax.random.key(0), SPEC)
    keys = jax.random.split(jax.random.key(1), BATCH)
    outputs, _ = objective.forward(params, extra, batch_of(), keys, True)
    for leaf in jax.tree.leaves(outputs):
        assert leaf.shape[0] == BATCH
        assert jnp.issubdtype(leaf.dtype, jnp.floating)


def test_contract_forward_is_per_example(objective):
    """Half the batch gives half of the outputs, dropout included: what accumulation rests on."""
    params, extra = objective.init(jax.random.key(0), SPEC)
    keys = jax.random.split(jax.random.key(1), BATCH)
    whole, _ = objective.forward(params, extra, batch_of(), keys, True)
    half, _ = objective.forward(params, extra, jax.tree.map(lambda x: x[1::2], batch_of()), keys[1::2], True)
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(half), strict=True):
        np.testing.assert_allclose(one[1::2], other, rtol=1e-5, atol=1e-6)


def test_contract_extra_keeps_its_structure(objective):
    params, extra = objective.init(jax.random.key(0), SPEC)
    outputs, middle = objective.forward(params, extra, batch_of(), None, True)
    _, (after, metrics) = objective.loss(params, outputs, middle, batch_of(), jnp.int32(0))
    refreshed = objective.refresh(params, after, jnp.int32(1))
    described = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
    assert described(extra) == described(middle) == described(after) == described(refreshed)
    for total, count in metrics.values():
        assert total.shape == count.shape == ()


def test_contract_separable_loss_is_the_mean_of_its_parts(objective):
    params, extra = objective.init(jax.random.key(0), SPEC)

    def loss(batch):
        outputs, middle = objective.forward(params, extra, batch, None, True)
        return objective.loss(params, outputs, middle, batch, jnp.int32(0))[0]

    parts = [loss(jax.tree.map(lambda x, j=j: x[j::2], batch_of())) for j in range(2)]
    assert np.isclose(loss(batch_of()), np.mean(parts), rtol=1e-5) == objective.separable


def test_contract_encode_gives_output_without_randomness(objective):
    params, extra = objective.init(jax.random.key(0), SPEC)
    one, other = (objective.encode(params, extra, batch_of()) for _ in range(2))
    assert one["output"].shape[0] == BATCH
    np.testing.assert_array_equal(one["output"], other["output"])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_accuracy_counts_hits(name):
    objective = OBJECTIVES[name](model())
    outputs = {"output": jnp.eye(3)[jnp.array([0, 1, 2, 0, 0, 0, 0, 0])]}
    _, (_, metrics) = objective.loss({}, outputs, {}, batch_of(), jnp.int32(0))
    total, count = metrics["accuracy"]
    assert (float(total), float(count)) == (5.0, 8.0), "labels are 0 1 2 0 1 2 0 1"


def test_l2_penalises_kernels_and_not_biases():
    params, extra = OBJECTIVES["classify"](model()).init(jax.random.key(0), SPEC)
    params = jax.tree.map(lambda p: p + 1.0, params)

    def loss(l2):
        objective = OBJECTIVES["classify"](model(), l2=l2)
        outputs, _ = objective.forward(params, extra, batch_of(), None, True)
        return float(objective.loss(params, outputs, extra, batch_of(), jnp.int32(0))[0])

    kernels = sum(float(np.sum(np.square(layer["kernel"], dtype=np.float64))) for layer in params.values())
    assert np.isclose(loss(0.5) - loss(0.0), 0.5 * kernels, rtol=1e-5)


@pytest.mark.parametrize("options", [{"label_smoothing": 1.0}, {"label_smoothing": -0.1}, {"l2": -1.0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match="label_smoothing|l2"):
        OBJECTIVES["classify"](model(), **options)
