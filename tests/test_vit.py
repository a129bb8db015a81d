"""The Vision Transformer: what its options promise, held against formulas and against each other."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision import models
from vision.errors import ConfigError
from vision.models.platform import compiled_for, platform
from vision.models.positions import resize_positions, rotary_angles, rotate, sincos_2d
from vision.models.scanning import stack_blocks, unstack_blocks

TINY = {"width": 16, "depth": 2, "num_heads": 2, "mlp_dim": 24, "patch_size": 8, "initialisation": "normal"}
SHAPE = (16, 24, 3)
IMAGES = jax.random.normal(jax.random.key(1), (4, *SHAPE))
KEYS = jax.random.split(jax.random.key(2), 4)


def build(num_classes=5, image_shape=SHAPE, **options):
    return models.build("vit/B16", num_classes=num_classes, image_shape=image_shape, **{**TINY, **options})


def initial(model, scale=10.0, shape=SHAPE):
    """Parameters large enough that every part of the network matters."""
    spec = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    params = jax.jit(lambda key: model.init(key, spec)[0])(jax.random.key(0))
    return jax.tree.map(lambda p: np.asarray(p) * np.float32(scale) if p.ndim > 1 else np.asarray(p), params)


@cache
def compiled(model):
    def apply(params, images, keys, inputs):
        output, features, _ = model.apply(params, {}, images, keys=keys, train=keys is not None, **inputs)
        return output, features

    return jax.jit(apply)  # one program for a whole network compiles faster than its operations one by one


def run(model, params, images=IMAGES, keys=None, **inputs):
    return compiled(model)(params, images, keys, inputs)


def test_attention_weights_of_each_block_sum_to_one_and_change_nothing():
    asked, plain = build(attention_weights=True, num_registers=2), build(num_registers=2)
    params = initial(plain)
    output, features = run(asked, params)
    for block in range(2):
        weights = features[f"block{block:02}/attention"]
        assert weights.shape == (4, 2, 1 + 2 + 6, 1 + 2 + 6)
        np.testing.assert_allclose(weights.sum(axis=-1), 1.0, rtol=1e-6)
        assert weights.min() >= 0
    without, rest = run(plain, params)
    assert not [name for name in rest if "attention" in name]
    np.testing.assert_allclose(output, without, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("remat", ["none", "dots", "full"])
def test_scanned_blocks_compute_what_unrolled_ones_do(remat):
    unrolled, scanned = build(layer_scale=0.5), build(layer_scale=0.5, scan=True, remat=remat)
    params = initial(unrolled)
    stacked = stack_blocks(params)
    wanted = jax.eval_shape(lambda key: scanned.init(key, jax.ShapeDtypeStruct((1, *SHAPE), jnp.float32))[0], KEYS[0])
    assert jax.tree.map(jnp.shape, stacked) == jax.tree.map(lambda leaf: leaf.shape, wanted)
    (output, features), (other, others) = run(unrolled, params), run(scanned, stacked)
    assert features.keys() == others.keys()
    scale = np.abs(output).max()
    np.testing.assert_allclose(other, output, rtol=0, atol=1e-6 * scale)
    np.testing.assert_allclose(others["block01"], features["block01"], rtol=0, atol=1e-5)
    again = unstack_blocks(stacked)
    assert jax.tree.structure(again) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, again, params)


@pytest.mark.parametrize("scan", [False, True])
def test_gradients_do_not_depend_on_rematerialisation(scan):
    params = initial(build(scan=scan, depth=2))

    def gradient(remat):
        model = build(scan=scan, remat=remat, depth=2)
        loss = lambda p: jnp.sum(model.apply(p, {}, IMAGES, keys=None, train=False)[0] ** 2)  # noqa: E731
        assert ("remat" in str(jax.make_jaxpr(loss)(params))) == (remat != "none")
        return jax.jit(jax.grad(loss))(params)

    for one, other in zip(jax.tree.leaves(gradient("none")), jax.tree.leaves(gradient("full")), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * (np.abs(one).max() + 1e-12))


def test_blocks_that_are_missing_are_not_stacked_over():
    params = initial(build())
    del params["encoder"]["block00"]
    with pytest.raises(ValueError, match="block"):
        stack_blocks(params)


@pytest.mark.parametrize(
    "options",
    [
        {"dropout": 0.3},
        {"stochastic_depth": 0.6},
        {"stochastic_depth": 0.6, "scan": True},
        {"patch_dropout": 0.5},
        {"patch_dropout": 0.5, "positions": "rotary"},
    ],
    ids=str,
)
def test_what_is_dropped_belongs_to_the_example(options):
    model = build(**options)
    params = initial(model)
    whole, _ = run(model, params, keys=KEYS)
    part, _ = run(model, params, IMAGES[1:3], keys=KEYS[1:3])
    np.testing.assert_allclose(part, whole[1:3], rtol=1e-4, atol=1e-4)
    evaluated, _ = run(model, params)
    assert np.abs(whole - evaluated).max() > 1e-2
    other, _ = run(model, params, keys=jax.random.split(jax.random.key(9), 4))
    assert np.abs(whole - other).max() > 1e-2


def test_patch_dropout_keeps_the_stated_share_in_order():
    model = build(patch_dropout=0.5, num_registers=1, depth=1)
    _, features = run(model, initial(model), keys=KEYS)
    assert features["patch_tokens"].shape == (4, 3, 16)
    assert features["block00"].shape == (4, 1 + 1 + 3, 16)


def test_stochastic_depth_rises_linearly_and_keeps_the_expectation():
    from vision.models.layers import Residual, drop_rates

    assert drop_rates(0.3, 4) == pytest.approx((0.0, 0.1, 0.2, 0.3))
    assert drop_rates(0.3, 3, uniform=True) == (0.3, 0.3, 0.3)
    keys, x = jax.random.split(jax.random.key(0), 4000), jnp.zeros((4000, 1))

    def drop(**options):
        residual = Residual(**options)
        arguments = {"rate": 0.25, "keys": keys, "rngs": {"dropout": jax.random.key(1)}}
        return np.asarray(residual.apply({}, x, lambda part, keys: part + 1.0, **arguments))

    kept = drop()
    assert set(np.unique(kept)) == {0.0, np.float32(1 / 0.75)}
    assert abs((kept == 0).mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 4000)
    assert set(np.unique(drop(rescale=False))) == {0.0, 1.0}
    subset = drop(mode="batch_subset")
    assert (subset != 0).sum() == 3000
    np.testing.assert_allclose(subset[subset != 0], 4000 / 3000, rtol=1e-6)


def test_batch_subset_says_that_it_needs_the_whole_batch():
    assert build(stochastic_depth=0.3, drop_mode="batch_subset").needs_whole_batch
    assert not build(stochastic_depth=0.3).needs_whole_batch
    assert not build(drop_mode="batch_subset").needs_whole_batch


def test_masked_patches_no_longer_matter():
    model = build(mask_token=True, depth=1)
    params = initial(model)
    masks = jnp.zeros((4, 6), bool).at[:, 1].set(True)  # the first row of patches, the second patch
    changed = IMAGES.at[:, :8, 8:16].add(3.0)
    np.testing.assert_allclose(run(model, params, changed, masks=masks)[0], run(model, params, masks=masks)[0])
    assert np.abs(run(model, params, changed)[0] - run(model, params)[0]).max() > 1e-3
    with pytest.raises(ValueError, match="mask_token=True"):
        run(build(depth=1), params, masks=masks)


def test_images_of_another_size_are_refused_or_their_positions_resized():
    model, elastic = build(), build(resize_positions=True)
    params = initial(model)
    larger = jnp.zeros((2, 32, 24, 3))
    with pytest.raises(ValueError, match="16x24x3, these are 32x24x3"):
        run(model, params, larger)
    unknown = build(image_shape=None)
    with pytest.raises(ValueError, match="learned positions are for 2x3 patches, these images have 4x3"):
        unknown.apply(params, {}, larger, keys=None, train=False)
    output, features = run(elastic, params, larger)
    assert (output.shape, features["patch_tokens"].shape) == ((2, 5), (2, 12, 16))
    resized = {**params, "position_embedding": resize_positions(jnp.asarray(params["position_embedding"]), (4, 3))}
    own = build(image_shape=(32, 24, 3))
    np.testing.assert_allclose(run(own, resized, larger)[0], output, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "shape", "words"),
    [
        ({}, (20, 24, 3), "8x8 do not divide an image of 20x24; 16x24 would do"),
        ({"num_heads": 3}, SHAPE, "num_heads 3 does not divide the width 16"),
        ({"class_token": False}, SHAPE, "class_token=True"),
        ({"pool": "gap", "distillation_token": True}, SHAPE, "pool='token'"),
        ({"stochastic_depth": 1.0}, SHAPE, "stochastic_depth must be in"),
        ({"depth": 0}, SHAPE, "depth must be at least 1"),
        ({"positions": "sincos2d", "width": 6}, SHAPE, "multiple of 4"),
        ({"positions": "rotary", "num_heads": 8}, SHAPE, "multiple of 4"),
        ({"drop_mode": "batch_subset", "scan": True, "stochastic_depth": 0.1}, SHAPE, "uniform_depth=True"),
        ({"activation": "relu"}, SHAPE, "'relu' is not one of"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_built(options, shape, words):
    with pytest.raises(ConfigError, match=words):
        build(image_shape=shape, **options)


def test_sincos_positions_are_those_of_the_formula():
    grid = sincos_2d((3, 4), 16)
    frequency = [10_000 ** -(i / 3) for i in range(4)]
    for y, x in ((0, 0), (2, 1), (1, 3)):
        angles = [np.array(frequency) * at for at in (x, y)]
        expected = np.concatenate([f(a) for a in angles for f in (np.sin, np.cos)])
        np.testing.assert_allclose(grid[y, x], expected, atol=1e-6)


def test_rotated_scores_depend_on_the_difference_of_places_alone():
    angles = rotary_angles((4, 5), 8).reshape(4, 5, 4)
    rng = np.random.default_rng(0)
    query, key = rng.normal(size=(2, 8)).astype(np.float32)

    def score(at, to):
        turned = rotate(jnp.asarray(np.stack([query, key]))[None, :, None], jnp.stack([angles[at], angles[to]]))
        return float(turned[0, 0, 0] @ turned[0, 1, 0])

    assert score((0, 1), (2, 2)) == pytest.approx(score((1, 2), (3, 3)), abs=1e-4)
    assert score((0, 1), (0, 1)) == pytest.approx(float(query @ key), abs=1e-4)
    assert abs(score((0, 1), (2, 2)) - score((2, 1), (0, 2))) > 1e-3
    prefixed = rotate(jnp.ones((1, 21, 1, 8)), jnp.asarray(angles.reshape(20, 4)))
    np.testing.assert_array_equal(prefixed[:, 0], 1.0)


def test_bfloat16_keeps_parameters_and_output_in_float32():
    model = models.build(
        "vit/B16", num_classes=5, precision="params=float32,compute=bfloat16,output=float32",
        **{**TINY, "layer_scale": 1.0, "num_registers": 1},
    )  # fmt: skip
    params = initial(model, scale=1.0)
    output, features = run(model, params)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert (output.dtype, features["block01"].dtype) == (jnp.float32, jnp.bfloat16)
    exact, _ = run(build(layer_scale=1.0, num_registers=1), params)
    assert 0 < np.abs(output - exact).max() < 0.03 * np.abs(exact).max()


def test_the_two_heads_of_a_distilled_network_are_averaged():
    model = build(distillation_token=True, depth=1)
    output, features = run(model, initial(model))
    np.testing.assert_allclose(output, (features["class_logits"] + features["distillation_logits"]) / 2, rtol=1e-6)
    assert np.abs(features["class_logits"] - features["distillation_logits"]).max() > 1e-3


@pytest.mark.slow
def test_a_scan_makes_the_gradient_of_a_large_network_a_much_smaller_program():
    """ViT-L/16 at 224: what the option is for. Counts are asserted: a clock beside another worker is no evidence."""
    import time

    def compile_gradient(scan):
        model = models.build("vit/L16", num_classes=1000, image_shape=(224, 224, 3), scan=scan)
        spec = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
        params = jax.eval_shape(lambda key: model.init(key, spec)[0], jax.random.key(0))
        loss = lambda p, x: jnp.mean(model.apply(p, {}, x, keys=None, train=False)[0] ** 2)  # noqa: E731
        began = time.monotonic()
        lowered = jax.jit(jax.grad(loss)).lower(params, spec)
        compiled = lowered.compile({"xla_backend_optimization_level": 3})  # as programs have it
        return compiled.as_text().count("\n"), time.monotonic() - began

    cached = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        unrolled, scanned = compile_gradient(False), compile_gradient(True)
    finally:
        jax.config.update("jax_enable_compilation_cache", cached)
    print("gradient of ViT-L/16, lines of the compiled program and seconds to it:", unrolled, scanned)
    assert unrolled[0] >= 4 * scanned[0]


@pytest.mark.parametrize("options", [{}, {"mlp": "swiglu"}, {"activation": "quick_gelu"}])
def test_the_forms_for_a_tpu_and_for_a_cpu_are_one_function(options):
    model = models.build("vit/Ti16", num_classes=5, image_shape=(32, 32, 3), depth=2, **options)
    images = jax.random.normal(jax.random.key(0), (3, 32, 32, 3))
    params, _ = model.init(jax.random.key(1), jax.ShapeDtypeStruct(images.shape, jnp.float32))

    def of(name):
        def loss(params):
            with compiled_for(name):
                assert platform() == name
                output, _, _ = model.apply(params, {}, images, keys=None, train=True)
            return jnp.sum(jnp.sin(output)), output

        (_, output), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
        return output, gradients

    (here, gradients), (there, other) = of("cpu"), of("tpu")
    np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-5)
    for one, two in zip(jax.tree.leaves(gradients), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)
    assert platform() == "cpu"
