"""Every registered model keeps the contract that objectives, evaluators and checkpoints rely on."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision import models
from vision.errors import ConfigError
from vision.models.layers import Dropout

SPEC = jax.ShapeDtypeStruct((2, 28, 28, 1), jnp.float32)
# Published counts for 28x28 grey images and 10 classes.
COUNTS = {"linear": 7_850, "mlp/128": 101_770, "mlp/300-100": 266_610, "mlp/256-256": 269_322, "mlp/512-512": 669_706}


def shapes(name, spec=SPEC, **options):
    return jax.eval_shape(
        lambda key: models.build(name, num_classes=10, **options).init(key, spec)[0], jax.random.key(0)
    )


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("name", models.VARIANTS)
def test_parameter_count_is_the_published_one(name):
    assert count(shapes(name)) == COUNTS[name]


def test_softmax_regression_on_cifar_has_its_published_count():
    assert count(shapes("linear", jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))) == 30_730


@pytest.mark.parametrize("name", models.VARIANTS)
def test_contract_output_features_and_purity(name):
    model = models.build(name, num_classes=7)
    assert inspect.getdoc(type(model.module))
    spec = jax.ShapeDtypeStruct((3, 6, 5, 2), jnp.float32)
    params, collections = model.init(jax.random.key(0), spec)
    images = jax.random.normal(jax.random.key(1), spec.shape)
    output, features, after = model.apply(params, collections, images, keys=None, train=False)
    assert output.shape == (3, 7)
    assert features["pre_logits"].shape[0] == 3
    assert jax.tree.structure(after) == jax.tree.structure(collections)
    again, _, _ = model.apply(params, collections, images, keys=None, train=False)
    np.testing.assert_array_equal(output, again)
    keys = jax.random.split(jax.random.key(2), 3)
    trained, _, _ = model.apply(params, collections, images, keys=keys, train=True)
    assert trained.shape == output.shape


@pytest.mark.parametrize("name", models.VARIANTS)
def test_an_example_s_output_does_not_depend_on_its_neighbours(name):
    model = models.build(name, num_classes=4)
    params, collections = model.init(jax.random.key(0), SPEC)
    params = jax.tree.map(lambda p: p + 0.01 * jax.random.normal(jax.random.key(5), p.shape), params)
    images = jax.random.normal(jax.random.key(1), (4, 28, 28, 1))
    whole, _, _ = model.apply(params, collections, images, keys=None, train=False)
    single, _, _ = model.apply(params, collections, images[2:3], keys=None, train=False)
    np.testing.assert_allclose(whole[2:3], single, rtol=1e-5, atol=1e-6)


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
