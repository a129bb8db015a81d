"""Training, evaluation and prediction that start from weights: what is taken over, what stays, what is refused."""

import inspect
import json

import jax
import numpy as np
import pytest
from conftest import tiny
from PIL import Image
from safetensors.numpy import save_file

from vision import models
from vision.config.loading import plain
from vision.errors import UserError
from vision.interop.namings import NAMINGS
from vision.interop.trees import flat
from vision.training.assemble import assemble
from vision.training.checkpoint import Checkpoints, load_arrays
from vision.training.init_from import FREE, TOLD_BY_SHAPES
from vision.training.loop import train
from vision.training.schema import resolve
from vision.training.start import where_to_start

VIT = {"name": "vit/B16", "width": 16, "depth": 2, "num_heads": 2, "mlp_dim": 24, "patch_size": 4}


def data(classes=3, size=8):
    rng = np.random.default_rng(classes)
    images = rng.integers(0, 256, (24, size, size, 3), dtype=np.uint8)
    return {"train": {"image": images, "label": (np.arange(24) % classes).astype(np.int32)}}


def config(model=VIT, **more):
    return {
        "batch_size": 8,
        "duration": {"steps": 2},
        "data": {"name": "arrays"},
        "model": model,
        "objective": {"name": "classify"},
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "logging": {"tensorboard": False, "progress": False},
        **more,
    }


def start(tmp_path, *, classes=3, size=8, notes=None, **more):
    """The state that a run would start from, and the sentence that says so."""
    experiment = assemble(resolve(config(**more)), given=data(classes, size))
    checkpoints = Checkpoints(tmp_path / "none" / "checkpoints")
    begun = where_to_start(experiment, checkpoints, {}, (notes if notes is not None else []).append)
    state = jax.device_get(begun.state)
    return flat(state.params, {}), state, begun.reason


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A ViT of three classes, trained for two steps with a moving average."""
    folder = tmp_path_factory.mktemp("run")
    train(config(ema={"decay": 0.5}), folder, sources=data())
    return folder


def averaged(folder):
    arrays = load_arrays(folder)[1]
    return {f"params/{path[10:]}": array for path, array in arrays.items() if path.startswith("extra/ema/")}


def test_a_run_s_average_is_taken_over_and_time_starts_anew(run, tmp_path):
    params, state, reason = start(tmp_path, init_from=str(run), ema={"decay": 0.9})
    expected = averaged(run)
    assert params.keys() == expected.keys()
    for path, array in expected.items():
        np.testing.assert_array_equal(params[path], array)
    jax.tree.map(np.testing.assert_array_equal, state.extra["ema"], state.params)
    assert (int(state.step), reason) == (0, f"started from the weights of {run}")
    raw, _, _ = start(tmp_path, init_from={"path": str(run), "average": False})
    np.testing.assert_array_equal(raw["params/head/kernel"], load_arrays(run)[1]["params/head/kernel"])
    assert np.any(raw["params/head/kernel"] != params["params/head/kernel"])


def test_another_number_of_classes_replaces_the_head_alone_and_says_so(run, tmp_path):
    notes = []
    params, _, _ = start(tmp_path, classes=4, init_from=str(run), notes=notes)
    expected = averaged(run)
    assert params["params/head/kernel"].shape == (16, 4)
    assert not params["params/head/kernel"].any()
    for path in expected.keys() - {"params/head/kernel", "params/head/bias"}:
        np.testing.assert_array_equal(params[path], expected[path])
    (line,) = [note for note in notes if "left as initialised" in note]
    assert "params/head/kernel" in line
    assert "[16, 3]" in line
    assert "[16, 4]" in line


@pytest.mark.slow
def test_a_head_of_other_classes_is_left_out_though_it_has_their_number(tmp_path):
    """Otherwise a network would begin with the weights of trousers for bags, and nobody would be told."""

    def made(classes, **more):
        return plain(tiny()) | {"data": {"name": "digits", "classes": classes}, "evals": {}, "ema": None} | more

    train(made((0, 1, 2)), tmp_path / "first")
    kernel = load_arrays(tmp_path / "first", 12)[1]["params/head/kernel"]
    for classes, taken in (((0, 1, 2), True), ((2, 1, 0), False), ((5, 6, 7), False)):
        notes: list[str] = []
        experiment = assemble(resolve(made(classes, init_from=str(tmp_path / "first"))))
        begun = where_to_start(experiment, Checkpoints(tmp_path / "none" / "checkpoints"), {}, notes.append)
        params = jax.device_get(begun.state.params)
        assert np.array_equal(params["head"]["kernel"], kernel) == taken
        assert any("other classes" in note for note in notes) != taken
    distilled = made(
        (5, 6, 7),
        objective={"name": "knowledge_distillation"},
        teacher={"model": made(())["model"], "init_from": str(tmp_path / "first")},
    )
    with pytest.raises(UserError, match="a teacher's weights must all be there"):
        train(distilled, tmp_path / "taught")


def test_scanned_blocks_and_larger_images_take_them_over_too(run, tmp_path):
    notes = []
    params, _, _ = start(tmp_path, size=12, init_from=str(run), model={**VIT, "scan": True}, notes=notes)
    expected = averaged(run)
    kernels = params["params/encoder/blocks/attention/qkv/kernel"]
    for block in range(2):
        np.testing.assert_array_equal(kernels[block], expected[f"params/encoder/block{block:02}/attention/qkv/kernel"])
    assert params["params/position_embedding"].shape == (3, 3, 16)
    assert any("resized" in note and "position_embedding" in note for note in notes)


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ({**VIT, "activation": "gelu_tanh"}, ["activation 'gelu' there and 'gelu_tanh' here"]),
        ({**VIT, "num_heads": 4}, ["num_heads 2 there and 4 here"]),
        ({**VIT, "pool": "gap"}, ["pool 'token' there and 'gap' here"]),
        ({**VIT, "width": 32}, ["[16]", "[32]"]),
        ({**VIT, "num_registers": 2}, ["only in the model", "params/register_token"]),
        ({**VIT, "depth": 1}, ["only in the file", "encoder/block01"]),
    ],
    ids=["activation", "heads", "pool", "width", "registers", "depth"],
)
def test_what_does_not_fit_is_refused_with_both_sides_named(run, tmp_path, model, parts):
    with pytest.raises(UserError) as error:
        start(tmp_path, init_from=str(run), model=model)
    assert str(error.value).startswith("config.init_from: ")
    for part in parts:
        assert part in str(error.value)


@pytest.mark.slow
def test_arrays_that_may_differ_are_listed_by_the_caller(run, tmp_path):
    section = {"path": str(run), "may_differ": ("register_token",)}
    params, _, _ = start(tmp_path, init_from=section, model={**VIT, "num_registers": 2})
    np.testing.assert_array_equal(params["params/class_token"], averaged(run)["params/class_token"])


def test_an_option_that_may_differ_is_listed_too_and_a_scan_needs_every_block(run, tmp_path):
    start(tmp_path, init_from={"path": str(run), "may_differ": ("pool",)}, model={**VIT, "pool": "gap"})
    section = {"path": str(run), "may_differ": ("block02",)}
    start(tmp_path, init_from=section, model={**VIT, "depth": 3})
    with pytest.raises(UserError, match="every block needs its weights; missing: .*block02"):
        start(tmp_path, init_from=section, model={**VIT, "depth": 3, "scan": True})


def test_every_option_of_every_model_is_free_told_by_shapes_or_has_to_agree():
    """A new option has to agree until someone says that it need not; names that no model has are no excuse."""
    options = {
        name
        for variant in models.VARIANTS.values()
        for name in inspect.signature(variant.module).parameters
        if name not in models.SUPPLIED
    }
    assert set(FREE) | set(TOLD_BY_SHAPES) <= options | {"zero_init"}
    must_agree = options - set(FREE) - set(TOLD_BY_SHAPES)
    assert {"activation", "epsilon", "num_heads", "patch_size", "pool", "positions", "shortcut"} <= must_agree


def test_not_together_with_resume_and_not_from_nowhere(tmp_path):
    with pytest.raises(UserError, match=r"config\.init_from: not together with config\.resume"):
        resolve(config(init_from="a", resume="b"))
    with pytest.raises(UserError, match=r"config\.init_from: .*nowhere"):
        start(tmp_path, init_from=str(tmp_path / "nowhere"))


@pytest.mark.slow
def test_a_run_goes_on_from_its_own_checkpoints_though_the_weights_are_gone(run, tmp_path):
    folder, weights = tmp_path / "tuned", tmp_path / "weights"
    run.rename(weights)
    try:
        first = train(config(init_from=str(weights)), folder, sources=data())
    finally:
        weights.rename(run)
    assert first["step"] == 2
    again = train(config(init_from=str(weights)), folder, sources=data())
    assert again["step"] == 2


@pytest.fixture(scope="module")
def foreign(run, tmp_path_factory):
    """The same network in a file with timm's names."""
    experiment = assemble(resolve(config()), given=data())
    ours = averaged(run)
    theirs = {}
    for pair in NAMINGS["timm/vit"].pairs(experiment.model.module):
        theirs.update(zip(pair.theirs, pair.to_theirs(*(ours[path] for path in pair.ours)), strict=True))
    path = tmp_path_factory.mktemp("foreign") / "model.safetensors"
    save_file({name: np.ascontiguousarray(array) for name, array in theirs.items()}, path)
    return path


def test_a_file_of_another_library_gives_the_same_start(run, foreign, tmp_path):
    params, _, reason = start(tmp_path, init_from=str(foreign))
    for path, array in averaged(run).items():
        np.testing.assert_array_equal(params[path], array)
    assert str(foreign) in reason


OPTIONS = [f"--option={key}={value}" for key, value in VIT.items() if key != "name"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for number, image in enumerate(data()["train"]["image"]):
        path = folder / "val" / "abc"[number % 3] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


@pytest.mark.slow
def test_prediction_and_evaluation_of_a_weight_file(program, foreign, pictures, tmp_path):
    weights = ["--weights", foreign, "--model", "vit/B16", *OPTIONS, "--image_size", "8"]
    prepared = ["--mean", "0", "0", "0", "--std", "1", "1", "1"]
    (pictures / "broken.png").write_bytes(b"no image")
    page = tmp_path / "page.html"
    names = tmp_path / "names.txt"
    names.write_text("alpha\nbeta\n<gamma>\n")
    done = program(
        "experiments.predict", *weights, *prepared, "--images", pictures, "--out", page, "--classes", names, "--json"
    )
    result = json.loads(done.stdout.splitlines()[-1])
    (pictures / "broken.png").unlink()
    assert result["broken"] == [str(pictures / "broken.png")]
    assert len(result["predictions"]) == 24
    for each in result["predictions"]:
        assert sum(one["probability"] for one in each["top"]) == pytest.approx(1, abs=1e-5)
    text = page.read_text()
    assert text.count("<img") == 24
    assert "&lt;gamma&gt;" in text
    assert "<gamma>" not in text
    done = program(
        "experiments.evaluate", *weights, *prepared, "--data", f"folder:{pictures}", "--split", "val", "--json"
    )
    evaluated = json.loads(done.stdout.splitlines()[-1])["classification"]
    right = [each["top"][0]["class"] == {"a": "alpha", "b": "beta", "c": "<gamma>"}[each["image"][-8]]
             for each in result["predictions"]]  # fmt: skip
    assert evaluated["accuracy"] == pytest.approx(np.mean(right), abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["experiments.predict", "--images", "."], ["--workdir", "--weights"]),
        (["experiments.predict", "--workdir", "nowhere", "--images", "nowhere"], ["--images nowhere", "no such"]),
        (["experiments.evaluate", "--weights", "nowhere"], ["--data"]),
        (["experiments.evaluate", "--weights", "nowhere", "--data", "digits"], ["--model"]),
    ],
    ids=["nothing", "no images", "no data", "no model"],
)
def test_a_mistake_is_one_line(program, arguments, parts):
    (line,) = program(*arguments, check=2).stderr.splitlines()
    for part in parts:
        assert part in line
