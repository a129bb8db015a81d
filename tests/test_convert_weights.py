"""Weights come in as a checkpoint like a run's own, with where they are from, and go out under others' names."""

import hashlib
import json

import jax.numpy as jnp
import numpy as np
import pytest
from test_interop_match import VIT, built, drawn, same

from tools.convert_weights import main
from vision.errors import UserError
from vision.interop.match import to_theirs
from vision.interop.namings import NAMINGS
from vision.interop.preprocessing import from_json
from vision.interop.saved import model_of, stated_shape
from vision.interop.tensors import read_safetensors, write_safetensors
from vision.interop.trees import nested
from vision.training.checkpoint import Checkpoints, load_arrays

# One block: every kind of arrays costs a compilation of its digests, here and in each test that saves another tree.
SMALL = {**VIT, "depth": 1}
LENET = {"conv_widths": (2,), "hidden_sizes": (3,)}
OPTIONS = [word for key, value in SMALL.items() for word in ("--option", f"{key}={value}")]
PRETRAINED = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.2, 0.2, 0.2],
    "crop_pct": 0.9,
    "interpolation": "bicubic",
    "input_size": [3, 16, 16],
}


@pytest.fixture
def weights(tmp_path):
    """A file with timm's names for a small ViT of five classes, and our arrays."""
    module, wanted = built("vit/B16", SMALL, 16, 3)
    ours = drawn(wanted)
    path = tmp_path / "file" / "model.safetensors"
    write_safetensors(path, to_theirs(ours, NAMINGS["timm/vit"], module), {"format": "pt"})
    return path, ours


def convert(source, out, *more, to="vit/B16", size=16):
    arguments = [
        source,
        "--to",
        to,
        "--out",
        out,
        *(["--image_size", size, *OPTIONS] if to == "vit/B16" else []),
        *more,
    ]
    return main([str(each) for each in arguments])


def test_a_file_becomes_a_checkpoint_like_a_runs_own_and_the_same_file_again(weights, tmp_path, capsys):
    path, ours = weights
    out = tmp_path / "imported"
    assert convert(path, out, "--json") == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert result["arrays"] == len(ours)
    assert "5 classes, names of timm/vit (the same as of dino/vit, dinov2/vit)" in printed.err
    step, arrays, metadata = load_arrays(out)
    assert step == 0
    assert same(arrays, ours)
    assert metadata["model"] == {"name": "vit/B16", **SMALL}
    assert metadata["source"]["files"] == {"model.safetensors": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert convert(out, tmp_path / "again.safetensors", to="timm/vit") == 0
    again, there = read_safetensors(tmp_path / "again.safetensors"), read_safetensors(path)
    assert same(again[0], there[0])
    assert again[1] == {"format": "pt"}


def test_batch_statistics_are_where_a_run_has_them(tmp_path):
    options = {"stage_sizes": (1,), "width": 4}
    module, wanted = built("resnet/18", options, 32, 3)
    ours = drawn(wanted)
    write_safetensors(tmp_path / "x.safetensors", to_theirs(ours, NAMINGS["torchvision/resnet"], module), {})
    words = ["--option", "stage_sizes=(1,)", "--option", "width=4", "--image_size", 32]
    words += ["--naming", "torchvision/resnet"]
    assert convert(tmp_path / "x.safetensors", tmp_path / "out", *words, to="resnet/18") == 0
    _, arrays, metadata = load_arrays(tmp_path / "out")
    assert {path.removeprefix("extra/collections/") for path in arrays} == set(ours)
    assert "extra/collections/batch_stats/stem_norm/mean" in arrays
    found = from_json(metadata["preprocessing"])
    assert (found.crop_ratio, found.interpolation) == (0.875, "bilinear")
    saved = model_of(arrays, metadata)
    assert same(saved.arrays, ours)
    assert (saved.name, saved.image_shape, saved.model.module.num_classes) == ("resnet/18", (32, 32, 3), 5)


def test_a_head_for_other_classes_starts_fresh_and_positions_are_resized_for_other_images(weights, tmp_path, capsys):
    path, ours = weights
    with pytest.raises(UserError, match="may_differ 'head'"):
        convert(path, tmp_path / "out", "--num_classes", 3)
    assert not (tmp_path / "out").exists()
    words = ["--num_classes", 3, "--may_differ", "head", "--option", "head_bias=-2.5"]
    convert(path, tmp_path / "out", *words, size=24)
    _, arrays, metadata = load_arrays(tmp_path / "out")
    assert metadata["fresh"] == ["params/head/kernel", "params/head/bias"]
    assert metadata["num_classes"] == 3
    assert arrays["params/head/kernel"].shape == (16, 3)
    np.testing.assert_array_equal(arrays["params/head/bias"], np.full(3, -2.5, np.float32))
    assert arrays["params/position_embedding"].shape == (6, 6, 16)
    assert metadata["resized"] == {"params/position_embedding": [[4, 4, 16], [6, 6, 16]]}
    assert all(same({p: arrays[p]}, {p: ours[p]}) for p in ours if "head" not in p and "position_emb" not in p)
    told = capsys.readouterr().err
    assert "left as initialised: params/head/kernel" in told
    assert "resized: params/position_embedding (file [4, 4, 16], model [6, 6, 16])" in told


def test_preprocessing_comes_from_the_config_and_flags_go_before(weights, tmp_path, capsys):
    path, _ = weights
    convert(path, tmp_path / "a")
    assert load_arrays(tmp_path / "a")[2]["preprocessing"] is None
    assert "preprocessing: the file does not state it" in capsys.readouterr().err
    config = {"architecture": "vit_x_patch4_16", "global_pool": "token", "pretrained_cfg": PRETRAINED}
    (path.parent / "config.json").write_text(json.dumps(config))
    convert(path.parent, tmp_path / "b")
    stored = from_json(load_arrays(tmp_path / "b")[2]["preprocessing"])
    assert (stored.mean, stored.crop_ratio, stored.activation) == ((0.5, 0.5, 0.5), 0.9, "gelu")
    convert(path.parent, tmp_path / "c", "--mean", 0.1, 0.2, 0.3, "--crop_ratio", 1)
    stored = from_json(load_arrays(tmp_path / "c")[2]["preprocessing"])
    assert (stored.mean, stored.std, stored.crop_ratio) == ((0.1, 0.2, 0.3), (0.2, 0.2, 0.2), 1.0)
    assert "mean given, crop_ratio given" in capsys.readouterr().err


def run_like(folder, ours, **metadata):
    """A checkpoint as training leaves it, with a moving average and the optimizer's state."""
    params, collections = nested({path: jnp.asarray(array) for path, array in ours.items()})
    average, _ = nested({path: jnp.asarray(array) + 1 for path, array in ours.items()})
    state = {
        "step": jnp.int32(3),
        "params": params,
        "extra": {"collections": collections, "ema": average},
        "opt_state": {"mu": jnp.zeros(3)},
    }
    config = {"model": {"name": "lenet/5", **LENET}, "data": {"image_size": 28, "channels": 1}}
    checkpoints = Checkpoints(folder / "checkpoints")
    checkpoints.save(3, state, {"step": 3, "config": config, **metadata})
    checkpoints.wait()


def test_a_run_goes_out_with_its_moving_average_unless_told_otherwise(tmp_path, capsys):
    module, wanted = built("lenet/5", LENET, 28, 1)
    ours = drawn(wanted)
    run_like(tmp_path / "run", ours)
    out = tmp_path / "x.safetensors"
    convert(tmp_path / "run", out, to="torch/lenet")
    averaged = {path: array + 1 for path, array in ours.items()}
    assert same(read_safetensors(out)[0], to_theirs(averaged, NAMINGS["torch/lenet"], module))
    assert "moving average" in capsys.readouterr().err
    convert(tmp_path / "run", out, "--no_average", to="torch/lenet")
    assert same(read_safetensors(out)[0], to_theirs(ours, NAMINGS["torch/lenet"], module))


@pytest.mark.slow
def test_what_names_fold_together_is_said(tmp_path, capsys):
    options = {**SMALL, "num_registers": 2}
    _, wanted = built("vit/B16", options, 16, 3)
    run_like(tmp_path / "run", drawn(wanted), config={"model": {"name": "vit/B16", **options}}, image_shape=[16, 16, 3])
    assert convert(tmp_path / "run", tmp_path / "x.safetensors", "--json", to="timm/vit") == 0
    printed = capsys.readouterr()
    assert "no place of their own for params/class_token, params/class_position" in printed.err
    assert json.loads(printed.out)["folded"] == ["params/class_token", "params/class_position"]


def test_the_image_shape_that_a_checkpoint_states():
    run = {"config": {"data": {"image_size": [8, 12], "channels": 1}}}
    assert stated_shape(run) == (8, 12, 1)
    assert stated_shape(run, 20) == (20, 20, 1)
    assert stated_shape({"config": {"data": {"image_size": 8, "channels": None}}}) == (8, 8, 3)
    assert stated_shape({"image_shape": [5, 6, 1], **run}) == (5, 6, 1)
    assert stated_shape({"image_shape": [5, 6, 1]}, 7) == (7, 7, 1)
    assert stated_shape({"config": {"data": {"image_size": None, "channels": 1}}}) is None


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["FILE", "--to", "vit/B17"], "did you mean 'vit/B16'"),
        (["FILE", "--to", "timm/vits"], "did you mean 'timm/vit'"),
        (["FILE", "--to", "vit/B16", "--image_size", "17", *OPTIONS], "patches of 4x4 do not divide"),
        (["FILE", "--to", "vit/B16", "--option", "depth=1"], "other shapes"),
        (["FILE", "--to", "resnet/18"], "it holds a ViT"),
        (["FILE", "--to", "mlp/128"], "no names of other libraries for the model MLP"),
        (["FILE", "--to", "vit/B16", "--option", "width"], "key=value"),
        (["FILE", "--to", "vit/B16", "--option", "scan=True"], "one by one"),
        (["FILE", "--to", "vit/B16", "--option", "widht=3"], "did you mean 'width'"),
        (["FILE", "--to", "vit/B16", "--option", "width=wide"], "expected int"),
        (["FILE", "--to", "vit/B16", "--naming", "timm/resnet"], "the model is ViT"),
        (["FILE", "--to", "vit/B16", "--image_size", "16", *OPTIONS, "--may_differ", "["], "no regular expression"),
        (["FILE", "--to", "vit/B16", "--image_size", "16", *OPTIONS, "--mean", "0.5"], "give both --mean and --std"),
        (["FILE", "--to", "vit/B16", "--image_size", "16", *OPTIONS, "--mean", "1", "--std", "1"], "3 channels"),
        (["FILE", "--to", "vit/B16", "--branch", "student"], "has no branch 'student'"),
        (["FILE", "--to", "timm/vit"], "is no run"),
        (["none.safetensors", "--to", "vit/B16"], "no such file"),
    ],
)
def test_what_cannot_be_is_one_sentence(weights, tmp_path, words, part):
    out = tmp_path / "out"
    with pytest.raises(UserError) as caught:
        main([str(weights[0]) if word == "FILE" else word for word in words] + ["--out", str(out)])
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_nothing_is_written_over(weights, tmp_path):
    convert(weights[0], tmp_path / "out")
    with pytest.raises(UserError, match="exists already"):
        convert(weights[0], tmp_path / "out")
    with pytest.raises(UserError, match="is a run or a converted checkpoint"):
        convert(tmp_path / "out", tmp_path / "other")
    with pytest.raises(UserError, match="are names for a ResNet; vit/B16 has timm/vit"):
        convert(tmp_path / "out", tmp_path / "x.safetensors", to="timm/resnet")


def test_a_checkpoint_that_does_not_say_what_it_is_of(tmp_path):
    _, wanted = built("vit/B16", SMALL, 16, 3)
    arrays = drawn(wanted)
    with pytest.raises(UserError, match="does not say which model it is of"):
        model_of(arrays, {})
    config = {"model": {"name": "vit/B16", **SMALL}}
    with pytest.raises(UserError, match="give --image_size"):
        model_of(arrays, {"config": config})
    found = model_of(arrays, {"config": config}, image_shape=(16, 16, 3))
    assert found.preprocessing is None
    assert same(found.arrays, arrays)
    notes = []
    larger = model_of(arrays, {"config": config}, image_shape=(32, 32, 3), note=notes.append)
    assert larger.arrays["params/position_embedding"].shape == (8, 8, 16)
    assert notes == ["params/position_embedding is resized from [4, 4, 16] to [8, 8, 16]"]
    with pytest.raises(UserError, match="other shapes: params/norm/bias"):
        model_of({**arrays, "params/norm/bias": np.zeros(3, np.float32)}, {"config": config}, image_shape=(16, 16, 3))


def test_blocks_that_a_run_scanned_over_are_taken_apart():
    _, scanned = built("vit/B16", {**VIT, "scan": True}, 16, 3)
    module, wanted = built("vit/B16", VIT, 16, 3)
    arrays = drawn(scanned)
    config = {"model": {"name": "vit/B16", **VIT, "scan": True}}
    saved = model_of(arrays, {"config": config}, image_shape=(16, 16, 3))
    assert saved.arrays.keys() == wanted.keys()
    stacked = arrays["params/encoder/blocks/mlp/hidden/kernel"]
    np.testing.assert_array_equal(saved.arrays["params/encoder/block01/mlp/hidden/kernel"], stacked[1])
    assert to_theirs(saved.arrays, NAMINGS["timm/vit"], module)


def test_as_a_program_a_mistake_is_one_line_and_exit_code_2(program, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"\x89PNG\r\n")
    done = program("tools.convert_weights", tmp_path / "x.safetensors", "--to", "vit/B16", "--out", "o", check=2)
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert "a PNG image" in line


@pytest.mark.slow
def test_a_trained_run_goes_out_and_comes_back(tmp_path, tiny_config):
    """From training to another library's file and back, with the predictions of the run."""
    from vision.training.loop import train

    tiny_config.model = {"name": "vit/B16", **SMALL}
    tiny_config.data.image_size = 8
    tiny_config.data.channels = 1
    tiny_config.data.augment = ()
    train(tiny_config, tmp_path / "run")
    assert convert(tmp_path / "run", tmp_path / "x.safetensors", to="timm/vit") == 0
    _, arrays, metadata = load_arrays(tmp_path / "run")
    assert set(read_safetensors(tmp_path / "x.safetensors")[0]) >= {"cls_token", "pos_embed", "head.weight"}
    ours = model_of(arrays, metadata)
    module, _ = built("vit/B16", SMALL, 8, 1, num_classes=10)
    assert same(to_theirs(ours.arrays, NAMINGS["timm/vit"], module), read_safetensors(tmp_path / "x.safetensors")[0])
