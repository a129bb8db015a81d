"""Models of every family keep the contract that objectives, evaluators and checkpoints rely on."""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision import models
from vision.errors import ConfigError
from vision.models.layers import Dropout

SPEC = jax.ShapeDtypeStruct((2, 28, 28, 1), jnp.float32)
# The first registered variant of every family, and those that are built otherwise.
OF_EACH_KIND = (
    *{name.split("/")[0]: name for name in reversed(models.VARIANTS)}.values(),
    "lenet/5_1998",
    "resnet/20",
    "vgg/11_bn_cifar",
    "vit/S16_gap_rep",
    "vit/B16_map",
    "vit/Ti16_deit_distilled",
    "vit/S14_dinov2_reg4",
)
SMALL = ("linear", "mlp/128", "lenet/5")


def specification(name, batch=1):
    return jax.ShapeDtypeStruct((batch, *models.VARIANTS[name].image_shape), jnp.float32)


@pytest.mark.parametrize("name", sorted(set(OF_EACH_KIND)))
def test_contract_of_output_features_and_collections(name):
    """In shapes alone: nothing is computed."""
    variant = models.VARIANTS[name]
    spec = specification(name, batch=2)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2))
    assert inspect.getdoc(variant.module)

    def outcome(num_classes, train):
        model = models.build(name, num_classes=num_classes, image_shape=variant.image_shape)
        params, collections = jax.eval_shape(lambda key: model.init(key, spec), jax.random.key(0))
        apply = lambda p, c, x, k: model.apply(p, c, x, keys=k, train=train)  # noqa: E731
        return *jax.eval_shape(apply, params, collections, spec, keys), params, collections

    output, features, after, params, before = outcome(7, train=True)
    assert output.shape == (2, 7)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), before)
    blocks = sorted(feature for feature in features if re.fullmatch(r"block\d+", feature))
    assert [int(block[5:]) for block in blocks] == list(range(len(blocks)))
    assert bool(blocks) == (name != "linear")
    assert all(feature.shape[0] == 2 for feature in features.values())
    output, features, _, headless, _ = outcome(0, train=False)
    assert output.shape == features["pre_logits"].shape
    assert "head" not in headless
    assert headless.keys() | {"head", "distillation_head"} >= params.keys()


@pytest.mark.parametrize("name", SMALL)
def test_an_example_s_output_does_not_depend_on_its_neighbours(name):
    spec = specification(name)
    model = models.build(name, num_classes=4, image_shape=spec.shape[1:])
    params, collections = jax.jit(lambda key: model.init(key, spec))(jax.random.key(0))
    params = jax.tree.map(lambda p: p + 0.01 * jax.random.normal(jax.random.key(5), p.shape), params)
    images = jax.random.normal(jax.random.key(1), (4, *spec.shape[1:]))
    apply = jax.jit(lambda x: model.apply(params, collections, x, keys=None, train=False)[0])
    whole = apply(images)
    np.testing.assert_array_equal(whole, apply(images))
    np.testing.assert_allclose(whole[2:3], apply(images[2:3]), rtol=1e-4, atol=1e-5)


def test_images_of_another_size_or_with_other_channels_are_refused_when_the_model_is_built_for_some():
    model = models.build("mlp/128", num_classes=3, image_shape=(28, 28, 1))
    params, collections = model.init(jax.random.key(0), SPEC)
    with pytest.raises(ValueError, match="built for images of 28x28x1, these are 32x28x1"):
        model.apply(params, collections, jnp.zeros((1, 32, 28, 1)), keys=None, train=False)
    with pytest.raises(ValueError, match="built for images of 28x28x1, these are 28x28x3"):
        model.init(jax.random.key(0), jax.ShapeDtypeStruct((1, 28, 28, 3), jnp.float32))


def test_unknown_variant_among_many_names_the_nearest_and_the_families():
    with pytest.raises(ConfigError, match=r"did you mean 'vit/B16'\?; \d+ are known, of the families airbench, .*vit"):
        models.build("vit/B17", num_classes=2)


def test_every_hidden_layer_is_a_feature_and_gives_the_output():
    model = models.build("mlp/300-100", num_classes=10)
    params, collections = model.init(jax.random.key(0), SPEC)
    images = jax.random.normal(jax.random.key(1), SPEC.shape)
    output, features, _ = model.apply(params, collections, images, keys=None, train=False)
    x = images.reshape(2, -1)
    for index in range(2):
        layer = params[f"hidden_{index}"]
        x = np.maximum(x @ layer["kernel"] + layer["bias"], 0)
        np.testing.assert_allclose(features[f"block{index:02}"], x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(output, x @ params["head"]["kernel"] + params["head"]["bias"], rtol=1e-4, atol=1e-5)


def test_precision_policy_sets_the_three_types():
    model = models.build("mlp/128", num_classes=10, precision="params=float32,compute=bfloat16,output=float32")
    params, collections = model.init(jax.random.key(0), SPEC)
    output, features, _ = model.apply(params, collections, jnp.ones(SPEC.shape), keys=None, train=False)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert features["pre_logits"].dtype == jnp.bfloat16
    assert output.dtype == jnp.float32
    half = models.build("linear", num_classes=10, precision="params=bfloat16,compute=bfloat16,output=bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(half.init(jax.random.key(0), SPEC)[0])} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize("policy", ["float32", "params=float32,compute=float8,output=float32", "params=float32"])
def test_unknown_precision_shows_how_to_write_it(policy):
    with pytest.raises(ValueError, match="params=float32,compute=float32,output=float32"):
        models.build("linear", num_classes=2, precision=policy)


def test_unknown_variant_and_option_name_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'mlp/300-100'"):
        models.build("mlp/300_100", num_classes=2)
    with pytest.raises(ConfigError, match="did you mean 'hidden_sizes'"):
        models.build("mlp/128", num_classes=2, hidden_size=(3,))


@pytest.mark.parametrize("options", [{"hidden_sizes": ()}, {"hidden_sizes": (0,)}, {"dropout": 1.0}])
def test_impossible_options_are_refused_at_build_time(options):
    with pytest.raises(ConfigError, match="hidden_sizes|dropout"):
        models.build("mlp/128", num_classes=2, **options)


def drop(rate, keys, x=None):
    x = jnp.ones((len(keys), 400)) if x is None else x
    return Dropout(rate).apply({}, x, keys=keys, rngs={"dropout": jax.random.key(0)})


def test_dropout_rate_and_scale():
    out = np.asarray(drop(0.25, jax.random.split(jax.random.key(0), 50)))
    assert set(np.unique(out)) == {0.0, np.float32(1 / 0.75)}
    assert abs((out == 0).mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / out.size)


def test_dropout_mask_belongs_to_the_example_wherever_it_stands():
    keys = jax.random.split(jax.random.key(0), 6)
    whole = drop(0.5, keys)
    np.testing.assert_array_equal(drop(0.5, keys[3:]), whole[3:])
    np.testing.assert_array_equal(drop(0.5, keys[::2]), whole[::2])
    assert not np.array_equal(whole[0], whole[1])


def test_layers_of_one_model_drop_independently():
    model = models.build("mlp/128", num_classes=2, hidden_sizes=(64, 64), dropout=0.5)
    params, collections = model.init(jax.random.key(0), SPEC)
    ones = jax.tree.map(jnp.ones_like, params)
    module, masks = model.module, []
    import flax.linen as nn

    def spy(next_method, args, kwargs, context):
        result = next_method(*args, **kwargs)
        if isinstance(context.module, Dropout):
            masks.append(np.asarray(result) != 0)
        return result

    with nn.intercept_methods(spy):
        keys = jax.random.split(jax.random.key(1), 2)
        model.apply(ones, collections, jnp.ones(SPEC.shape), keys=keys, train=True)
    assert module.dropout == 0.5
    assert len(masks) == 2
    assert not np.array_equal(masks[0], masks[1])


def test_no_dropout_in_evaluation():
    model = models.build("mlp/128", num_classes=2, dropout=0.9)
    plain = models.build("mlp/128", num_classes=2)
    params, collections = model.init(jax.random.key(0), SPEC)
    images = jax.random.normal(jax.random.key(1), SPEC.shape)
    a, _, _ = model.apply(params, collections, images, keys=jax.random.split(jax.random.key(0), 2), train=False)
    b, _, _ = plain.apply(params, collections, images, keys=None, train=False)
    np.testing.assert_array_equal(a, b)


def test_batch_normalisation_of_a_perceptron_is_the_formula():
    model = models.build("mlp/128", num_classes=2, hidden_sizes=(8,), batch_norm=True)
    params, collections = model.init(jax.random.key(0), SPEC)
    images = jax.random.normal(jax.random.key(1), (16, *SPEC.shape[1:]))
    _, features, updated = model.apply(params, collections, images, keys=None, train=True)
    hidden = np.asarray(images).reshape(16, -1) @ np.asarray(params["hidden_0"]["kernel"])
    expected = np.maximum((hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-5), 0)
    np.testing.assert_allclose(features["block00"], expected, atol=1e-5)
    np.testing.assert_allclose(updated["batch_stats"]["norm_0"]["mean"], 0.1 * hidden.mean(0), atol=1e-6)
