"""Every registered objective keeps the contract that the one train step relies on."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from infonce import infonce

from vision import models
from vision.objectives import OBJECTIVES, WITH_TEACHER, WITHOUT_LABELS
from vision.objectives.ema import with_ema

BATCH = 8
SPEC = {
    "image": jax.ShapeDtypeStruct((BATCH, 4, 4, 1), jnp.float32),
    "label": jax.ShapeDtypeStruct((BATCH,), jnp.int32),
    "global": jax.ShapeDtypeStruct((BATCH, 2, 4, 4, 1), jnp.float32),
    "tokens": jax.ShapeDtypeStruct((BATCH, 6), jnp.int32),
}
LENGTHS = {"total_steps": 10, "steps_of": lambda duration, key: 1}
SMALL = {
    "contrast": {"embed_dim": 6},
    "masked_token": {"mask_fraction": 0.5},
    "distill": {"num_prototypes": 6, "hidden_dim": 8, "bottleneck_dim": 4},
    "masked_autoencoder": {"decoder_width": 8, "decoder_depth": 1, "decoder_num_heads": 1},
    "simclr": {"hidden_size": 8, "out_size": 4, "batch_norm": False},
}
VIT = {"patch_size": 2, "width": 8, "depth": 1, "num_heads": 1, "mlp_dim": 8, "positions": "sincos2d"}


def batch_of(seed=0):
    views = jax.random.normal(jax.random.key(seed), SPEC["global"].shape)
    words = jax.random.randint(jax.random.key(seed), (BATCH, 6), 1, 8)
    place, end = jnp.arange(6), jnp.array([2, 3, 5, 3, 4, 2, 5, 3])[:, None]  # captions of several lengths
    tokens = jnp.where(place < end, words, jnp.where(place == end, 9, 0)).at[:, 0].set(8).astype(jnp.int32)
    return {"image": views[:, 0], "label": jnp.arange(BATCH) % 3, "global": views, "tokens": tokens}


def model(*, num_classes=3, **options):
    return models.build("mlp/128", num_classes=num_classes, hidden_sizes=(8,), **options)


def text(**options):
    sizes = {"vocab_size": 10, "length": 6, "out_size": 6}
    return models.build_text("text/small", **sizes, width=8, depth=1, num_heads=2, mlp_dim=8, **options)


def made(name):
    """A registered objective over a small model of the kind it takes."""
    classes = 0 if name in WITHOUT_LABELS else 3
    learner = model(num_classes=classes, dropout=0.5)
    if name == "masked_autoencoder":
        learner = models.build("vit/S16", num_classes=classes, image_shape=(4, 4, 1), **VIT)
    asked = inspect.signature(OBJECTIVES[name]).parameters
    both_sides = {"causal": False, "mask_padding": True} if name == "masked_token" else {}
    supplied = {"model": learner, "text": text(dropout=0.5, **both_sides), "teacher": model(), **LENGTHS}
    supplied = {key: value for key, value in supplied.items() if key in asked}
    return OBJECTIVES[name](**supplied, **SMALL.get(name, {}))


BUILDS = {
    **{name: lambda name=name: made(name) for name in OBJECTIVES},
    "ema": lambda: with_ema(OBJECTIVES["classify"](model()), decay=0.9),
    "infonce": lambda: infonce(model(dropout=0.5)),
}


@functools.cache
def built(name):
    """An objective with a compiled ``forward``, parameters and ``extra``: each is made once for all tests."""
    objective = BUILDS[name]()
    params, extra = jax.jit(lambda key: objective.init(key, SPEC))(jax.random.key(0))
    return objective._replace(forward=jax.jit(objective.forward, static_argnums=4)), params, extra


@pytest.fixture(params=BUILDS)
def initial(request):
    return built(request.param)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_contract_documented(name):
    assert "Args" in inspect.getdoc(OBJECTIVES[name])


def test_contract_outputs_are_floating_and_have_an_example_axis(initial):
    objective, params, extra = initial
    keys = jax.random.split(jax.random.key(1), BATCH)
    outputs, _ = objective.forward(params, extra, batch_of(), keys, True)
    for leaf in jax.tree.leaves(outputs):
        assert leaf.shape[0] == BATCH
        assert jnp.issubdtype(leaf.dtype, jnp.floating)


def test_contract_forward_is_per_example(initial):
    """Half the batch gives half of the outputs, dropout included: what accumulation rests on."""
    objective, params, extra = initial
    keys = jax.random.split(jax.random.key(1), BATCH)
    whole, _ = objective.forward(params, extra, batch_of(), keys, True)
    half, _ = objective.forward(params, extra, jax.tree.map(lambda x: x[1::2], batch_of()), keys[1::2], True)
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(half), strict=True):
        np.testing.assert_allclose(one[1::2], other, rtol=1e-5, atol=1e-6)


def test_contract_extra_keeps_its_structure(initial):
    objective, params, extra = initial
    outputs, middle = objective.forward(params, extra, batch_of(), None, True)
    _, (after, metrics) = objective.loss(params, outputs, middle, batch_of(), jnp.int32(0))
    refreshed = objective.refresh(params, after, jnp.int32(1))
    described = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
    assert described(extra) == described(middle) == described(after) == described(refreshed)
    for total, count in metrics.values():
        assert total.shape == count.shape == ()


def test_contract_a_separable_loss_is_the_mean_of_its_parts_and_carries_nothing(initial):
    objective, params, extra = initial

    def loss(batch):
        outputs, middle = objective.forward(params, extra, batch, None, True)
        value, (after, _) = objective.loss(params, outputs, middle, batch, jnp.int32(0))
        carried = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), middle, after)
        return value, any(jax.tree.leaves(carried))

    whole, carries = loss(batch_of())
    parts = [loss(jax.tree.map(lambda x, j=j: x[j::2], batch_of()))[0] for j in range(2)]
    assert (np.isclose(whole, np.mean(parts), rtol=1e-5) and not carries) == objective.separable


def test_contract_encode_gives_output_without_randomness(initial):
    objective, params, extra = initial
    one, other = (objective.encode(params, extra, batch_of()) for _ in range(2))
    assert one["output"].shape[0] == BATCH
    np.testing.assert_array_equal(one["output"], other["output"])


@pytest.mark.parametrize("name", sorted(OBJECTIVES.keys() - WITHOUT_LABELS - WITH_TEACHER))
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
