"""SimCLR: its loss is the formula and PyTorch's, its batch statistics are of both views, its views are the paper's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mesh_of

from vision import models
from vision.data import augment
from vision.data.augment.multi_crop import dino_views
from vision.data.augment.two_views import (
    lightly_cifar_views,
    simclr_views,
    solo_learn_cifar_views,
    solo_learn_simclr_cifar_views,
)
from vision.models.projection_mlp import ProjectionMlp
from vision.objectives.simclr import nt_xent, simclr
from vision.training.accumulate import loss_and_gradients
from vision.training.sharding import batch_sharding

BATCH = 6
SPEC = {"global": jax.ShapeDtypeStruct((BATCH, 2, 4, 4, 1), jnp.float32)}
VIEWS = np.random.default_rng(5).normal(size=SPEC["global"].shape).astype(np.float32)
# Two embeddings of four images. PyTorch 2.14, float64: F.normalize, z z^T / t with a diagonal of -inf, F.cross_entropy
# with the other view of each image as its class, and the gradient in the embeddings of image 0.
EMBEDDINGS = np.array(
    [
        [[1.0, 2.0, -1.0, 0.0], [0.5, 2.0, 0.0, 0.0]],
        [[-1.0, 0.0, 3.0, 0.0], [0.0, -1.0, 2.0, 0.0]],
        [[2.0, 2.0, 2.0, 0.0], [1.0, -3.0, 0.5, 0.0]],
        [[0.0, 1.0, 0.0, 0.0], [0.1, 4.0, -2.0, 0.0]],
    ],
    np.float32,
)
GOLDEN = {
    0.1: (
        2.919416867385183,
        [
            [-0.11006955102091176, -0.052419150029212824, -0.2149078510793375, 0.0],
            [-0.19715517771682994, 0.04928879442920747, 0.4779425359565344, 0.0],
        ],
    ),
    0.5: (
        1.5302693442119304,
        [
            [-0.004844427785811631, -0.0054014116160430135, -0.015647251017897698, 0.0],
            [-0.04275061630494753, 0.010687654076236883, 0.09385980723485425, 0.0],
        ],
    ),
}


@functools.cache
def compiled(temperature):
    """The mean loss, the loss of each view and whether it found the other, and the gradient of the mean."""

    def loss(embeddings):
        losses, found = nt_xent(embeddings, temperature=temperature)
        return jnp.mean(losses), (losses, found)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@pytest.mark.parametrize("temperature", GOLDEN)
def test_loss_gradient_and_hits_are_those_of_pytorch(temperature):
    value, gradient = GOLDEN[temperature]
    (loss, (_, found)), gradients = compiled(temperature)(EMBEDDINGS)
    assert float(loss) == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(gradients[0], gradient, rtol=1e-4, atol=1e-6)
    assert np.sum(found) == 2


def test_loss_is_equation_1_view_by_view():
    z = np.random.default_rng(0).normal(size=EMBEDDINGS.shape)
    rows = (z / np.linalg.norm(z, axis=-1, keepdims=True)).reshape(8, 4)
    expected = np.zeros(8)
    for i in range(8):
        other = i + 1 if i % 2 == 0 else i - 1
        total = sum(np.exp(rows[i] @ rows[k] / 0.5) for k in range(8) if k != i)
        expected[i] = -np.log(np.exp(rows[i] @ rows[other] / 0.5) / total)
    (_, (losses, _)), _ = compiled(0.5)(np.float32(z))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_closed_forms():
    (_, (same, _)), _ = compiled(0.1)(np.ones_like(EMBEDDINGS))
    np.testing.assert_allclose(same, np.log(7), rtol=1e-6)
    # Both views of an image are one unit vector, all images orthogonal: one logit is 1 / t, the others are 0.
    pairs = np.repeat(np.eye(4, dtype=np.float32)[:, None], 2, axis=1)
    (_, (apart, found)), _ = compiled(0.5)(3.0 * pairs)
    np.testing.assert_allclose(apart, np.log(np.exp(2) + 6) - 2, rtol=1e-5)
    assert np.sum(found) == 8


def test_loss_is_float32_and_has_a_gradient_where_embeddings_vanish():
    coarse = jnp.asarray(EMBEDDINGS, jnp.bfloat16)
    (loss, _), _ = compiled(0.1)(coarse)
    assert loss.dtype == jnp.float32
    assert float(loss) == pytest.approx(float(compiled(0.1)(coarse.astype(jnp.float32))[0][0]), rel=1e-6)
    assert np.isfinite(compiled(0.1)(np.zeros_like(EMBEDDINGS))[1]).all()


@functools.cache
def built(**options):
    """The objective over a network with batch normalisation, its parameters and ``extra``, and ``forward`` compiled."""
    model = models.build("mlp/128", num_classes=0, hidden_sizes=(8,), batch_norm=True)
    objective = simclr(model, **{"hidden_size": 12, "out_size": 5, **options})
    params, extra = jax.jit(lambda key: objective.init(key, SPEC))(jax.random.key(0))
    forward = jax.jit(
        lambda train: objective.forward(params, extra, {"global": jnp.asarray(VIEWS)}, None, train), static_argnums=0
    )
    return objective, params, extra, forward


def test_batch_statistics_are_those_of_both_views_together():
    _, params, extra, forward = built()
    outputs, after = forward(True)
    rows = np.asarray(VIEWS, np.float64).reshape(2 * BATCH, -1)
    layer = params["backbone"]["hidden_0"]
    hidden = rows @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
    statistics = after["collections"]["batch_stats"]["norm_0"]
    np.testing.assert_allclose(statistics["mean"], 0.1 * hidden.mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(statistics["var"], 0.9 + 0.1 * hidden.var(axis=0), rtol=1e-4)
    # Normalised, without a bias after the last layer: every entry has mean 0 over all views, and variance 1.
    embeddings = np.asarray(outputs["embeddings"], np.float64).reshape(2 * BATCH, -1)
    np.testing.assert_allclose(embeddings.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(embeddings.std(axis=0), 1.0, atol=1e-2)
    moved = after["head_collections"]["batch_stats"]["norm_1"]
    assert not np.allclose(moved["var"], extra["head_collections"]["batch_stats"]["norm_1"]["var"])


def test_evaluation_leaves_statistics_alone_and_needs_no_head():
    objective, params, extra, forward = built()
    _, after = forward(False)
    jax.tree.map(np.testing.assert_array_equal, extra, after)
    features = objective.encode({**params, "head": {}}, extra, {"image": jnp.asarray(VIEWS[:, 0])})
    np.testing.assert_array_equal(features["output"], features["pre_logits"])
    assert features["output"].shape == (BATCH, 8)


@pytest.mark.slow
def test_eight_devices_hold_all_views_against_each_other_and_share_batch_statistics():
    objective, params, extra, _ = built()
    views = jax.random.normal(jax.random.key(7), (16, *VIEWS.shape[1:]))

    @jax.jit
    def run(batch, keys):
        return loss_and_gradients(objective, params, extra, batch, keys, jnp.int32(0), microbatches=1)

    def on(devices):
        keys = jax.random.split(jax.random.key(2), 16)
        return jax.device_get(run(*jax.device_put(({"global": views}, keys), batch_sharding(mesh_of(devices)))))

    for one, eight in zip(on(1), on(8), strict=True):
        size = max(np.abs(leaf).max() for leaf in jax.tree.leaves(one))
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
            assert np.abs(a - b).max() < 5e-6 * size


@pytest.mark.parametrize(
    ("batch_norm", "layers", "leaves"),
    [
        # He h -> relu(W1 h + b1) -> W2 + b2: two kernels, two biases.
        (False, 2, {"layer_0/kernel", "layer_0/bias", "layer_1/kernel", "layer_1/bias"}),
        # google-research/simclr, model_util.py, projection_head: normalised layers have no bias, the last norm neither.
        (
            True,
            3,
            {f"layer_{i}/kernel" for i in range(3)}
            | {f"norm_{i}/scale" for i in range(3)}
            | {f"norm_{i}/bias" for i in range(2)},
        ),
    ],
)
def test_head_is_that_of_the_paper_or_of_the_released_code(batch_norm, layers, leaves):
    float32 = jnp.dtype("float32")
    head = ProjectionMlp(7, 3, layers, batch_norm, float32, float32)
    made = jax.eval_shape(lambda key: head.init(key, jnp.zeros((2, 5)), train=False), jax.random.key(0))["params"]
    paths = jax.tree_util.tree_flatten_with_path(made)[0]
    assert {jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths} == leaves
    assert made["layer_0"]["kernel"].shape == (5, 7)
    assert made[f"layer_{layers - 1}"]["kernel"].shape == (7, 3)


def test_two_layers_are_a_relu_between_two_matrices():
    _, params, _, forward = built(batch_norm=False)
    outputs, _ = forward(False)
    features = np.asarray(outputs["features"])  # of the first views
    first, second = (params["head"][f"layer_{i}"] for i in range(2))
    hidden = np.maximum(features @ np.asarray(first["kernel"]) + first["bias"], 0)
    expected = hidden @ np.asarray(second["kernel"]) + np.asarray(second["bias"])
    np.testing.assert_allclose(outputs["embeddings"][:, 0], expected, rtol=1e-4, atol=1e-6)


def values_of(embeddings):
    objective, params, extra, _ = built()
    outputs = {"embeddings": jnp.asarray(embeddings), "features": jnp.asarray(embeddings[:, 0])}
    loss, (_, metrics) = jax.jit(lambda outputs: objective.loss(params, outputs, extra, {}, 0))(outputs)
    values = {name: float(total / count) for name, (total, count) in metrics.items()}
    assert values["contrastive_loss"] == pytest.approx(float(loss))
    return values, objective.warn(values)


def test_collapse_is_told_by_meters_and_a_warning():
    values, warning = values_of(np.ones((4, 2, 4), np.float32))
    assert "ln(2 N - 1) = 1.945910" in warning  # ln 7
    assert values["feature_std"] == pytest.approx(0.0, abs=1e-6)
    values, warning = values_of(np.repeat(np.eye(4, dtype=np.float32)[:, None], 2, axis=1))
    assert warning is None
    assert values["contrastive_accuracy"] == 1.0
    assert values["effective_rank"] == pytest.approx(3, rel=1e-4)  # a simplex spans one dimension less


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"hidden_size": 0}, {"out_size": -1}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        built(**options)


def test_other_numbers_of_views_are_refused():
    objective = built()[0]
    with pytest.raises(ValueError, match="data.views.global makes 3"):
        objective.init(jax.random.key(0), {"global": jax.ShapeDtypeStruct((BATCH, 3, 4, 4, 1), jnp.float32)})


def named(chain):
    return {section["name"]: {k: v for k, v in section.items() if k != "name"} for section in chain}


def test_simclr_views_are_those_of_appendix_a():
    first, second = simclr_views()["global"]
    assert first == second
    steps = named(first)
    order = ["random_resized_crop", "random_flip", "color_jitter", "random_grayscale", "gaussian_blur"]
    assert list(steps) == order
    assert steps["random_resized_crop"] == {"size": 224, "scale": (0.08, 1.0), "interpolation": "bicubic"}
    jitter = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2, "probability": 0.8}
    assert steps["color_jitter"] == jitter
    assert steps["random_flip"] == {"probability": 0.5}
    assert steps["random_grayscale"] == {"probability": 0.2}
    # "kernel size 10% of the image": data_util.py makes 224 // 10 an odd 23.
    assert steps["gaussian_blur"] == {"sigma": (0.1, 2.0), "probability": 0.5, "kernel_size": 23}
    small = named(simclr_views(size=32, strength=0.5, blur=0.0)["global"][0])
    assert list(small) == order[:-1]
    assert small["color_jitter"] == {**{name: value / 2 for name, value in jitter.items()}, "probability": 0.8}


def test_cifar_views_are_those_of_solo_learn_and_lightly():
    first, second = solo_learn_cifar_views()["global"]
    assert second[:-1] == first
    assert second[-1] == {"name": "random_solarize", "threshold": 128, "probability": 0.2}
    steps = named(first)
    assert "gaussian_blur" not in steps
    assert (steps["random_resized_crop"]["size"], steps["random_resized_crop"]["scale"]) == (32, (0.08, 1.0))
    assert list(steps["color_jitter"].values()) == [0.4, 0.4, 0.2, 0.1, 0.8]
    # lightly switches the blur of DINO's views off, and has no local ones.
    dino = dino_views(global_size=32, num_local=0)["global"]
    without_blur = tuple(tuple(step for step in chain if step["name"] != "gaussian_blur") for chain in dino)
    assert lightly_cifar_views()["global"] == without_blur
    both = solo_learn_simclr_cifar_views()["global"]
    full = simclr_views(size=32)["global"][0]
    assert both == (both[0], both[0])
    assert both[0][:-1] == full[:-1]
    assert both[0][-1] == {"name": "gaussian_blur", "sigma": (0.1, 2.0), "probability": 0.5}


@pytest.mark.parametrize(
    "recipe", [simclr_views, solo_learn_cifar_views, solo_learn_simclr_cifar_views, lightly_cifar_views]
)
def test_recipes_are_sections_that_exist(recipe):
    chains = augment.compose_views(augment.resolve_views(recipe(), "views"), "views")
    assert len(chains["global"]) == 2
