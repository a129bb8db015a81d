"""The robustness evaluator and study show every run the same corrupted images, and count what is right."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from browser import check_page
from conftest import mesh_of

from experiments import robustness as program_of
from vision import models
from vision.data.corrupt import CORRUPTIONS, corrupted
from vision.data.host import HostPart
from vision.data.order import InOrder
from vision.data.pipeline import make_pipeline
from vision.data.prepare import make_prepare
from vision.data.source import ArraySource
from vision.errors import ConfigError, UserError
from vision.evaluation import EVALUATORS
from vision.evaluation.base import EvalSet
from vision.evaluation.robustness import ALL
from vision.objectives import OBJECTIVES
from vision.training import schema
from vision.training.state import TrainState

CLASSES, SIDE = 4, 8
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 255, (70, SIDE, SIDE, 1)).astype(np.uint8)
LABELS = ((np.arange(70) + 2) % CLASSES).astype(np.int32)  # the first, which fills the last batch up, is right
OBJECTIVE = OBJECTIVES["classify"](models.build("linear", num_classes=CLASSES, zero_init=False))
CASES = [(name, strength) for name in ("translation", "clutter") for strength in (2, 5)]


def evaluator(*, batch_size=70, devices=1, **options):
    source = ArraySource({"image": IMAGES, "label": LABELS}, CLASSES)
    sharding = jax.sharding.NamedSharding(mesh_of(devices), jax.sharding.PartitionSpec(("data", "fsdp")))
    order = InOrder(len(source), batch_size)
    pipeline = make_pipeline(source, order, HostPart((SIDE, SIDE), 1), sharding=sharding, residency="auto")
    masks = tuple(order.mask(step) for step in range(order.num_batches))
    prepare = make_prepare(mean=(0.5,), std=(0.25,), channels=1)
    return EVALUATORS["robustness"](EvalSet(pipeline, prepare, masks), OBJECTIVE, **options)


def state():
    params, extra = OBJECTIVE.init(jax.random.key(0), {"image": jax.ShapeDtypeStruct((1, SIDE, SIDE, 1), jnp.float32)})
    return TrainState(jnp.int32(0), params, extra, ())


def right(images):
    scaled = jnp.asarray((images / 255 - 0.5) / 0.25, jnp.float32)
    output = OBJECTIVE.encode(state().params, state().extra, {"image": scaled})["output"]
    return float(np.mean(np.asarray(output).argmax(axis=-1) == LABELS))


@pytest.fixture(scope="module")
def expected():
    found = {"accuracy": right(IMAGES)}
    for name, strength in CASES:
        found[f"{name}_{strength}"] = right(corrupted(name, IMAGES, strength))
    found["mean_accuracy"] = np.mean(list(found.values())[1:])
    return found


def test_accuracies_are_those_of_images_corrupted_outside_whatever_the_batches(expected):
    made = evaluator(batch_size=32, devices=8, corruptions=("translation", "clutter"), strengths=(2, 5))
    values = dict(made.run(state()))
    assert tuple(values) == made.metrics == tuple(expected)
    assert values == pytest.approx(expected, abs=1e-12)
    assert len(set(values.values())) > 3


def test_a_config_names_corruptions_that_there_are():
    assert set(ALL) == set(CORRUPTIONS)
    full = {"data": {"name": "digits"}, "model": {"name": "linear"}, "objective": {"name": "classify"}}
    full |= {"optimizer": {"name": "sgd", "learning_rate": 0.1}, "duration": {"steps": 1}, "batch_size": 8}
    with pytest.raises(ConfigError, match=r"corruptions\[1\]: 'blurr' is not one of .*did you mean 'blur'"):
        schema.resolve({**full, "evals": {"hard": {"name": "robustness", "corruptions": ("noise", "blurr")}}})
    with pytest.raises(ValueError, match="from 1 to 5, got 0"):
        evaluator(strengths=(0, 1))


PLAIN = HostPart((SIDE, SIDE), 1)
LARGE = HostPart((16, 16), 3)


def run_of(scores, *, name="one", data="digits", part=PLAIN):
    from vision.studies.robustness.images import Run
    from vision.training.predictor import Predictor

    section = {"name": data, "data_dir": None, "label": None, "on_error": "error"}
    return Run(name, f"runs/{name}", Predictor("stub", scores, "votes", part, {"data": section}, 1))


def test_a_run_that_knows_clean_images_by_heart_keeps_chance():
    from vision.studies.robustness.measure import accuracies

    known = {image.tobytes(): label for image, label in zip(IMAGES, LABELS, strict=True)}

    def scores(images):
        return np.eye(CLASSES)[[known.get(image.tobytes(), 0) for image in images]]

    source = ArraySource({"image": IMAGES, "label": LABELS}, CLASSES)
    result = accuracies(run_of(scores), source, ["translation", "clutter"], [1, 4])
    zeros = float(np.mean(LABELS == 0))
    assert result["accuracy"] == 1.0
    assert result["corruptions"] == {"translation": [zeros, zeros], "clutter": [zeros, zeros]}
    assert result["mean_accuracy"] == result["kept"] == pytest.approx(zeros)


def test_every_run_gets_the_same_images_in_the_shape_it_expects():
    from vision.studies.robustness.images import framed, test_images

    def scores(images):
        assert images.shape[1:] in {(8, 8, 1), (16, 16, 3)}
        return np.zeros((len(images), 10))

    runs = [run_of(scores), run_of(scores, name="two", part=LARGE)]
    images = test_images(runs, None, 60, note=lambda text: None)
    assert len(images) == 60
    assert images.arrays["image"].shape == (60, 8, 8, 3)
    grey = framed(images.arrays["image"], PLAIN)
    np.testing.assert_array_equal(grey, images.arrays["image"][..., :1])
    np.testing.assert_array_equal(np.unique(images.arrays["label"]), np.arange(10))


def test_runs_that_cannot_be_compared_are_named():
    from vision.studies.robustness.images import test_images

    ten, four = (lambda images, n=n: np.zeros((len(images), n)) for n in (10, 4))
    with pytest.raises(UserError, match=r"different data: runs/one of digits, runs/two of cifar10"):
        test_images([run_of(ten), run_of(ten, name="two", data="cifar10")], None, 9, note=print)
    with pytest.raises(UserError, match="runs/one tells 4 classes apart, digits has 10"):
        test_images([run_of(four)], None, 9, note=print)


def test_names_are_what_tells_the_paths_apart():
    from pathlib import Path

    from vision.studies.robustness.measure import _names

    assert _names([Path("/r/a/0/run"), Path("/r/b/0/run")]) == ["a", "b"]
    assert _names([Path("/r/a/0/run"), Path("/r/a/1/run")]) == ["0", "1"]
    assert _names([Path("/r/mlp"), Path("/r/old/mlp")]) == ["mlp", "old/mlp"]
    assert _names([Path("/r/mlp")]) == ["mlp"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --workdirs"),
        (["--workdirs", "a", "--dataset", "digits"], "give either --workdirs"),
        (["--workdirs", "nowhere"], "nowhere is no run"),
        (["--workdirs", "nowhere", "./nowhere"], "stands there twice"),
        (["--workdirs", "nowhere", "--corruptions", "rotate"], "unknown corruption 'rotate'; did you mean 'rotation'"),
        (["--workdirs", "nowhere", "--strengths", "7"], "from 1 to 5, got 7"),
        (["--workdirs", "nowhere", "--examples", "0"], "--examples must be at least 1"),
        (["--dataset", "digit"], "unknown 'digit'; did you mean 'digits'"),
    ],
)
def test_wrong_input_is_one_line(arguments, message, tmp_path):
    with pytest.raises(UserError, match=message):
        program_of.main([*arguments, "--workdir", str(tmp_path)])


@pytest.mark.slow
def test_the_program_compares_fitted_and_trained_runs_and_resumes(program, tmp_path):
    folders = [tmp_path / "mlp", tmp_path / "hog"]
    common = ["--config.duration.steps=150", "--config.logging.tensorboard=False"]
    program("experiments.train", "--config", "configs/quickstart.py", "--workdir", folders[0], *common)
    config = tmp_path / "hog.py"
    config.write_text(
        """
from ml_collections import ConfigDict

def get_config():
    hog = {"name": "hog", "cell_size": 2}
    return ConfigDict({
        "data": {"name": "digits"},
        "features": (hog,),
        "estimator": {"name": "linear_svm"},
        "evals": {"test": {"split": "test"}},
    })
"""
    )
    program("experiments.train", "--config", config, "--workdir", folders[1])
    arguments = ["experiments.robustness", "--workdirs", *folders, "--workdir", tmp_path / "out", "--json"]
    arguments += ["--corruptions", "translation", "noise", "--strengths", "1", "5", "--examples", "200"]
    done = program(*arguments)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result == json.loads((tmp_path / "out" / "robustness.json").read_text())
    assert [run["name"] for run in result["runs"]] == ["mlp", "hog"]
    for run in result["runs"]:
        assert run["accuracy"] > 0.85
        for values in run["corruptions"].values():
            assert run["accuracy"] >= values[0] > values[1]
    text = (tmp_path / "out" / "robustness.html").read_text()
    assert text.count("<svg") == 2
    assert "http" not in text.replace("http://www.w3.org", "")
    again = program(*arguments)
    assert again.stdout == done.stdout
    assert again.stderr.count("done before") == 2
    check_page(tmp_path / "out" / "robustness.html", tmp_path)


@pytest.mark.slow
def test_the_evaluator_of_a_training_and_the_study_count_the_same(tiny_config, tmp_path):
    from vision.studies.robustness import measure
    from vision.training.loop import train

    names, strengths = ("rotation", "clutter", "noise"), (1, 4)
    with tiny_config.unlocked():
        tiny_config.duration = {"steps": 60}
        tiny_config.model = {"name": "mlp/128"}
        del tiny_config.ema
        tiny_config.evals = {"hard": {"name": "robustness", "split": "test", "corruptions": names}}
        tiny_config.evals.hard.strengths = strengths
    of_run = train(tiny_config, tmp_path / "run")["hard"]
    options = measure.Options(tmp_path, corruptions=names, strengths=strengths)
    result, images = measure.measured(measure.opened([str(tmp_path / "run")]), options)
    (run,) = result["runs"]
    assert len(images) == 360
    assert run["accuracy"] == pytest.approx(of_run["accuracy"])
    for name in names:
        assert run["corruptions"][name] == pytest.approx([of_run[f"{name}_{strength}"] for strength in strengths])
    assert run["mean_accuracy"] == pytest.approx(of_run["mean_accuracy"])
    assert run["mean_accuracy"] < run["accuracy"]
