"""The convolutional families have their published sizes, and do what the papers say of them."""

import re
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision import models
from vision.errors import ConfigError
from vision.models.layers import Dropout
from vision.models.resnet import ResNet
from vision.models.vgg import VGGBlock

# Published counts, with the head of the published number of classes.
COUNTS = {
    "lenet/5": 61_706,
    "lenet/5_1998": 60_000,
    "lenet/caffe": 431_080,
    "alexnet/2012": 60_965_224,
    "alexnet/2014": 61_100_840,
    "vgg/11": 132_863_336,
    "vgg/13": 133_047_848,
    "vgg/16": 138_357_544,
    "vgg/19": 143_667_240,
    "vgg/11_bn": 132_868_840,
    "vgg/13_bn": 133_053_736,
    "vgg/16_bn": 138_365_992,
    "vgg/19_bn": 143_678_248,
    "vgg/16_cifar": 14_719_818,
    "vgg/11_bn_cifar": 9_231_114,
    "vgg/13_bn_cifar": 9_416_010,
    "vgg/16_bn_cifar": 14_728_266,
    "vgg/19_bn_cifar": 20_040_522,
    "resnet/18": 11_689_512,
    "resnet/34": 21_797_672,
    "resnet/50": 25_557_032,
    "resnet/101": 44_549_160,
    "resnet/152": 60_192_808,
    "resnet/18_cifar": 11_173_962,
    "resnet/34_cifar": 21_282_122,
    "resnet/50_cifar": 23_520_842,
    "resnet/20": 269_722,
    "resnet/32": 464_154,
    "resnet/44": 658_586,
    "resnet/56": 853_018,
    "resnet/110": 1_727_962,
    "resnet/1202": 19_421_274,
    "resnet/20_b": 272_474,
    "resnet/32_b": 466_906,
    "resnet/44_b": 661_338,
    "resnet/56_b": 855_770,
    "resnet/110_b": 1_730_714,
    "resnet/1202_b": 19_424_026,
    # Shortcuts of option A have no parameters, so that plain networks are as large.
    "plain/20": 269_722,
    "plain/32": 464_154,
    "plain/44": 658_586,
    "plain/56": 853_018,
    "plain/110": 1_727_962,
    # Those of the residual network without its three projections of 64, 128 and 256 channels to twice as many.
    "plain/18": 11_689_512 - sum(2 * n * n + 2 * 2 * n for n in (64, 128, 256)),
    "plain/34": 21_797_672 - sum(2 * n * n + 2 * 2 * n for n in (64, 128, 256)),
    "wide_resnet/28_10": 36_479_194,
    "wide_resnet/16_8": 10_961_370,
    "wide_resnet/40_4": 8_949_210,
    "wide_resnet/50_2": 68_883_240,
    "wide_resnet/101_2": 126_886_696,
    "convnext/T": 28_589_128,
    "convnext/S": 50_223_688,
    "convnext/B": 88_591_464,
    "convnext/L": 197_767_336,
}
FAMILIES = {name.split("/")[0] for name in COUNTS}
NOT_PUBLISHED = {"vgg/11_cifar", "vgg/13_cifar", "vgg/19_cifar"}  # CIFAR forms that circulate with normalisation only
# What takes long to trace and has a smaller brother.
LONG = {f"resnet/{depth}" for depth in ("101", "152", "44", "44_b", "56", "56_b", "110", "110_b", "1202", "1202_b")}
LONG |= {"plain/44", "plain/56", "plain/110", "wide_resnet/101_2", "convnext/S", "convnext/B", "convnext/L"}
SHALLOW = {"stage_sizes": (1, 1, 1, 1)}


def published(name, **options):
    variant = models.VARIANTS[name]
    options = {"num_classes": variant.num_classes, "image_shape": variant.image_shape, **options}
    return models.build(name, **options), jax.ShapeDtypeStruct((1, *options["image_shape"]), jnp.float32)


def shapes(name, **options):
    model, spec = published(name, **options)
    return jax.eval_shape(lambda key: model.init(key, spec), jax.random.key(0))[0]


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in COUNTS])
def test_published_parameter_count(name):
    assert count(shapes(name)) == COUNTS[name]


def test_no_variant_of_these_families_is_left_out():
    assert {name for name in models.VARIANTS if name.split("/")[0] in FAMILIES} == {*COUNTS, *NOT_PUBLISHED}


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("lenet/5", {"image_shape": (32, 32, 1)}, 61_706),
        ("lenet/5", {"image_shape": (32, 32, 3)}, 62_006),
        ("alexnet/2014", {"num_classes": 10}, 57_044_810),
        ("resnet/18", {"num_classes": 0}, 11_176_512),
        ("resnet/34", {"num_classes": 0}, 21_284_672),
        ("resnet/50", {"num_classes": 0}, 23_508_032),
        pytest.param("resnet/101", {"num_classes": 0}, 42_500_160, marks=pytest.mark.slow),
        pytest.param("resnet/152", {"num_classes": 0}, 58_143_808, marks=pytest.mark.slow),
        ("resnet/18_cifar", {"num_classes": 100}, 11_220_132),
        pytest.param("resnet/34_cifar", {"num_classes": 100}, 21_328_292, marks=pytest.mark.slow),
        pytest.param("resnet/50_cifar", {"num_classes": 100}, 23_705_252, marks=pytest.mark.slow),
        ("resnet/18", {"image_shape": (33, 47, 3)}, 11_689_512),
        ("vgg/11", {"image_shape": (32, 80, 3)}, 132_863_336),
    ],
)
def test_published_counts_with_another_head_or_other_images(name, options, expected):
    assert count(shapes(name, **options)) == expected


SMALLEST = {
    "lenet/caffe": 16,
    "alexnet/2012": 67,
    "alexnet/2014": 63,
    "vgg/11": 32,
    "vgg/11_bn_cifar": 32,
    "convnext/T": 32,
    "lenet/5": 1,
    "lenet/5_1998": 1,
    "resnet/18": 1,
    "resnet/20": 1,
    "wide_resnet/16_8": 1,
}


@pytest.mark.parametrize(("name", "size"), SMALLEST.items())
def test_images_that_are_too_small_are_refused_and_the_smallest_leave_a_pixel(name, size):
    channels = models.VARIANTS[name].image_shape[2]
    shallow = SHALLOW if name == "convnext/T" else {}
    model, spec = published(name, image_shape=(size, size + 1, channels), **shallow)

    def forward(key):
        params, collections = model.init(key, spec)
        return model.apply(params, collections, jnp.zeros(spec.shape), keys=None, train=False)

    _, features, _ = jax.eval_shape(forward, jax.random.key(0))
    assert all(feature.size for feature in features.values())
    if size > 1:
        with pytest.raises(ConfigError, match=f"at least {size}x{size} pixels, these are {size + 5}x{size - 1}"):
            published(name, image_shape=(size + 5, size - 1, channels))


def features_of(name, **options):
    model, spec = published(name, **options)

    def forward(key):
        params, collections = model.init(key, spec)
        return model.apply(params, collections, jnp.zeros(spec.shape), keys=None, train=False)[1]

    return {name: feature.shape[1:] for name, feature in jax.eval_shape(forward, jax.random.key(0)).items()}


def test_feature_maps_of_the_residual_network_are_those_of_its_paper():
    """He et al. 2016, table 1, and section 4.2 for CIFAR."""
    features = features_of("resnet/50")
    expected = {"stem": (56, 56, 64), "block00": (56, 56, 256), "block03": (28, 28, 512), "block15": (7, 7, 2048)}
    assert expected.items() <= features.items()
    assert len(features) == 18
    features = features_of("resnet/56")
    expected = {"stem": (32, 32, 16), "block08": (32, 32, 16), "block09": (16, 16, 32), "block26": (8, 8, 64)}
    assert expected.items() <= features.items()
    assert features["pre_logits"] == (64,)


def test_names_of_more_than_a_hundred_blocks_sort_in_depth_order():
    module = ResNet(10, stage_sizes=(51, 50), stem="cifar", width=1)
    forward = lambda key: module.init_with_output(key, jnp.zeros((1, 4, 4, 1)))[0][1]  # noqa: E731
    blocks = [name for name in jax.eval_shape(forward, jax.random.key(0)) if re.fullmatch(r"block\d+", name)]
    assert blocks[0] == "block000"
    assert blocks == sorted(blocks)
    assert len(blocks) == 101


def drawn(module, images):
    """Variables of a module, drawn with NumPy: compiling an initialisation takes longer than a network of this size."""
    shapes = jax.eval_shape(lambda key: module.init(key, images[:1]), jax.random.key(0))
    numbers = np.random.default_rng(0)

    def draw(path, leaf):
        name = path[-1].key
        value = numbers.normal(scale=0.5 if name == "kernel" else 0.0, size=leaf.shape)
        return jnp.asarray(value + (name in ("scale", "var", "layer_scale")), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, dict(shapes))


def features_after(module, images, variables, keys=None, train=True):
    """The features of one call."""

    def forward(variables, images, keys):
        streams = {"dropout": jax.random.key(0)}
        options = {"train": train, "keys": keys, "rngs": streams, "mutable": ["batch_stats"]}
        return module.apply(variables, images, **options)[0][1]

    return jax.jit(forward)(variables, images, keys)


IMAGES = jnp.asarray(np.random.default_rng(3).normal(size=(16, 4, 4, 3)), jnp.float32)


def silent(variables):
    """The same with the scale of the last normalisation of every block at zero."""
    still = lambda path, x: x * 0 if [key.key for key in path][-2:] == ["norm2", "scale"] else x  # noqa: E731
    return jax.tree_util.tree_map_with_path(still, variables)


def test_a_silent_block_is_its_shortcut_and_a_silent_plain_block_is_nothing():
    """Option A's shortcut takes every second pixel and puts zero channels on both sides."""
    tiny = partial(ResNet, 4, stage_sizes=(1, 1), stem="cifar", width=4)
    residual, plain = tiny(shortcut="pad"), tiny(shortcut="none")
    variables = silent(drawn(residual, IMAGES))
    features = features_after(residual, IMAGES, variables, train=False)
    np.testing.assert_array_equal(features["block00"], features["stem"])
    padded = np.pad(features["block00"][:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (2, 2)))
    np.testing.assert_array_equal(features["block01"], padded)
    features = features_after(plain, IMAGES, variables, train=False)
    assert features["stem"].max() > 0
    assert features["block00"].max() == 0


def test_branches_start_silent_where_asked():
    network = ResNet(4, stage_sizes=(1, 1), stem="cifar", width=4, zero_init=True)

    def scales(key):
        blocks = network.init(key, IMAGES[:1])["params"]
        return [[blocks[name][norm]["scale"] for norm in ("norm1", "norm2")] for name in ("block00", "block01")]

    for first, last in jax.jit(scales)(jax.random.key(0)):
        assert set(first.tolist()) == {1.0}
        assert set(last.tolist()) == {0.0}


@pytest.mark.parametrize("order", ["before", "after"])
def test_the_order_of_normalisation_and_activation_is_an_option_of_residual_and_vgg_networks(order):
    """Behind a normalisation maps have negative values, behind a ReLU they have not."""
    network = ResNet(4, stage_sizes=(1,), stem="cifar", width=4, norm_order=order)
    features = features_after(network, IMAGES, drawn(network, IMAGES))
    assert (float(features["stem"].min()) < 0) == (order == "after")
    assert float(features["block00"].min()) == 0, "the sum is followed by the ReLU in either order"
    block = VGGBlock(4, 1, True, order, jnp.dtype("float32"), jnp.dtype("float32"))
    variables = jax.eval_shape(lambda key: block.init(key, IMAGES, train=True), jax.random.key(0))
    ones = jax.tree.map(lambda leaf: jnp.full(leaf.shape, -1.0), variables)
    maps, _ = jax.jit(lambda x: block.apply(ones, x, train=True, mutable=["batch_stats"]))(IMAGES)
    assert (float(maps.min()) < 0) == (order == "after")


def test_stochastic_depth_leaves_out_later_branches_and_of_examples_one_by_one():
    keys = jax.random.split(jax.random.key(5), 16)
    network = ResNet(4, stage_sizes=(2,), stem="cifar", width=4, stochastic_depth=0.5)
    variables = drawn(network, IMAGES)
    features = features_after(network, IMAGES, variables, keys)
    stem, first, second = (np.asarray(features[name]) for name in ("stem", "block00", "block01"))
    assert (stem != first).any(axis=(1, 2, 3)).all(), "the first branch always stays"
    left_out = (first == second).all(axis=(1, 2, 3))
    assert 2 <= left_out.sum() <= 14
    features = features_after(network, IMAGES, variables, keys, train=False)
    assert (features["block00"] != features["block01"]).any(axis=(1, 2, 3)).all(), "not in evaluation"


def dropped(module, images):
    """What every dropout layer of a module let through, as masks."""
    masks = []

    def spy(next_method, args, kwargs, context):
        result = next_method(*args, **kwargs)
        if isinstance(context.module, Dropout) and context.module.rate:
            masks.append((args[0], result))
        return result

    def forward(variables, images):
        keys = jax.random.split(jax.random.key(1), len(images))
        options = {"train": True, "keys": keys, "rngs": {"dropout": jax.random.key(0)}, "mutable": ["batch_stats"]}
        with nn.intercept_methods(spy):
            module.apply(variables, images, **options)
        return list(masks)

    seen = jax.jit(forward)(drawn(module, images), images)
    return [(np.asarray(before) != 0, np.asarray(after) != 0) for before, after in seen]


def test_dropout_of_whole_feature_maps_within_blocks_and_of_features_before_the_head():
    tiny = ResNet(4, (1,), stem="cifar", width=16, block_dropout=0.5, spatial_dropout=True, dropout=0.5)
    (before, inside), (_, head) = dropped(tiny, IMAGES)
    kept = inside.any(axis=(1, 2))
    assert 0.3 < kept.mean() < 0.7
    np.testing.assert_array_equal(inside, before & kept[:, None, None])
    assert head.shape == (16, 16)
    assert 0.3 < head.mean() < 0.7


def test_options_that_cannot_be_are_refused_by_name():
    for name, options, message in (
        ("resnet/18", {"stochastic_depth": 1.0}, r"stochastic_depth must be in \[0, 1\), got 1.0"),
        ("resnet/18", {"block_dropout": -0.1}, "block_dropout must be"),
        ("resnet/18", {"stage_sizes": (2, 0)}, "stage_sizes must be positive"),
        ("resnet/18", {"width": 0}, "width and width_factor must be positive"),
        ("resnet/18", {"shortcut": "B"}, "'B' is not one of 'projection', 'pad', 'none'"),
        ("resnet/18", {"norm_order": "behind"}, "'behind' is not one of 'before', 'after'"),
        ("plain/20", {"zero_init": True}, "a plain network has no branch"),
        ("wide_resnet/28_10", {"depth": 30}, "depth must be 6 n \\+ 4"),
        ("wide_resnet/28_10", {"width_factor": 0}, "width_factor must be positive"),
        ("wide_resnet/28_10", {"dropout": 1.0}, "dropout must be"),
        ("vgg/16", {"dropout": 1.0}, "dropout must be"),
        ("vgg/16", {"grid": 0}, "grid must be positive"),
        ("vgg/16", {"hidden_sizes": (0,)}, "hidden_sizes must be"),
        ("vgg/16", {"block_depths": (1, 1, 1, 1, 0)}, "block_depths and widths must be"),
        ("alexnet/2014", {"hidden_sizes": ()}, "hidden_sizes must be"),
        ("alexnet/2014", {"dropout": 2.0}, "dropout must be"),
        ("convnext/T", {"widths": (96,)}, "stage_sizes and widths must be as long"),
        ("convnext/T", {"patch_size": 0}, "patch_size must be positive"),
        ("convnext/T", {"stochastic_depth": 1.5}, "stochastic_depth must be"),
        ("lenet/5", {"pooling": "mean"}, "'mean' is not one of 'max', 'average'"),
        ("lenet/5", {"conv_widths": ()}, "conv_widths must be"),
        ("lenet/5", {"field": -1}, "field must be"),
    ):
        with pytest.raises(ConfigError, match=message):
            models.build(name, num_classes=3, **options)


def test_convnext_starts_near_its_identity_by_the_scale_of_its_layers():
    """Touvron et al. 2021, CaiT, section 2.1: the smaller the scale, the nearer each block is to the identity."""
    tiny = partial(models.VARIANTS["convnext/T"].module, 3, stage_sizes=(1,), widths=(8,))
    scale = jax.jit(lambda key: tiny().init(key, IMAGES[:1])["params"]["block00"]["layer_scale"])(jax.random.key(0))
    np.testing.assert_array_equal(scale, np.full(8, 1e-6, np.float32))
    variables = drawn(tiny(), IMAGES)
    blocks = variables["params"]["block00"]
    run = jax.jit(lambda v: tiny().apply(v, IMAGES)[1])
    scaled = run(variables)
    near = run({"params": {**variables["params"], "block00": {**blocks, "layer_scale": scale}}})
    np.testing.assert_allclose(near["block00"], near["stem"], atol=1e-3)
    del blocks["layer_scale"]
    unscaled = jax.jit(lambda v: tiny(layer_scale=None).apply(v, IMAGES)[1])(variables)
    np.testing.assert_allclose(scaled["block00"], unscaled["block00"], rtol=1e-6)
    assert np.abs(scaled["block00"] - scaled["stem"]).max() > 0.1


@pytest.mark.parametrize("name", ["lenet/5", "alexnet/2012", "vgg/11", "resnet/18", "wide_resnet/16_8", "convnext/T"])
def test_half_precision_reaches_every_layer(name):
    """In shapes alone: a layer that misses the policy returns float32."""
    shallow = SHALLOW if name in ("resnet/18", "convnext/T") else {}
    model, spec = published(name, precision="params=float32,compute=bfloat16,output=float32", **shallow)
    kinds = {}

    def note(next_method, args, kwargs, context):
        result = next_method(*args, **kwargs)
        if context.method_name == "__call__":
            kinds["/".join(context.module.path)] = {leaf.dtype.name for leaf in jax.tree.leaves(result)}
        return result

    def forward(key):
        params, collections = model.init(key, spec)
        kinds.clear()
        with nn.intercept_methods(note):
            output, _, after = model.apply(params, collections, jnp.zeros(spec.shape), keys=None, train=True)
        return params, output, after

    kept = jax.eval_shape(forward, jax.random.key(0))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(kept)} == {"float32"}
    assert "head" in kinds
    assert {layer: kind for layer, kind in kinds.items() if kind != {"bfloat16"}} == {}
