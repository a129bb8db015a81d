"""Arrays go from another library's names to ours and back bit for bit, and nothing that differs goes unsaid."""

from functools import cache

import jax
import numpy as np
import pytest

from vision import models
from vision.errors import UserError
from vision.interop.files import Weights
from vision.interop.fit import fit
from vision.interop.load import classes_of, load_weights
from vision.interop.match import to_ours, to_theirs, unfaithful
from vision.interop.namings import NAMINGS
from vision.interop.recognise import recognise
from vision.interop.saved import abstract
from vision.interop.trees import flat, nested

VIT = {"patch_size": 4, "width": 16, "depth": 2, "num_heads": 2, "mlp_dim": 24}
DINOV2 = {**VIT, "layer_scale": 1e-5, "mask_token": True, "num_registers": 2}
MAP = {**VIT, "pool": "map", "class_token": False}
CLIP_RESNET = {"stage_sizes": (1, 2, 1, 1), "width": 4, "out_size": 6}
RESNET = {"stage_sizes": (1, 2), "width": 4}
VGG = {"block_depths": (1, 1, 1, 1, 1), "hidden_sizes": (6, 5), "grid": 2}
CONVNEXT = {"stage_sizes": (1, 2, 1, 1), "widths": (4, 6, 8, 10)}
# Every naming with every option that brings arrays of its own: key, variant, options, side, channels.
CASES = [
    ("torch/lenet", "lenet/5", {}, 28, 1),
    ("torch/lenet", "lenet/caffe", {}, 28, 1),
    ("torch/lenet_1998", "lenet/5_1998", {}, 28, 1),
    ("torchvision/alexnet", "alexnet/2014", {"hidden_sizes": (6, 5)}, 224, 3),
    ("torchvision/vgg", "vgg/11", VGG, 32, 3),
    ("torchvision/vgg", "vgg/11_bn", VGG, 32, 3),
    ("torchvision/vgg", "vgg/11_bn_cifar", {}, 32, 3),
    ("timm/vgg", "vgg/11_bn", VGG, 32, 3),
    *((f"{library}/resnet", "resnet/18", RESNET, 32, 3) for library in ("torchvision", "timm", "dino", "huggingface")),
    *((f"{library}/resnet", "resnet/50", RESNET, 32, 3) for library in ("torchvision", "huggingface")),
    ("torch/cifar_resnet", "resnet/20", {}, 32, 3),
    ("torch/wide_resnet", "wide_resnet/16_8", {"depth": 10, "width_factor": 1}, 32, 3),
    ("airbench", "airbench/94", {"widths": (4, 6, 6)}, 32, 3),
    ("airbench", "airbench/96", {"widths": (4, 6, 6)}, 32, 3),
    *(
        (f"{source}/convnext", "convnext/T", CONVNEXT, 32, 3)
        for source in ("torchvision", "timm", "huggingface", "torch")
    ),
    ("timm/mixer", "mixer/S16", {"patch_size": 4, "width": 8, "depth": 2, "tokens_dim": 5, "channels_dim": 6}, 16, 3),
    *(
        (f"{library}/vit", "vit/B16", VIT, 16, 3)
        for library in ("timm", "torchvision", "dino", "dinov2", "huggingface")
    ),
    ("timm/vit", "vit/B16", {**VIT, "qkv_bias": False, "layer_scale": 0.1}, 16, 3),
    ("timm/vit", "vit/B16", {**VIT, "num_registers": 3}, 16, 3),
    ("timm/vit", "vit/B16", {**VIT, "distillation_token": True}, 16, 3),
    ("timm/vit", "vit/B16", MAP, 16, 3),
    ("dinov2/vit", "vit/B16", {**DINOV2, "mlp": "swiglu"}, 16, 3),
    ("huggingface/vit", "vit/B16", {**VIT, "distillation_token": True}, 16, 3),
    ("huggingface/dinov2", "vit/B16", {**DINOV2, "mlp": "swiglu"}, 16, 3),
    ("huggingface/dinov2", "vit/B16", DINOV2, 16, 3),
    ("huggingface/dinov3", "vit/B16", {**DINOV2, "positions": "rotary"}, 16, 3),
    ("huggingface/dinov3", "vit/B16", {**DINOV2, "positions": "rotary", "mlp": "swiglu"}, 16, 3),
    ("huggingface/siglip", "vit/B16", MAP, 16, 3),
    *((f"{library}/clip", "vit/B32_clip", VIT, 16, 3) for library in ("openai", "huggingface")),
    ("open_clip/clip", "vit/B32_clip", {**VIT, "activation": "gelu"}, 16, 3),
    ("timm/vit", "vit/B32_clip", VIT, 16, 3),
    *((f"{library}/clip_resnet", "clip_resnet/50", CLIP_RESNET, 32, 3) for library in ("openai", "timm")),
]
CONFIGS = {"huggingface/clip": {"model_type": "clip_vision_model"}}  # without one, nothing tells the activation
HEADLESS = {"huggingface/dinov2", "huggingface/dinov3", "huggingface/siglip"}
HEADLESS |= {f"{library}/clip" for library in ("openai", "open_clip", "huggingface")}
HEADLESS |= {"openai/clip_resnet", "timm/clip_resnet"}


def built(name, options, side, channels, num_classes=5):
    """A module with the shapes of its arrays."""
    return _built(name, tuple(options.items()), (side, side, channels), num_classes)


@cache
def _built(name, options, shape, num_classes):
    model = models.build(name, num_classes=num_classes, image_shape=shape, **dict(options))
    return model.module, flat(*abstract(model, shape))


def drawn(wanted, seed=0):
    random = np.random.default_rng(seed)
    return {name: random.standard_normal(each.shape).astype(np.float32) for name, each in wanted.items()}


def weights(arrays, config=None, preprocessor=None):
    return Weights(arrays, config or {}, preprocessor or {}, {"x.safetensors": "0"}, "x.safetensors")


def load(arrays, module, wanted, **options):
    params, collections = nested(wanted)
    source = arrays if isinstance(arrays, Weights) else weights(arrays)
    return load_weights(source, module=module, abstract_params=params, abstract_collections=collections, **options)


def flat_of(loaded):
    return flat(loaded.params, loaded.collections)


def same(a, b):
    return a.keys() == b.keys() and all(np.asarray(a[name]).tobytes() == np.asarray(b[name]).tobytes() for name in a)


def test_every_naming_has_a_case():
    assert {case[0] for case in CASES} == set(NAMINGS)


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{case[0]}-{case[1]}-{'-'.join(map(str, case[2]))}"[:70] for case in CASES]
)
def test_round_trips_are_bitwise(case):
    """File to ours to file; and ours to file to ours, but for what a library folds into other arrays."""
    key, name, options, side, channels = case
    module, wanted = built(name, options, side, channels, num_classes=0 if key in HEADLESS else 5)
    ours = drawn(wanted)
    folded = unfaithful(ours, NAMINGS[key], module)
    theirs = to_theirs(ours, NAMINGS[key], module)
    assert all(array.flags.c_contiguous for array in theirs.values())
    loaded = load(weights(theirs, CONFIGS.get(key)), module, wanted, naming=key)
    assert not loaded.report.fresh
    assert same(to_theirs(flat_of(loaded), NAMINGS[key], module), theirs)
    unchanged = set(ours) - set(folded)
    assert same({p: flat_of(loaded)[p] for p in unchanged}, {p: ours[p] for p in unchanged})
    has_folds = (key == "timm/vit" and options.get("num_registers")) or key == "huggingface/dinov3"
    assert bool(folded) == bool(has_folds), folded


def test_the_layout_is_not_only_reversible_but_theirs():
    """A kernel of PyTorch is [out, in, height, width], and its dense layer behind a map reads channels first."""
    module, wanted = built("vgg/11", VGG, 32, 3)
    ours = drawn(wanted)
    theirs = to_theirs(ours, NAMINGS["torchvision/vgg"], module)
    name = next(name for name in ours if ours[name].shape == (3, 3, 3, 64))
    assert theirs["features.0.weight"][7, 2, 1, 0] == ours[name][1, 0, 2, 7]
    dense = ours["params/hidden_0/kernel"].reshape(2, 2, 512, 6)
    assert theirs["classifier.0.weight"].reshape(6, 512, 2, 2)[3, 100, 1, 0] == dense[1, 0, 100, 3]


def test_batch_statistics_keep_their_meaning():
    module, wanted = built("resnet/18", RESNET, 32, 3)
    ours = drawn(wanted)
    theirs = to_theirs(ours, NAMINGS["torchvision/resnet"], module)
    for name, path in (
        ("bn1.running_var", "batch_stats/stem_norm/var"),
        ("layer2.0.bn2.running_mean", "batch_stats/block01/norm2/mean"),
        ("layer2.1.bn1.weight", "params/block02/norm1/scale"),
        ("layer2.0.downsample.1.bias", "params/block01/shortcut_norm/bias"),
    ):
        np.testing.assert_array_equal(theirs[name], ours[path])


@pytest.mark.parametrize("prefix", ["", "module.", "module.backbone.", "_orig_mod.", "vit."])
def test_prefixes_of_wrappers_do_not_matter(prefix):
    module, wanted = built("vit/B16", VIT, 16, 3)
    ours = drawn(wanted)
    theirs = {prefix + name: each for name, each in to_theirs(ours, NAMINGS["timm/vit"], module).items()}
    assert same(flat_of(load(theirs, module, wanted)), ours)


def test_a_hugging_face_encoder_alone_has_no_prefix_and_fits_a_model_with_a_head():
    module, wanted = built("vit/B16", VIT, 16, 3)
    bare, encoder = built("vit/B16", VIT, 16, 3, num_classes=0)
    ours = drawn(encoder)
    theirs = to_theirs(ours, NAMINGS["huggingface/vit"], bare)
    loaded = load(theirs, module, wanted, may_differ=("head",))
    assert same(flat_of(loaded), ours)
    assert set(loaded.report.fresh) == {"params/head/kernel", "params/head/bias"}


def test_an_encoder_in_a_wrapper_with_a_head_of_the_same_name():
    """The projection head of self-distillation is not taken for the classifier."""
    module, wanted = built("vit/B16", VIT, 16, 3)
    ours = drawn(wanted)
    theirs = {f"backbone.{name}": each for name, each in to_theirs(ours, NAMINGS["timm/vit"], module).items()}
    theirs["head.weight"] = np.zeros((5, 16), np.float32)
    with pytest.raises(UserError, match=r"only in the file: head\.weight \[5, 16\]"):
        load(theirs, module, wanted)
    assert same(flat_of(load(theirs, module, wanted, may_differ=("head",))), ours)


def test_a_head_of_another_size_is_refused_unless_it_may_differ():
    module, wanted = built("resnet/18", RESNET, 32, 3)
    other, of_other = built("resnet/18", RESNET, 32, 3, num_classes=7)
    theirs = to_theirs(drawn(of_other), NAMINGS["timm/resnet"], other)
    with pytest.raises(UserError) as caught:
        load(theirs, module, wanted)
    for part in ("params/head/kernel (fc.weight) (file [7, 8], model [5, 8])", "may_differ 'head'", "x.safetensors"):
        assert part in str(caught.value)
    loaded = load(theirs, module, wanted, may_differ=("head",))
    assert "head" not in loaded.params
    assert same(flat_of(load(theirs, module, wanted, may_differ=(r"^fc\.",))), flat_of(loaded))
    assert loaded.report.other_shapes["params/head/bias"] == ((7,), (5,))
    assert set(flat_of(loaded)) == {path for path in wanted if "head" not in path}


def test_a_head_for_a_model_without_is_said():
    module, wanted = built("resnet/18", RESNET, 32, 3)
    theirs = to_theirs(drawn(wanted), NAMINGS["timm/resnet"], module)
    headless, encoder = built("resnet/18", RESNET, 32, 3, num_classes=0)
    with pytest.raises(UserError, match=r"only in the file: params/head/kernel \(fc\.weight\)"):
        load(theirs, headless, encoder)
    assert set(flat_of(load(theirs, headless, encoder, may_differ=("head",)))) == set(encoder)
    assert classes_of(weights(theirs), headless) == 5
    del theirs["fc.weight"], theirs["fc.bias"]
    assert classes_of(weights(theirs), module) == 0
    with pytest.raises(UserError, match="only in the model: params/head/"):
        load(theirs, module, wanted)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda a: a.pop("blocks.1.norm2.bias"), "only in the model: params/encoder/block01/mlp_norm/bias"),
        (lambda a: a.update({"blocks.2.norm2.bias": np.zeros(16)}), "only in the file: blocks.2.norm2.bias [16]"),
        (lambda a: a.update({"norm.weight": np.zeros((2, 8))}), "(file [2, 8], model [16])"),
        (lambda a: a.update({"norm.weight": np.zeros(16, np.int32)}), "holds int32, no weights"),
        (lambda a: a.update({"pos_embed": np.zeros((1, 13, 16))}), "(file [1, 13, 16], model [1, 17, 16])"),
        (lambda a: a.update({"pos_embed": np.zeros((1, 17, 8))}), "other shapes: params/class_position"),
        (lambda a: a.update({"pos_embed": np.zeros((1, 26, 16), np.int8)}), "no weights"),
        (lambda a: a.update({"patch_embed.proj.weight": np.zeros((16, 3, 8, 8))}), "model [16, 3, 4, 4]"),
        (lambda a: a.update({"patch_embed.proj.weight": np.zeros((16, 48))}), "model [16, 3, 4, 4]"),
        (lambda a: a.update({"head.bias": np.zeros(())}), "(file [], model [5])"),
    ],
)
def test_whatever_else_differs_is_named_even_where_heads_may(change, part):
    module, wanted = built("vit/B16", VIT, 16, 3)
    theirs = to_theirs(drawn(wanted), NAMINGS["timm/vit"], module)
    change(theirs)
    heads = () if "[5]" in part else ("head",)
    with pytest.raises(UserError) as caught:
        load(theirs, module, wanted, may_differ=heads)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["vit/B16", "resnet/50", "resnet/18"])
def test_another_network_is_told_by_its_names(name):
    options = VIT if name == "vit/B16" else {"stage_sizes": (1, 1), "width": 8} if "50" in name else RESNET
    module, wanted = built("resnet/18", {**RESNET, "stage_sizes": (2, 2)}, 32, 3)
    other, of_other = built(name, options, 32, 3)
    key = f"timm/{name.split('/')[0]}"
    with pytest.raises(UserError, match="it holds a ViT" if name == "vit/B16" else "does not fit the model"):
        load(to_theirs(drawn(of_other), NAMINGS[key], other), module, wanted)
    with pytest.raises(UserError, match="none of the namings of ResNet"):
        load({"encoder.weight": np.zeros(3)}, module, wanted)
    with pytest.raises(UserError, match="the model is ResNet with"):
        load({}, module, wanted, naming="timm/vit")
    with pytest.raises(UserError, match="did you mean 'timm/resnet'"):
        load({}, module, wanted, naming="timm/resnets")
    with pytest.raises(UserError, match="is no regular expression"):
        load(to_theirs(drawn(wanted), NAMINGS["timm/resnet"], module), module, wanted, may_differ=("(",))


# torch 2.13: interpolate(sin(arange(16)) as 4x4, mode="bicubic") to 3x3; DINO's way has scale_factor=3.1 / 4.
RESIZED = {
    "timm": [-0.155288, 0.505077, 0.447334, 0.034378, -0.449658, -0.29438, 0.072195, 0.581775, 0.2642],
    "dino": [-0.030598, 0.789941, 0.369589, -0.038595, -0.697174, -0.261679, -0.01423, 0.617257, 0.279277],
}


@pytest.mark.parametrize("way", RESIZED)
def test_positions_of_another_grid_are_resized_as_the_models_authors_do(way):
    options = {**VIT, "position_antialias": False, "position_offset": 0.1} if way == "dino" else VIT
    module, wanted = built("vit/B16", options, 12, 3)
    larger, of_larger = built("vit/B16", options, 16, 3)
    ours = drawn(of_larger)
    ours["params/position_embedding"] = np.repeat(np.sin(np.arange(16.0)).reshape(4, 4, 1), 16, 2).astype(np.float32)
    loaded = load(to_theirs(ours, NAMINGS["timm/vit"], larger), module, wanted)
    assert loaded.report.resized == {"params/position_embedding": ((4, 4, 16), (3, 3, 16))}
    found = flat_of(loaded)["params/position_embedding"]
    np.testing.assert_allclose(found[..., 5].ravel(), RESIZED[way], atol=2e-6)


def test_as_many_patches_in_another_arrangement_are_resized():
    """Names do not tell sixteen patches in a square from 2 rows of 8, and published files hold squares."""
    model = models.build("vit/B16", num_classes=0, image_shape=(8, 32, 3), **VIT)
    wanted = flat(*abstract(model, (8, 32, 3)))
    loaded = load(to_theirs(drawn(wanted), NAMINGS["timm/vit"], model.module), model.module, wanted)
    assert loaded.report.resized == {"params/position_embedding": ((4, 4, 16), (2, 8, 16))}


def test_numbers_without_a_place_in_ours_are_not_dropped():
    """The third layer of LeNet has no connection where torch's full kernel has a weight."""
    module, wanted = built("lenet/5_1998", {}, 28, 1)
    theirs = to_theirs(drawn(wanted), NAMINGS["torch/lenet_1998"], module)
    theirs["c3.weight"] = theirs["c3.weight"] + 1
    with pytest.raises(UserError, match=r"c3\.weight holds numbers for which params/conv_1/kernel has no place"):
        load(theirs, module, wanted)


def test_counters_are_passed_over_and_half_precision_is_widened_exactly():
    module, wanted = built("resnet/18", RESNET, 32, 3)
    theirs = to_theirs(drawn(wanted), NAMINGS["timm/resnet"], module)
    half = {name: each.astype(np.float16) for name, each in theirs.items()}
    half["bn1.num_batches_tracked"] = np.zeros((), np.int64)
    loaded = load(half, module, wanted)
    assert loaded.report.converted == {"float16": len(wanted)}
    back = to_theirs(flat_of(loaded), NAMINGS["timm/resnet"], module)
    assert all(back[name].dtype == np.float32 and np.array_equal(back[name], half[name]) for name in theirs)


def test_numbers_that_are_not_finite_are_reported():
    module, wanted = built("resnet/18", RESNET, 32, 3)
    theirs = to_theirs(drawn(wanted), NAMINGS["timm/resnet"], module)
    theirs["bn1.bias"][0] = np.nan
    report = load(theirs, module, wanted).report
    assert report.not_finite == ("params/stem_norm/bias",)
    assert "not finite: params/stem_norm/bias" in report.lines()


def test_libraries_that_share_names_are_all_named():
    module, wanted = built("resnet/18", RESNET, 32, 3)
    theirs = to_theirs(drawn(wanted), NAMINGS["timm/resnet"], module)
    assert recognise(theirs, module).keys == ("torchvision/resnet", "timm/resnet", "dino/resnet")
    loaded = load(theirs, module, wanted)
    assert loaded.facts["same_names"] == ["timm/resnet", "dino/resnet"]
    assert loaded.preprocessing is None, "the three prepare images in different ways"
    assert load(theirs, module, wanted, naming="torchvision/resnet").preprocessing.interpolation == "bilinear"
    assert load(weights(theirs, {"architecture": "resnet18"}), module, wanted).facts["naming"] == "timm/resnet"
    found = recognise(to_theirs(drawn(wanted), NAMINGS["huggingface/resnet"], module), module)
    assert found.keys == ("huggingface/resnet",)


def test_saving_says_what_has_no_name():
    module, wanted = built("vit/B16", {**VIT, "representation": True}, 16, 3)
    ours = drawn(wanted)
    ours["params/extra/kernel"] = np.zeros(2)
    with pytest.raises(UserError, match="there is no name for params/extra/kernel"):
        to_theirs(ours, NAMINGS["timm/vit"], module)
    del ours["params/extra/kernel"], ours["params/norm/bias"]
    with pytest.raises(UserError, match="missing: params/norm/bias"):
        to_theirs(ours, NAMINGS["timm/vit"], module)


def test_names_that_fix_the_shape_of_a_map_say_so():
    module, wanted = built("lenet/caffe", {}, 32, 1)
    ours = {**drawn(wanted), "params/hidden_0/kernel": np.zeros((6 * 4 * 50, 500))}
    with pytest.raises(UserError, match=r"fc1\.weight cannot hold params/hidden_0/kernel \[1200, 500\]: these names"):
        to_theirs(ours, NAMINGS["torch/lenet"], module)


def test_fit_of_a_checkpoint_needs_no_names():
    wanted = {"params/a": jax.ShapeDtypeStruct((2,), np.float32), "params/head": jax.ShapeDtypeStruct((3,), np.float32)}
    arrays = {"params/a": np.ones(2, np.float32), "params/head": np.ones(4, np.float32)}
    with pytest.raises(UserError, match=r"the run does not fit the model: other shapes: params/head"):
        fit(arrays, wanted, source="the run")
    assert set(fit(arrays, wanted, may_differ=("head",)).arrays) == {"params/a"}
    with pytest.raises(UserError, match="not a single array"):
        fit({"b": np.ones(1)}, wanted, may_differ=(".",))


def test_to_ours_is_pure():
    module, wanted = built("vit/B16", VIT, 16, 3)
    theirs = to_theirs(drawn(wanted), NAMINGS["timm/vit"], module)
    before = {name: each.copy() for name, each in theirs.items()}
    laid = to_ours(theirs, recognise(theirs, module), module, wanted)
    assert set(laid.arrays) == set(wanted)
    assert same(theirs, before)
