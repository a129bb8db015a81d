"""A fitted estimator is a run like any other: its folder, its metrics, its report, its errors."""

import json

import numpy as np
import pytest

from vision.errors import ConfigError, UserError
from vision.training import fit_schema
from vision.training.fit import evaluate, fit, measured
from vision.training.predictor import open_predictor


def config(**changes):
    return {
        "data": {"name": "digits"},
        "estimator": {"name": "knn", "k": 1, "metric": "l2"},
        "evals": {"test": {"split": "test"}},
        **changes,
    }


def given(labels, *, pixels=None, classes=3):
    """Arrays in memory: images of one colour for each class, or the pixels that are given."""
    labels = np.asarray(labels, np.int32)
    images = np.broadcast_to((labels * 80)[:, None, None, None], (len(labels), 4, 4, 1)).astype(np.uint8)
    images = images if pixels is None else pixels
    full = {"image": np.zeros((classes, 4, 4, 1), np.uint8), "label": np.arange(classes, dtype=np.int32)}
    return {"train": {"image": images, "label": labels}, "test": full}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit") / "run"
    return folder, fit(config(), folder)


def test_accuracy_is_that_of_scikit_learn(run):
    from sklearn.neighbors import KNeighborsClassifier

    from vision.data.host import HostPart
    from vision.data.materialize import materialize
    from vision.data.sources import Opener

    train, test = (materialize(Opener("digits")(split), HostPart((8, 8), 1)).arrays for split in ("train", "test"))
    flat = [each["image"].reshape(len(each["image"]), -1) / 255 for each in (train, test)]
    expected = KNeighborsClassifier(1, algorithm="brute").fit(flat[0], train["label"]).score(flat[1], test["label"])
    assert run[1]["test"]["accuracy"] == pytest.approx(expected, abs=1e-9)
    assert run[1]["parameters"] >= 1437 * 64


def test_the_folder_is_that_of_a_run(run):
    folder, result = run
    assert json.loads((folder / "config.json").read_text())["estimator"]["k"] == 1
    assert json.loads((folder / "environment.json").read_text())["data_fingerprint"]
    line = json.loads((folder / "metrics.jsonl").read_text())
    assert line == {"step": 1} | {f"test/{metric}": value for metric, value in result["test"].items()}
    confusion = np.asarray(json.loads((folder / "evaluations" / "test.json").read_text())["arrays"]["confusion"])
    assert confusion.sum() == 360
    assert confusion.trace() / 360 == pytest.approx(result["test"]["accuracy"])
    assert "fitted" in (folder / "report.html").read_text()


def test_again_it_says_that_it_is_complete(run, capsys):
    folder, result = run
    again = fit(config(), folder)
    assert "complete" in capsys.readouterr().err
    assert again["test"] == result["test"]


def test_another_config_does_not_take_the_folder(run):
    with pytest.raises(UserError, match="belongs to another config.*estimator.k"):
        fit(config(estimator={"name": "knn", "k": 3, "metric": "l2"}), run[0])


def test_it_is_evaluated_from_its_folder(run):
    folder, result = run
    assert evaluate(folder)["test"] == result["test"]
    assert evaluate(folder, split="train")["test"]["accuracy"] == 1.0  # each image is its own nearest neighbour


def test_the_predictor_gives_the_answers_of_the_evaluation(run):
    folder, result = run
    predictor = open_predictor(folder, note=print)
    test = predictor.open("test", note=print)
    scores = predictor.scores(test.arrays["image"])
    assert scores.shape == (360, 10)
    assert np.mean(scores.argmax(1) == test.arrays["label"]) == pytest.approx(result["test"]["accuracy"])


def test_loss_and_calibration_are_of_probabilities_only():
    values, labels = np.array([[0.8, 0.2], [0.4, 0.6], [0.9, 0.1]]), np.array([0, 1, 1])
    metrics, confusion = measured(values, "probability", labels)
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["loss"] == pytest.approx(-np.log([0.8, 0.6, 0.1]).mean(), rel=1e-5)
    assert confusion.tolist() == [[1, 0], [1, 1]]
    assert set(measured(values, "margin", labels)[0]) == {"accuracy"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"estimator": {"name": "knm"}}, "config.estimator.name: unknown estimator 'knm'; did you mean 'knn'"),
        ({"estimator": {"name": "knn", "neighbours": 3}}, "config.estimator.neighbours: unknown key"),
        ({"estimator": {"name": "knn", "metric": "l3"}}, "config.estimator.metric: 'l3' is not one of"),
        ({"features": ({"name": "hogg"},)}, r"config.features\[0\].name: unknown feature 'hogg'; did you mean 'hog'"),
        ({"features": ()}, "config.features: empty"),
        ({"limits": {"minutes": 0.0}}, "config.limits.minutes: must be more than 0"),
        ({"limits": {"hours": 1.0}}, "config.limits.hours: unknown key"),
        ({"model": {"name": "linear"}}, "config.model: unknown key"),
        ({"evals": {"train": {}}}, "config.evals.train"),
        ({"seed": -1}, "config.seed"),
    ],
)
def test_a_config_that_cannot_be_is_one_line(change, told):
    with pytest.raises(ConfigError, match=told):
        fit_schema.resolve(config(**change))


@pytest.mark.parametrize(
    ("labels", "estimator", "told"),
    [
        ([0, 0, 0, 0], {"name": "knn", "k": 1}, "config.data: all 4 examples are of one class, 0"),
        ([0, 0, 1, 1], {"name": "softmax_regression"}, "config.data: 1 of 3 classes have no example among 4"),
        ([0, 1, 2, 1], {"name": "knn", "k": 5}, r"config.estimator: k must be in \[1, 4\].* got 5"),
    ],
)
def test_data_that_an_estimator_cannot_learn_from_are_one_line(labels, estimator, told, tmp_path):
    section = {"name": "arrays", "split": "train"}
    with pytest.raises(UserError, match=told) as caught:
        fit(config(data=section, estimator=estimator), tmp_path / "run", sources=given(labels))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "summary.json").exists()


def test_an_image_smaller_than_a_cell_is_told(tmp_path):
    section = {"name": "arrays", "split": "train"}
    with pytest.raises(UserError, match=r"config.features.*4x4"):
        fit(config(data=section, features=({"name": "hog"},)), tmp_path / "run", sources=given([0, 1, 2]))
