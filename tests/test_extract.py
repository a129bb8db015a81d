"""Features in files: what the network says, whole shards or none, and whatever learns can learn on them."""

import json
import pickle
import signal
import subprocess
import sys
from functools import partial

import jax
import numpy as np
import pytest
from conftest import REPOSITORY, child_environment

from vision import models
from vision.classic.estimators import ESTIMATORS
from vision.config.loading import load
from vision.data.decode import decode
from vision.data.sources import Opener
from vision.data.sources.features import INDEX
from vision.errors import ConfigError, UserError
from vision.interop.preprocessing import Preprocessing
from vision.models.precision import FLOAT32
from vision.training.extract import Wanted, extract
from vision.training.fit import fit
from vision.training.loop import train
from vision.training.predictor import open_predictor
from vision.training.pretrained import Pretrained

SHAPE = (8, 8, 1)
SPLITS = ["train[:300]", "test"]


def network(name="mlp/128", seed=0, **options):
    model = models.build(name, num_classes=10, image_shape=SHAPE, precision=FLOAT32, **options)
    images = jax.ShapeDtypeStruct((1, *SHAPE), np.float32)
    shapes = jax.eval_shape(partial(model.init, images=images), jax.random.key(0))
    generator = np.random.default_rng(seed)
    params, collections = jax.tree.map(lambda leaf: generator.normal(size=leaf.shape).astype(leaf.dtype) / 4, shapes)
    return Pretrained(model, params, collections, name, SHAPE, Preprocessing((0.3,), (0.4,), decoder="opencv"))


MLP = network(hidden_sizes=(12,))
WANTED = Wanted(shard_size=128, batch_size=64)


def extracted(out, wanted=WANTED, pretrained=MLP, splits=SPLITS, note=lambda text: None):
    return extract(pretrained, "digits", out, splits=splits, wanted=wanted, note=note)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("features") / "digits"
    extracted(out)
    return out


def contents(out):
    return {path.name: path.read_bytes() for path in out.iterdir() if path.suffix == ".npy"}


def images_of(split):
    source = Opener("digits")(split)
    return np.stack([decode(each["image"]) for each in source.read(range(len(source)))]), source.labels()


def test_features_are_what_the_network_says_of_prepared_images(folder):
    images, labels = images_of("test")
    (layer,) = (MLP.params["hidden_0"],)
    pixels = (images.reshape(len(images), -1) / 255.0 - 0.3) / 0.4
    source = Opener(f"features:{folder}")("test")
    found = np.stack([each["image"] for each in source.read(range(len(source)))])
    assert found.shape == (360, 1, 1, 12)
    np.testing.assert_allclose(found[:, 0, 0], np.maximum(pixels @ layer["kernel"] + layer["bias"], 0), atol=1e-5)
    np.testing.assert_array_equal(source.labels(), labels)
    assert [each["label"] for each in source.read([359, 0])] == [labels[359], labels[0]]
    assert (source.num_classes, source.fields, len(source)) == (10, ("image", "label"), 360)
    assert source.where(200).endswith("test-00001-of-00003.npy, row 72")


def test_an_interrupted_extraction_goes_on_and_gives_the_same_bits(folder, tmp_path):
    def stop(text):
        if "256 of 300" in text:
            raise KeyboardInterrupt

    out = tmp_path / "features"
    with pytest.raises(KeyboardInterrupt):
        extracted(out, note=stop)
    with pytest.raises(UserError, match=r"no split is complete: train\[:300\] \(2 of 3 shards\)"):
        Opener(f"features:{out}")("test")
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.npy")}
    assert len(before) == 4, "two shards, each with its labels"
    result = extracted(out)
    assert [each["made"] for each in result["splits"].values()] == [1, 3]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert contents(out) == contents(folder)
    assert json.loads((out / INDEX).read_text()) == json.loads((folder / INDEX).read_text())


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "labels"])
def test_a_broken_shard_is_named_and_made_anew(folder, tmp_path, damage):
    out, told = tmp_path / "features", []
    out.mkdir()
    for path in folder.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    broken = out / ("test-00001-of-00003.label.npy" if damage == "labels" else "test-00001-of-00003.npy")
    whole = broken.read_bytes()
    if damage == "gone":
        broken.unlink()
    else:
        broken.write_bytes(whole[:-40] if damage != "flipped" else whole[:-1] + bytes([whole[-1] ^ 1]))
    if damage in ("cut", "gone"):
        with pytest.raises(UserError, match="test-00001-of-00003.npy cannot be read.*experiments.extract"):
            Opener(f"features:{out}")("test").read([130])
    assert extracted(out, note=told.append)["splits"]["test"]["made"] == 1
    assert any(str(broken) in line and "made anew" in line for line in told)
    assert contents(out) == contents(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"wanted": WANTED._replace(layer="output")}, "layer 'pre_logits' there, 'output' here"),
        ({"wanted": WANTED._replace(dtype="float16")}, "dtype 'float32' there, 'float16' here"),
        ({"pretrained": network(hidden_sizes=(12,), seed=1)}, "weights '[0-9a-f]{16}' there"),
        (
            {"pretrained": MLP._replace(preprocessing=Preprocessing((0.3,), (0.5,), decoder="opencv"))},
            r"preprocessing.std \[0.4\] there, \[0.5\] here",
        ),
    ],
)
def test_other_features_in_the_same_folder_are_refused(folder, change, told):
    before = contents(folder)
    with pytest.raises(UserError, match=f"holds other features .*{told}"):
        extracted(folder, **change)
    assert contents(folder) == before


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds something else \(thesis.txt\)"):
        extracted(tmp_path)


def test_an_unknown_layer_names_those_there_are(tmp_path):
    with pytest.raises(UserError, match="--layer pre_logit: .*did you mean 'pre_logits'.*block00"):
        extracted(tmp_path / "features", WANTED._replace(layer="pre_logit"))


def test_positions_are_averaged_or_kept(tmp_path):
    pretrained = network("vit/Ti16", patch_size=4, width=8, depth=1, num_heads=1, mlp_dim=8)
    sources = []
    for whole in (False, True):
        wanted = WANTED._replace(layer="block00", whole=whole)
        shape = extracted(tmp_path / str(whole), wanted, pretrained, ["test[:64]"])["shape"]
        assert shape == ([5, 8] if whole else [8]), "four patches and the class token"
        sources.append(Opener(f"features:{tmp_path / str(whole)}")("test[:64]"))
    mean, kept = ([each["image"] for each in source.read(range(64))] for source in sources)
    assert (mean[0].shape, kept[0].shape) == ((1, 1, 8), (5, 1, 8))
    np.testing.assert_allclose(np.stack(mean)[:, 0, 0], np.stack(kept)[:, :, 0].mean(1), atol=1e-5)


def test_what_float16_does_not_hold_is_refused(tmp_path):
    params = jax.tree.map(lambda leaf: leaf * 1e5, MLP.params)
    with pytest.raises(UserError, match=r"pre_logits of .*example \d+ is not finite; --dtype float32"):
        extracted(tmp_path / "features", WANTED._replace(dtype="float16"), MLP._replace(params=params))
    half = tmp_path / "half"
    extracted(half, WANTED._replace(dtype="float16"), splits=["test"])
    (example,) = Opener(f"features:{half}")("test").read([0])
    assert example["image"].dtype == np.float32


def test_slices_of_an_extracted_split(folder):
    opener = Opener(f"features:{folder}", note=str)
    parts = [opener("test[:10%]"), opener("test[10%:]")]
    assert [len(part) for part in parts] == [36, 324]
    assert sorted(np.concatenate([part.labels() for part in parts])) == sorted(opener("test").labels())
    assert parts[0].fingerprint != parts[1].fingerprint != opener("test").fingerprint
    assert opener(None).fingerprint == opener("test").fingerprint, "the held-out split"
    with pytest.raises(UserError, match="did you mean 'test'"):
        opener("tets")


def test_a_source_of_open_files_travels_to_another_process_without_them(folder):
    source = Opener(f"features:{folder}")("test")
    expected = source.read([7])
    pickled = pickle.dumps(source)
    assert len(pickled) < 3000
    np.testing.assert_array_equal(pickle.loads(pickled).read([7])[0]["image"], expected[0]["image"])


@pytest.mark.slow
@pytest.mark.parametrize("estimator", sorted(ESTIMATORS.keys() - {"logistic_regression", "mean_class"}))
def test_every_estimator_learns_on_features(folder, tmp_path, estimator):
    config = load(f"configs/classic/logistic_features.py:{folder}")
    config["data"]["split"] = "train[:300]"
    config["estimator"] = {"name": estimator}
    config["evals"]["part"] = {"split": "test[:50%]"}
    result = fit(config, tmp_path / "run")
    assert result["test"]["accuracy"] > 0.4, "of ten classes, on 12 random units"


def test_a_model_learns_on_features_and_answers(folder, tmp_path):
    config = load("configs/softmax_regression.py")
    config |= {"batch_size": 64, "duration": {"steps": 100}, "checkpoint": {}}
    config["data"] = {"name": f"features:{folder}", "split": "train[:300]"}
    result = train(config, tmp_path / "run")
    predictor = open_predictor(tmp_path / "run", note=str)
    test = predictor.open("test", note=str)
    right = predictor.scores(test.arrays["image"]).argmax(1) == test.arrays["label"]
    assert right.mean() == pytest.approx(result["test"]["accuracy"], abs=1e-6)
    assert right.mean() > 0.4


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"mean": (0.5,), "std": (0.5,)}, "mean"),
        ({"image_size": 8}, "image_size"),
        ({"crop": {"name": "random_resized"}}, "crop"),
    ],
)
def test_what_is_done_to_pixels_is_refused(folder, tmp_path, options, key):
    config = load("configs/softmax_regression.py")
    config["data"] = {"name": f"features:{folder}", "split": "train[:300]", **options}
    with pytest.raises(ConfigError, match=f"config.data.{key}: is for pixels"):
        train(config, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_program_goes_on(program, tmp_path, how):
    """Ctrl-C leaves whole shards and no others; kill -9 may leave a part of one, which the next call writes over."""
    program(
        "experiments.train",
        "--config",
        "configs/quickstart.py",
        "--config.duration.steps=30",
        "--workdir",
        tmp_path / "run",
    )
    command = [
        "experiments.extract",
        "--workdir",
        tmp_path / "run",
        "--dataset",
        "digits",
        "--shard_size",
        10,
        "--batch_size",
        10,
    ]
    program(*command, "--out", tmp_path / "straight")
    out = tmp_path / "stopped"
    words = [sys.executable, "-m", *map(str, command), "--out", str(out)]
    running = subprocess.Popen(words, cwd=REPOSITORY, env=child_environment(), stderr=subprocess.PIPE, text=True)
    for line in running.stderr:
        if "train: 50 of" in line:
            running.send_signal(how)
            break
    told = running.communicate()[1]
    assert running.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL), told
    assert 5 <= sum("label" not in path.name for path in out.glob("*.npy")) < 144
    assert how == signal.SIGKILL or not list(out.glob("*.partial"))
    done = program(*command, "--out", out)
    assert "of 144 shards are there" in done.stderr
    assert contents(out) == contents(tmp_path / "straight")
