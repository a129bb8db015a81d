"""Whole CLIPs and SigLIPs of other libraries become both towers of ours, with their numbers and their activation."""

import json
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity import STORED, off

from tools.convert_weights import main
from tools.golden_cases import pairs, weights
from vision.data import tokenizer
from vision.errors import UserError
from vision.interop.clip_agreement import check_clip
from vision.interop.files import Weights, read_weights
from vision.interop.match import to_theirs
from vision.interop.namings import two_towers
from vision.interop.namings.two_towers import TwoTowers
from vision.interop.pair import abstract_pair, pair_of
from vision.interop.preprocessing import CLIP_MEAN, from_json
from vision.interop.published_pairs import complete_pair, described, import_pair
from vision.interop.tensors import write_safetensors
from vision.interop.trees import flat
from vision.interop.variant import import_variant
from vision.models.scanning import stack_blocks
from vision.training.checkpoint import load_arrays

CLIP, GELU, SIGLIP = pairs.CASES
IMAGE_OPTIONS = {key.removeprefix("image."): value for key, value in CLIP.options.items() if key.startswith("image.")}
SIZES = {"input_resolution": np.int64(32), "context_length": np.int64(9), "vocab_size": np.int64(60)}


def stored(case, what):
    return json.loads(STORED[f"pairs/{case.name}/{what}"].tobytes())


def drawn(case):
    """The arrays of a file of transformers."""
    return {name: np.asarray(weights.drawn(name, shape)) for name, shape in stored(case, "names").items()}


def as_file(arrays, config=None):
    return Weights(arrays, config or {}, {}, {"x.safetensors": "0"}, "x.safetensors")


def imported(arrays, case=CLIP, *, config=None, options=None, **more):
    file = as_file(arrays, config)
    return import_pair(file, case.pair, options={**case.options, **(options or {})}, image_size=pairs.SIDE, **more)


def checkpoint_of(pair):
    """What a conversion leaves: arrays by path, and metadata that went through JSON."""
    return flatly(complete_pair(pair)), json.loads(json.dumps(described(pair, None, None)))


def flatly(state):
    collections = {f"extra/collections/{path}": each for path, each in flat({}, state["extra"]["collections"]).items()}
    return flat(state["params"], {}) | collections


def outputs(pair):
    """Both embeddings and the logits of the images and texts of the cases."""

    def run(params, images, tokens):
        of_image = pair.model.apply(params["backbone"], pair.collections, images, keys=None, train=False)[0]
        of_image = of_image @ params["projection"]["kernel"] if "projection" in params else of_image
        of_text, _ = pair.text.apply(params["text"], tokens, keys=None, train=False)
        of_image, of_text = (each / jnp.linalg.norm(each, axis=1, keepdims=True) for each in (of_image, of_text))
        logits = jnp.exp(params["scale"]) * of_image @ of_text.T + params.get("bias", 0.0)
        return {"image": of_image, "text": of_text, "logits": logits}

    compiled = jax.jit(run, compiler_options={"xla_backend_optimization_level": 0})
    return compiled(pair.params, pairs.images().transpose(0, 2, 3, 1), pairs.tokens())


def openai_names(arrays):
    """The same numbers as OpenAI's state_dict has them: one matrix for query, key and value, projections transposed."""
    parts = {"vision_model.": "visual.", "text_model.": ""}
    layers = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    layers["self_attn.out_proj"] = "attn.out_proj"
    plain = {
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
        "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "logit_scale": "logit_scale",
    }
    norms = {"vision_model.pre_layrnorm": "visual.ln_pre", "vision_model.post_layernorm": "visual.ln_post"}
    for theirs, ours in {**norms, "text_model.final_layer_norm": "ln_final"}.items():
        plain |= {f"{theirs}.{leaf}": f"{ours}.{leaf}" for leaf in ("weight", "bias")}
    made = {name: arrays[other] for other, name in plain.items()}
    made["visual.proj"] = arrays["visual_projection.weight"].T
    made["text_projection"] = arrays["text_projection.weight"].T
    for theirs, ours in parts.items():
        for index in range(2):
            old, new = f"{theirs}encoder.layers.{index}.", f"{ours}transformer.resblocks.{index}."
            for leaf in ("weight", "bias"):
                made |= {f"{new}{name}.{leaf}": arrays[f"{old}{other}.{leaf}"] for other, name in layers.items()}
                joined = [arrays[f"{old}self_attn.{part}_proj.{leaf}"] for part in "qkv"]
                made[f"{new}attn.in_proj_{leaf}"] = np.concatenate(joined)
    return made


@cache
def openai():
    return openai_names(drawn(CLIP))


def same(a, b):
    return a.keys() == b.keys() and all(np.asarray(a[name]).tobytes() == np.asarray(b[name]).tobytes() for name in a)


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name, marks=[pytest.mark.slow] * (case is GELU)) for case in pairs.CASES]
)
def test_embeddings_and_logits_are_those_of_transformers(case):
    """With texts that end early, that are full, and that have other ids and a second end behind the first."""
    found = imported(drawn(case), case, config=stored(case, "config"))
    assert len(found.loaded.report.fitted) == len(flat(found.loaded.params, {}))
    arrays, metadata = checkpoint_of(found)
    made = outputs(pair_of(arrays, metadata))
    for what, array in made.items():
        assert off(array, STORED[f"pairs/{case.name}/{what}"]) <= 1e-5, what


@pytest.mark.parametrize("prefix", ["", "module."])
def test_names_of_openai_and_open_clip_hold_the_same_numbers(prefix):
    expected = flat(imported(drawn(CLIP), config=stored(CLIP, "config")).loaded.params, {})
    named = {prefix + name: array for name, array in openai().items()}
    found = imported(named, naming="openai/clip").loaded
    assert same(flat(found.params, {}), expected)
    assert found.preprocessing.mean == CLIP_MEAN
    of_text = ("transformer", "token", "positional", "ln_final", "text_proj")
    under = {f"text.{name}" if name.startswith(of_text) else name: array for name, array in openai().items()}
    under["logit_scale"] = under["logit_scale"].reshape(1)
    options = {"activation": "quick_gelu"}
    config = {"model_cfg": {"embed_dim": 12, "quick_gelu": True, "text_cfg": {"heads": 4}}}
    found = imported(under, options=options, config=config)
    assert found.loaded.facts["naming"] == "open_clip/custom_text"
    assert same(flat(found.loaded.params, {}), expected)


OF_OPENAI = ("openai/clip", "open_clip/clip", "open_clip/custom_text")
NAMED = [
    *((key, "clip/ViT-B32") for key in (*OF_OPENAI, "huggingface/clip")),
    ("openai/clip", "clip/RN50"),
    ("open_clip/custom_text", "clip/RN50"),
    *((key, "siglip/B16") for key in ("huggingface/siglip", "open_clip/siglip")),
]


@pytest.mark.parametrize(("key", "name"), NAMED)
def test_round_trips_are_bitwise(key, name):
    """Of every naming for every pair that it has names for."""
    assert {key for key, _ in NAMED} == set(two_towers.NAMINGS)
    is_siglip, is_resnet = name == "siglip/B16", name == "clip/RN50"
    case = SIGLIP if is_siglip else CLIP
    options = dict(case.options)
    if is_resnet:
        options = {key: value for key, value in options.items() if not key.startswith("image.")}
        options |= {"image.stage_sizes": (1, 1, 1, 1), "image.width": 4}
    joined = {"image_projection": not (is_siglip or is_resnet), "bias": is_siglip}
    model, text = towers_of(name, options)
    wanted = flat(*abstract_pair(model, text, model.image_shape, embed_dim=options["embed_dim"], **joined))
    random = np.random.default_rng(0)
    ours = {path: random.standard_normal(each.shape).astype(np.float32) for path, each in wanted.items()}
    theirs = to_theirs(ours, two_towers.NAMINGS[key], TwoTowers(model.module, text.module, **joined))
    given = {**options, "activation": "gelu" if key.startswith("open_clip/c") else "quick_gelu"}
    given = {**options, "activation": "gelu_tanh"} if is_siglip else given
    config = {"model_type": "clip", "text_config": {}, "vision_config": {}} if key == "huggingface/clip" else {}
    file = as_file(theirs, config)
    found = import_pair(file, name, options=given, image_size=model.image_shape[0], naming=key).loaded
    assert same(flat(found.params, found.collections), ours)
    assert not found.report.fresh


def towers_of(name, options):
    from vision import models
    from vision.interop.published_pairs import PAIRS

    variant, side = PAIRS[name], 64 if name == "clip/RN50" else pairs.SIDE
    of = lambda tower: {  # noqa: E731
        key.partition(".")[2]: value for key, value in options.items() if key.startswith(tower)
    }
    more = {"out_size": options["embed_dim"]} if name == "clip/RN50" else {}
    model = models.build(variant.image, num_classes=0, image_shape=(side, side, 3), **of("image."), **more)
    sizes = {"vocab_size": pairs.VOCABULARY, "length": pairs.LENGTH, "out_size": options["embed_dim"]}
    return model, models.build_text(variant.text, **sizes, **of("text."))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (
            lambda a: a.pop("visual.ln_pre.bias"),
            "only in the model: params/backbone/pre_norm/bias (visual.ln_pre.bias)",
        ),
        (lambda a: a.pop("logit_scale"), "only in the model: params/scale (logit_scale) []"),
        (lambda a: a.update(stranger=np.zeros(3, np.float32)), "only in the file: stranger [3]"),
        (lambda a: a.update({"logit_bias": np.zeros((), np.float32)}), "only in the file: logit_bias []"),
        (lambda a: a.update({"text_projection": np.zeros((32, 13), np.float32)}), "(file [32, 13], model [32, 12])"),
        (lambda a: a.update({"ln_final.weight": np.zeros(30, np.float32)}), "params/text/norm/scale"),
    ],
)
def test_whatever_does_not_fit_is_named(change, part):
    arrays = dict(openai())
    change(arrays)
    with pytest.raises(UserError) as caught:
        imported(arrays, naming="openai/clip")
    assert part in str(caught.value)


def test_an_activation_that_nobody_tells_is_asked_for_and_one_that_disagrees_is_refused():
    with pytest.raises(UserError, match=r"nothing says which activation .* openai/clip \(quick_gelu\)"):
        imported(openai())
    with pytest.raises(
        UserError, match=r"its origin \(open_clip/clip\) says activation 'gelu' where the model has 'quick"
    ):
        imported(openai(), naming="open_clip/clip")
    assert imported(openai(), naming="open_clip/clip", options={"activation": "gelu"}).text.module.activation == "gelu"
    archive = {**openai(), **SIZES}
    assert imported(archive).loaded.preprocessing.source == "the released weights of openai/clip"
    with pytest.raises(
        UserError, match=r"openai/clip\) says activation 'quick_gelu'.*give the model image.activation="
    ):
        imported(archive, options={"activation": "gelu"})
    with pytest.raises(UserError, match=r"text.activation='quick_gelu'"):
        imported(archive, options={"text.activation": "gelu"})
    config = stored(GELU, "config")
    with pytest.raises(
        UserError, match=r"config.json says vision_config.hidden_act 'gelu' where the model has 'quick_g"
    ):
        imported(drawn(GELU), config=config)
    with pytest.raises(UserError, match="put their config.json beside them"):
        imported(drawn(GELU))
    with pytest.raises(UserError, match=r"open_clip_config.json says quick_gelu False"):
        imported(openai(), config={"model_cfg": {"embed_dim": 12}})
    with pytest.raises(UserError, match=r"num_attention_heads 4 where the model has 2"):
        imported(drawn(CLIP), config=stored(CLIP, "config"), options={"text.num_heads": 2})
    del config["vision_config"]["hidden_act"]  # left out is the default of its class, which is another than here
    with pytest.raises(UserError, match="'quick_gelu' where the model has 'gelu'"):
        imported(drawn(GELU), GELU, config=config)


def test_configs_of_siglip_in_open_clip_agree():
    text = {"heads": 4, "no_causal_mask": True, "act_kwargs": {"approximate": "tanh"}}
    config = {"model_cfg": {"vision_cfg": {"timm_model_name": "x"}, "text_cfg": text}}
    model, words = towers_of("siglip/B16", SIGLIP.options)
    towers = TwoTowers(model.module, words.module, image_projection=False, bias=True)
    check_clip(as_file({}, config), towers, found="open_clip/siglip", told=None)
    text["no_causal_mask"] = False
    with pytest.raises(UserError, match=r"text.causal=True"):
        check_clip(as_file({}, config), towers, found="open_clip/siglip", told=None)


@pytest.mark.parametrize("library", ["openai", "huggingface"])
def test_the_image_tower_alone_comes_from_the_whole_file(library):
    whole = imported(drawn(CLIP), config=stored(CLIP, "config"))
    arrays, config = (openai() | SIZES, {}) if library == "openai" else (drawn(CLIP), stored(CLIP, "config"))
    found = import_variant(as_file(arrays, config), "vit/B32_clip", options=IMAGE_OPTIONS, image_size=pairs.SIDE)
    assert found.num_classes == 0
    assert same(flat(found.loaded.params, {}), flat(whole.loaded.params["backbone"], {}))
    assert not found.loaded.report.only_in_source
    with pytest.raises(UserError, match="says .*'quick_gelu' where the model has 'gelu'"):
        import_variant(
            as_file(arrays, config), "vit/B32_clip", options={**IMAGE_OPTIONS, "activation": "gelu"}, image_size=32
        )


def test_options_say_which_tower_they_are_of():
    with pytest.raises(UserError, match=r"write image.width or text.width"):
        import_pair(as_file({}), "clip/ViT-B32", options={"width": 3})
    with pytest.raises(UserError, match="did you mean 'clip/ViT-B32'"):
        import_pair(as_file({}), "clip/ViT-B-32")


def test_a_file_is_converted_and_opened_again_with_its_tokenizer(tmp_path, capsys):
    words = tokenizer.train(["a red circle", "a blue square"], vocab_size=516)
    (tmp_path / "tokenizer.json").write_text(words.to_json())
    arrays = {name: array.astype(np.float16) for name, array in openai().items()}
    table = np.random.default_rng(0).standard_normal((words.vocab_size, 32)).astype(np.float16)
    write_safetensors(tmp_path / "clip.safetensors", {**arrays, "token_embedding.weight": table}, {})
    argv = [str(tmp_path / "clip.safetensors"), "--to", "clip/ViT-B32", "--naming", "openai/clip", "--image_size", "32"]
    for key, value in CLIP.options.items():
        argv += ["--option", f"{key}={value}"]
    stored_words = ["--tokenizer", str(tmp_path / "tokenizer.json")]
    assert main([*argv, *stored_words, "--out", str(tmp_path / "out")]) == 0
    assert f"with {words.vocab_size} tokens, names of openai/clip" in capsys.readouterr().err
    _, saved, metadata = load_arrays(tmp_path / "out")
    pair = pair_of(saved, metadata)
    assert pair.name == "clip/ViT-B32"
    assert (pair.text.vocab_size, pair.text.length, pair.image_shape) == (words.vocab_size, 9, (32, 32, 3))
    assert tokenizer.Tokenizer.from_json(pair.tokenizer) == words
    assert pair.objective == {"embed_dim": 12, "image_projection": True, "loss": "softmax"}
    np.testing.assert_array_equal(pair.params["text"]["token_embedding"], table.astype(np.float32))
    assert from_json(metadata["preprocessing"]).crop == {"name": "center", "fraction": 1.0}
    assert pair.preprocessing.interpolation == "bicubic"
    write_safetensors(tmp_path / "other.safetensors", arrays, {})
    argv[0] = str(tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=rf"--tokenizer has {words.vocab_size} tokens, the text tower of the file 60"):
        main([*argv, *stored_words, "--out", str(tmp_path / "more")])
    assert not (tmp_path / "more").exists()
    with pytest.raises(UserError, match="--tokenizer is for a pair"):
        main([argv[0], "--to", "vit/B32_clip", *stored_words, "--out", str(tmp_path / "more")])


def test_the_towers_of_a_run_are_its_averages_unrolled():
    found = imported(drawn(CLIP), config=stored(CLIP, "config"))
    plain, _ = checkpoint_of(found)
    params = stack_blocks(complete_pair(found)["params"])
    saved = flat(params, {}) | {"opt_state/mu/params/scale": np.zeros(())}
    saved |= {f"extra/ema/{path.removeprefix('params/')}": array + 1 for path, array in flat(params, {}).items()}
    options = {key: value for key, value in CLIP.options.items() if "." in key}
    section = lambda name, tower: {  # noqa: E731
        "name": name,
        "scan": True,
        **{key.partition(".")[2]: value for key, value in options.items() if key.startswith(tower)},
    }
    config = {
        "model": section("vit/B32_clip", "image."),
        "text": section("text/clip_512", "text."),
        "objective": {"name": "contrast", "embed_dim": 12, "max_scale": 50.0},
        "data": {"image_size": 32, "channels": 3, "mean": (0.5,) * 3, "std": (0.2,) * 3},
    }
    notes = []
    pair = pair_of(saved, {"config": config, "tokenizer": "x"}, note=notes.append)
    assert notes == ["taken: the moving average of the parameters, which evaluations use too"]
    assert same(flat(pair.params, {}), {path: array + 1 for path, array in plain.items()})
    assert (pair.tokenizer, pair.preprocessing.mean, pair.objective["max_scale"]) == ("x", (0.5,) * 3, 50.0)
    now = pair_of(saved, {"config": config}, average=False)
    assert same(flat(now.params, {}), plain)


def test_a_checkpoint_without_a_text_tower_says_what_to_take():
    with pytest.raises(UserError, match=r"it is of vit/S16 alone; take a run of objective=contrast"):
        pair_of({}, {"config": {"model": {"name": "vit/S16"}}}, source="x")


def test_a_folder_of_open_clip_brings_its_config(tmp_path):
    write_safetensors(tmp_path / "open_clip_model.safetensors", openai(), {})
    config = {"model_cfg": {"quick_gelu": True}, "preprocess_cfg": {"mean": [0.1] * 3, "std": [0.2] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    found = import_pair(read_weights(tmp_path), CLIP.pair, options=CLIP.options, image_size=pairs.SIDE).loaded
    assert (found.preprocessing.mean, found.preprocessing.squash) == ((0.1,) * 3, False)
    config["preprocess_cfg"]["resize_mode"] = "squash"
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    found = import_pair(read_weights(tmp_path), CLIP.pair, options=CLIP.options, image_size=pairs.SIDE).loaded
    assert found.preprocessing.squash
