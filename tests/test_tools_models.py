"""The list of models has the published sizes and costs, and answers for other sizes, classes and names as asked."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tools.models import describe, main, matching
from vision import models
from vision.errors import ConfigError, UserError
from vision.models.cost import multiply_adds

# Published with weights by torchvision, timm and DINO, or worked out from the papers layer by layer.
COUNTS = {
    **{"lenet/5": 61_706, "lenet/5_1998": 60_000, "lenet/caffe": 431_080},
    **{"mlp/300-100": 266_610, "mlp/512-512": 669_706, "mlp/256-256": 269_322, "mlp/128": 101_770, "linear": 7_850},
    **{"alexnet/2014": 61_100_840, "alexnet/2012": 60_965_224},
    **{"vgg/11": 132_863_336, "vgg/13": 133_047_848, "vgg/16": 138_357_544, "vgg/19": 143_667_240},
    **{"vgg/11_bn": 132_868_840, "vgg/13_bn": 133_053_736, "vgg/16_bn": 138_365_992, "vgg/19_bn": 143_678_248},
    **{"vgg/11_bn_cifar": 9_231_114, "vgg/13_bn_cifar": 9_416_010, "vgg/16_bn_cifar": 14_728_266},
    **{"vgg/19_bn_cifar": 20_040_522, "vgg/16_cifar": 14_719_818},
    **{"resnet/18": 11_689_512, "resnet/34": 21_797_672, "resnet/50": 25_557_032, "resnet/101": 44_549_160},
    **{"resnet/152": 60_192_808, "wide_resnet/50_2": 68_883_240, "wide_resnet/101_2": 126_886_696},
    **{"resnet/18_cifar": 11_173_962, "resnet/34_cifar": 21_282_122, "resnet/50_cifar": 23_520_842},
    **{"resnet/20": 269_722, "resnet/32": 464_154, "resnet/44": 658_586, "resnet/56": 853_018},
    **{"resnet/110": 1_727_962, "resnet/1202": 19_421_274},
    **{"resnet/20_b": 272_474, "resnet/32_b": 466_906, "resnet/44_b": 661_338, "resnet/56_b": 855_770},
    **{"resnet/110_b": 1_730_714, "resnet/1202_b": 19_424_026},
    "airbench/94": 1_971_352 + 288,  # trained, and whitening filters; the scales of ones there are not here
    **{"convnext/T": 28_589_128, "convnext/S": 50_223_688, "convnext/B": 88_591_464, "convnext/L": 197_767_336},
    **{"vit/Ti16": 5_717_416, "vit/S16": 22_050_664, "vit/B16": 86_567_656, "vit/L16": 304_326_632},
    **{"vit/S32": 22_878_952, "vit/B32": 88_224_232, "vit/L32": 306_535_400, "vit/H14": 632_045_800},
    **{"vit/B16_384": 86_859_496, "vit/S16_gap": 21_974_632, "vit/S16_gap_rep": 22_122_472},
    **{"vit/S16_dino": 21_665_664, "vit/S8_dino": 21_670_272, "vit/B16_dino": 85_798_656, "vit/B8_dino": 85_807_872},
    **{"vit/S14_dinov2": 22_056_576, "vit/B14_dinov2": 86_580_480, "vit/L14_dinov2": 304_368_640},
    **{"vit/g14_dinov2": 1_136_480_768, "vit/S14_dinov2_reg4": 22_058_112, "vit/B14_dinov2_reg4": 86_583_552},
    **{"vit/L14_dinov2_reg4": 304_372_736, "vit/B16_map": 92_884_224},
    **{"mixer/S32": 19_104_624, "mixer/S16": 18_528_264, "mixer/B32": 60_293_428, "mixer/B16": 59_880_472},
    **{"mixer/L32": 206_939_264, "mixer/L16": 208_196_168, "mixer/H14": 432_350_952},
}
BACKBONES = {
    **{"resnet/18": 11_176_512, "resnet/34": 21_284_672, "resnet/50": 23_508_032, "resnet/101": 42_500_160},
    **{"resnet/152": 58_143_808},
    **{"vit/Ti16": 5_524_416, "vit/S16": 21_665_664, "vit/B16": 85_798_656, "vit/L16": 303_301_632},
}
WITH_CLASSES = {
    ("resnet/18_cifar", 100): 11_220_132,
    ("resnet/34_cifar", 100): 21_328_292,
    ("resnet/50_cifar", 100): 23_705_252,
    ("alexnet/2014", 10): 57_044_810,
}
# Billions of multiply-adds of an image, as torchvision publishes them with its weights (meta["_ops"]).
BILLIONS = {
    **{"alexnet/2014": 0.714, "vgg/11": 7.609, "vgg/13": 11.308, "vgg/16": 15.470, "vgg/19": 19.632},
    **{"resnet/18": 1.814, "resnet/34": 3.664, "resnet/50": 4.089, "resnet/101": 7.801, "resnet/152": 11.514},
    **{"wide_resnet/50_2": 11.398, "wide_resnet/101_2": 22.753},
    **{"convnext/T": 4.456, "convnext/S": 8.684, "convnext/B": 15.355, "convnext/L": 34.361},
    **{"vit/B16": 17.564, "vit/B32": 4.409, "vit/L16": 61.555, "vit/L32": 15.378},
}
QUICK = [
    *("lenet/5", "lenet/5_1998", "alexnet/2014", "alexnet/2012", "vgg/16", "vgg/16_bn_cifar", "resnet/18", "resnet/50"),
    *("resnet/50_cifar", "resnet/20", "resnet/20_b", "wide_resnet/50_2", "convnext/T", "vit/Ti16", "vit/B16"),
    *("vit/B14_dinov2_reg4", "mixer/B16"),
]


@pytest.mark.parametrize("name", QUICK)
def test_the_size_and_the_cost_of_a_model_are_the_published_ones(name):
    row = describe(name)
    assert row["parameters"] == COUNTS[name]
    assert row["backbone_parameters"] == BACKBONES.get(name, row["backbone_parameters"])
    if name in BILLIONS:
        assert row["flops"] / 2e9 == pytest.approx(BILLIONS[name], abs=0.0006)


@pytest.mark.slow
def test_the_list_has_every_model_with_its_published_size_and_cost(program):
    done = program("tools.models", "--json", timeout=600)
    rows = {row["name"]: row for row in json.loads(done.stdout.splitlines()[-1])["models"]}
    assert list(rows) == list(models.VARIANTS)
    assert {name: rows[name]["parameters"] for name in COUNTS} == COUNTS
    assert {name: rows[name]["backbone_parameters"] for name in BACKBONES} == BACKBONES
    billions = {name: rows[name]["flops"] / 2e9 for name in BILLIONS}
    assert billions == pytest.approx(BILLIONS, abs=0.0006)
    table = done.stdout.splitlines()
    for name, row in rows.items():
        (line,) = (line for line in table if line.split()[0] == name)
        assert f"{row['parameters']:,}" in line


@pytest.mark.parametrize(("name", "num_classes"), WITH_CLASSES)
def test_another_number_of_classes_is_counted(name, num_classes):
    row = describe(name, num_classes=num_classes, flops=False)
    assert row["parameters"] == WITH_CLASSES[name, num_classes]


@pytest.mark.parametrize("name", ["resnet/18", "lenet/5", "lenet/5_1998", "vgg/16_cifar", "vit/Ti16_deit_distilled"])
def test_the_backbone_is_what_is_built_without_classes(name):
    assert describe(name, num_classes=0)["parameters"] == describe(name)["backbone_parameters"]


def test_colour_images_for_lenet_are_counted():
    model = models.build("lenet/5", num_classes=10)
    spec = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    params, _ = jax.eval_shape(lambda key: model.init(key, spec), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 62_006


def test_a_table_for_people_and_one_line_for_programs(capsys):
    assert main(["lenet/*", "resnet/20", "--num_classes", "7", "--json"]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table] == ["model", "lenet/5", "lenet/5_1998", "lenet/caffe", "resnet/20"]
    rows = json.loads(last)["models"]
    assert [row["num_classes"] for row in rows] == [7, 7, 7, 7]
    assert rows[0]["parameters"] == 61_706 - 3 * 85
    assert "61,451" in table[1]


def test_without_flops_none_are_counted(capsys):
    assert main(["lenet/5", "--no_flops", "--json"]) == 0
    assert "flops" not in json.loads(capsys.readouterr().out.splitlines()[-1])["models"][0]


def test_models_that_do_not_take_the_images_are_left_out_with_the_reason(capsys):
    assert main(["mixer/S*", "mixer/H14", "--image_size", "32", "--no_flops"]) == 0
    out, err = capsys.readouterr()
    assert "mixer/S32" in out
    assert "mixer/H14" not in out
    assert "left out: mixer/H14" in err
    assert "14x14" in err
    with pytest.raises(ConfigError, match="mixer/H14.*14x14"):
        main(["mixer/H14", "--image_size", "32"])


def test_a_pattern_that_matches_nothing_names_the_nearest():
    with pytest.raises(UserError, match=r"no model matches 'vit/B16x'; did you mean 'vit/B16'"):
        matching(["resnet/*", "vit/B16x"], models.VARIANTS)
    assert matching(["vit/S16", "vit/S*16"], models.VARIANTS) == ["vit/S16"]


def count(function, *shapes):
    return multiply_adds(jax.make_jaxpr(function)(*(jnp.zeros(shape) for shape in shapes)))


def test_products_and_convolutions_are_counted_by_hand():
    assert count(lambda a, b: a @ b, (3, 5), (5, 7)) == 3 * 5 * 7
    assert count(lambda a, b: jnp.einsum("bqd,bkd->bqk", a, b), (2, 3, 4), (2, 6, 4)) == 2 * 3 * 6 * 4
    assert count(lambda a, b: jax.nn.gelu(a) + b, (3, 5), (3, 5)) == 0

    def convolve(x, kernel, groups=1):
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (2, 2), "SAME", dimension_numbers=layout, feature_group_count=groups
        )

    # Every one of 4x3 places counts all of the 3x3 window, also where it lies over the padding.
    assert count(convolve, (2, 8, 6, 4), (3, 3, 4, 10)) == 2 * 4 * 3 * 10 * 3 * 3 * 4
    assert count(lambda x, k: convolve(x, k, 2), (2, 8, 6, 4), (3, 3, 2, 10)) == 2 * 4 * 3 * 10 * 3 * 3 * 2


def test_what_stands_inside_other_functions_is_counted():
    square = (4, 4)
    loop = lambda x: jax.lax.scan(lambda c, _: (c @ c, None), x, None, length=5)[0]  # noqa: E731
    assert count(loop, square) == 5 * 64
    assert count(jax.jit(jax.checkpoint(lambda x: jnp.sin(x @ x))), square) == 64
    assert count(lambda x: jax.lax.cond(x[0, 0] > 0, lambda y: y @ y, lambda y: y @ y @ y, x), square) == 128
    with pytest.raises(ValueError, match="while loop"):
        count(lambda x: jax.lax.while_loop(lambda c: c[0, 0] < 9, lambda c: c @ c, x), square)
    assert count(lambda x: jax.lax.while_loop(lambda c: c[0, 0] < 9, lambda c: c + 1, x), square) == 0


def test_a_scanned_network_costs_what_the_same_one_without_a_scan_does():
    sizes = {"width": 16, "depth": 3, "num_heads": 2, "mlp_dim": 32, "patch_size": 8}

    def cost(**options):
        model = models.build("vit/Ti16", num_classes=3, **sizes, **options)
        spec = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
        return multiply_adds(jax.make_jaxpr(lambda key: model.init(key, spec))(jax.random.key(0)))

    patches, tokens = 16, 17
    block = tokens * 16 * (3 * 16 + 16 + 2 * 32) + 2 * tokens * tokens * 16
    assert cost() == patches * 8 * 8 * 3 * 16 + 3 * block + 16 * 3
    np.testing.assert_equal(cost(scan=True), cost())
