"""What a file's configs say is taken over or held against the model; what nobody says is not guessed."""

import numpy as np
import pytest
from PIL import Image
from test_interop_match import RESNET, VIT, built, drawn, load, weights

from vision.data.framing import CROPS, Uniforms
from vision.errors import UserError
from vision.interop.agreement import check_agreement
from vision.interop.match import to_theirs
from vision.interop.namings import NAMINGS
from vision.interop.preprocessing import Preprocessing, find, from_json, override

HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
# As the libraries write them; expected are crop ratio, filter, squashing.
PREPROCESSORS = [
    ({"size": {"height": 224, "width": 224}, "resample": 2}, (1.0, "bilinear", True)),
    ({"size": 224, "resample": 3}, (1.0, "bicubic", True)),
    (
        {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": True},
        (0.875, "bilinear", False),
    ),
    ({"size": {"shortest_edge": 224}, "crop_pct": 0.875, "resample": 3}, (0.875, "bicubic", False)),
    ({"size": {"shortest_edge": 384}, "crop_pct": 0.875, "resample": 3}, (1.0, "bicubic", True)),
    ({"size": 256, "crop_size": 224, "do_center_crop": True, "resample": 0}, (0.875, "nearest", True)),
    ({"size": {"shortest_edge": 224}, "resample": 1}, (1.0, "lanczos", False)),
]
TIMM = {
    "architecture": "vit_tiny_patch4_16",
    "global_pool": "token",
    "model_args": {"img_size": [16, 16], "in_chans": 3},
    "pretrained_cfg": {
        "input_size": [3, 16, 16],
        "interpolation": "bicubic",
        "crop_pct": 0.9,
        "crop_mode": "center",
        "mean": [0.5, 0.4, 0.3],
        "std": [0.1, 0.2, 0.3],
    },
}
HUGGING_FACE = {
    "model_type": "vit",
    "hidden_act": "gelu",
    "hidden_size": 16,
    "image_size": 16,
    "intermediate_size": 24,
    "layer_norm_eps": 1e-06,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "patch_size": 4,
    "qkv_bias": True,
}


@pytest.mark.parametrize(("config", "expected"), PREPROCESSORS)
def test_preprocessing_of_hugging_face(config, expected):
    found = find({}, {**HALF, **config}, None, source="x")
    assert (found.crop_ratio, found.interpolation, found.squash) == expected
    assert found.mean == found.std == (0.5, 0.5, 0.5)
    assert found.source == "preprocessor_config.json"


def test_a_single_number_is_the_shorter_side_where_its_library_means_that():
    convnext = find({}, {**HALF, "size": 224, "crop_pct": 0.875}, None, source="x")
    assert (convnext.squash, convnext.crop_ratio) == (False, 0.875)
    clip = {
        **HALF,
        "size": 256,
        "crop_size": 224,
        "do_center_crop": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
    }
    assert find({}, clip, None, source="x").crop == {"name": "center", "fraction": 224 / 256}
    vit = find({}, {**HALF, "size": 224, "feature_extractor_type": "ViTFeatureExtractor"}, None, source="x")
    assert vit.crop == {"name": "whole", "fraction": 1.0}


def test_images_that_are_not_normalised_have_mean_zero_and_other_scales_are_refused():
    plain = find({}, {**HALF, "size": 8, "do_normalize": False}, None, source="x")
    assert (plain.mean, plain.std) == ((0.0,) * 3, (1.0,) * 3)
    with pytest.raises(UserError, match=r"not scaled to 0\.\.1"):
        find({}, {**HALF, "size": 8, "rescale_factor": 1 / 127.5}, None, source="x")


def test_a_squashed_image_is_cropped_too():
    found = Preprocessing((0.5,), (0.5,), 0.5, squash=True)
    options = {key: value for key, value in found.crop.items() if key != "name"}
    box = CROPS[found.crop["name"]](**options)((10, 20), (4, 4), Uniforms(0, 0, 0))
    assert tuple(box) == (2.5, 5.0, 5.0, 10.0)


def test_the_numbers_of_filters_are_those_of_pillow():
    for number in range(6):
        found = find({}, {**HALF, "size": 8, "resample": number}, None, source="x")
        assert Image.Resampling(number).name.lower() == found.interpolation


def test_preprocessing_of_timm_with_the_models_activation():
    found = find(TIMM, {}, None, activation="gelu", source="x")
    known = {"activation": "gelu", "source": found.source}
    expected = Preprocessing((0.5, 0.4, 0.3), (0.1, 0.2, 0.3), 0.9, "bicubic", **known)
    assert found == expected
    assert from_json(found.as_json()) == found


def test_only_a_library_whose_weights_share_one_speaks_for_a_file():
    assert find({}, {}, None, source="x") is None
    assert find({}, {}, "timm/vit", source="x") is None
    assert find({}, {}, "torchvision/resnet", source="x").crop_ratio == 224 / 256


@pytest.mark.parametrize(
    ("config", "preprocessor"),
    [
        ({"pretrained_cfg": {"mean": [0.5], "std": [0.5, 0.5]}}, {}),
        ({"pretrained_cfg": {"mean": [0.5]}}, {}),
        ({"pretrained_cfg": {"mean": ["a"], "std": [1]}}, {}),
        ({"pretrained_cfg": {"mean": [0.5], "std": [0]}}, {}),
        ({}, {**HALF, "size": None, "crop_size": 3, "do_center_crop": True}),
        ({}, {**HALF, "size": 0, "crop_size": 3, "do_center_crop": True}),
        ({}, {**HALF, "size": 3, "resample": 9}),
        ({}, {"image_mean": None, "image_std": [1]}),
    ],
)
def test_preprocessing_that_cannot_be_is_one_sentence(config, preprocessor):
    with pytest.raises(UserError, match="x: its preprocessing cannot be read"):
        find(config, preprocessor, None, source="x")


def test_what_a_person_gives_comes_first():
    found = find(TIMM, {}, None, source="x")
    changed = override(found, crop_ratio=1.0, mean=None)
    assert (changed.crop_ratio, changed.mean) == (1.0, found.mean)
    assert changed.source == "pretrained_cfg of config.json; crop_ratio given"
    assert override(None, crop_ratio=None) is None
    with pytest.raises(UserError, match="give both --mean and --std"):
        override(None, mean=(0.5,))
    with pytest.raises(UserError, match="crop_ratio must be in"):
        override(found, crop_ratio=1.5)
    with pytest.raises(UserError, match="interpolation must be one of"):
        override(found, interpolation="cubic")


@pytest.fixture(scope="module")
def vit():
    module, wanted = built("vit/B16", VIT, 16, 3)
    return module, wanted, drawn(wanted)


def test_configs_that_agree_bring_their_preprocessing(vit):
    module, wanted, ours = vit
    for key, config, preprocessor in (
        ("huggingface/vit", HUGGING_FACE, {**HALF, "size": 16}),
        ("timm/vit", TIMM, {}),
    ):
        loaded = load(weights(to_theirs(ours, NAMINGS[key], module), config, preprocessor), module, wanted)
        assert loaded.facts["naming"] == key
        assert loaded.preprocessing.activation == "gelu"


@pytest.mark.parametrize(
    ("key", "config", "parts"),
    [
        ("huggingface/vit", {"hidden_act": "gelu_new"}, ["hidden_act 'gelu_new'", "'gelu'", "activation='gelu_tanh'"]),
        ("huggingface/vit", {"hidden_act": "quick_gelu"}, ["activation='quick_gelu'"]),
        ("huggingface/vit", {"hidden_act": "relu"}, ["activation='relu'"]),
        ("huggingface/vit", {"layer_norm_eps": 1e-12}, ["layer_norm_eps 1e-12", "1e-06", "epsilon=1e-12"]),
        ("huggingface/vit", {"patch_size": 8}, ["patch_size 8 where the model has 4"]),
        ("huggingface/vit", {"patch_size": [4, 2]}, ["patch_size [4, 2]"]),
        ("huggingface/vit", {"num_attention_heads": 4}, ["num_heads=4"]),
        ("huggingface/vit", {"num_hidden_layers": 3, "qkv_bias": False}, ["depth=3", "qkv_bias=False"]),
        ("timm/vit", {"architecture": "vit_base_patch8_224"}, ["patch_size=8"]),
        ("timm/vit", {"architecture": "vit_base_patch4_clip_quickgelu_224"}, ["activation='quick_gelu'"]),
        (
            "timm/vit",
            {"architecture": "vit_base_patch4_224", "global_pool": "avg"},
            ["global_pool 'avg'", "pool='gap'"],
        ),
        ("timm/vit", {"architecture": "vit_x", "model_args": {"act_layer": "gelu_tanh"}}, ["activation='gelu_tanh'"]),
    ],
)
def test_a_config_that_disagrees_is_refused_with_both_values(vit, key, config, parts):
    """Heads do not show in any shape, nor do activations and epsilons: the outputs would be wrong in silence."""
    module, wanted, ours = vit
    theirs = to_theirs(ours, NAMINGS[key], module)
    whole = {**(HUGGING_FACE if key.startswith("hugging") else {}), **config}
    with pytest.raises(UserError) as caught:
        load(weights(theirs, whole), module, wanted)
    for part in ["config.json says", *parts]:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("key", "part"),
    [
        ("downsample_in_bottleneck", "downsample_in_bottleneck True where the model has False"),
        ("hidden_act", "hidden_act 'gelu' where the model has relu"),
        ("depths", "depths [3, 4]"),
        ("layer_type", "layer_type 'bottleneck' where the model has 'basic'"),
    ],
)
def test_residual_networks_of_another_kind_are_refused(key, part):
    """The stride of a bottleneck stands in no array's shape."""
    values = {"downsample_in_bottleneck": True, "hidden_act": "gelu", "depths": [3, 4], "layer_type": "bottleneck"}
    module, wanted = built("resnet/18", RESNET, 32, 3)
    theirs = to_theirs(drawn(wanted), NAMINGS["huggingface/resnet"], module)
    agreeing = {
        "hidden_act": "relu",
        "depths": list(RESNET["stage_sizes"]),
        "layer_type": "basic",
        "downsample_in_bottleneck": False,
        "downsample_in_first_stage": False,
    }
    assert not load(weights(theirs, agreeing), module, wanted).report.fresh
    with pytest.raises(UserError) as caught:
        load(weights(theirs, {**agreeing, key: values[key]}), module, wanted)
    assert part in str(caught.value)


ODD = (None, True, 0, -1, 1e400, 10**400, "", "gelu", [], [[1]], [4, 4], {}, {"height": None}, {"a": [1]}, ["a", 1])


def test_whatever_stands_in_a_config_is_an_answer_or_one_sentence(vit):
    """Every key that is read, with every odd value."""
    whole = {"size": {"shortest_edge": 8}, "crop_size": 8, "do_center_crop": True, "resample": 2, "crop_pct": 0.9}
    pretrained, preprocessor = TIMM["pretrained_cfg"], {**HALF, **whole}
    networks = (*HUGGING_FACE, *TIMM, "use_swiglu_ffn", "num_register_tokens", "depths")
    configs = [
        *(({**HUGGING_FACE, **TIMM, key: value}, {}) for key in networks for value in ODD),
        *(({"pretrained_cfg": {**pretrained, key: value}}, {}) for key in pretrained for value in ODD),
        *(({**TIMM, "model_args": {key: value}}, {}) for key in ("patch_size", "act_layer", "depth") for value in ODD),
        *(({}, {**preprocessor, key: value}) for key in preprocessor for value in ODD),
    ]
    outcomes = {"taken": 0, "refused": 0}
    for config, images in configs:
        try:
            check_agreement(config, vit[0], source="x")
            find(config, images, None, source="x")
            outcomes["taken"] += 1
        except UserError as error:
            outcomes["refused" if "\n" not in str(error) else "several lines"] += 1
    assert min(outcomes.values()) > 50


def test_squashing_and_cropping_are_told_apart():
    """A picture twice as wide as high: the first network sees all of it, the second its middle."""
    stretched = find({}, {**HALF, "size": {"height": 8, "width": 8}}, None, source="x")
    cropped = find({}, {**HALF, "size": {"shortest_edge": 8}}, None, source="x")
    assert stretched.squash
    assert not cropped.squash
    assert np.isclose(stretched.crop_ratio, cropped.crop_ratio)
