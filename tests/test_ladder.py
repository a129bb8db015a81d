"""The ladder: every rung resolves, what is finished stays finished, the page says what the numbers say."""

import json
import resource
import time

import numpy as np
import pytest
from browser import check_page

from vision.errors import UserError
from vision.studies.ladder import book, climb, examples, rungs
from vision.studies.ladder.datasets import SIZES, ground
from vision.studies.ladder.study import Options, study
from vision.training import fit_schema, schema

DATASETS = ("digits", "fashion_mnist", "cifar10")
NAMED = (
    *("most_frequent", "linear_regression", "softmax_regression", "knn_l1", "knn_l2", "linear_svm", "rbf_svm", "tree"),
    *("forest", "boosting", "hog_svm", "sift_bow_forest", "mlp", "lenet", "vgg", "resnet", "mixer", "vit", "transfer"),
)


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("size", SIZES)
def test_every_rung_is_there_and_its_config_resolves(dataset, size):
    ladder = rungs.rungs(dataset, size)
    assert set(NAMED) <= {rung.name for rung in ladder}
    for rung in ladder:
        module = fit_schema if fit_schema.is_fit(rung.config) else schema
        resolved = module.resolve(rung.config)
        assert resolved["data"]["split"] == ground(dataset, size).train
        assert resolved["evals"]["test"]["split"] == ground(dataset, size).test
        if rung.before is not None:
            schema.resolve(rung.before)


def result(name, test, *, family="linear", train=1.0, **more):
    numbers = {"parameters": 10, "fit_seconds": 1.0, "images_per_second": 5.0, "test_accuracy_sd": None, "seeds": 1}
    return (
        {"name": name, "title": name, "family": family, "test_accuracy": test, "train_accuracy": train} | numbers | more
    )


def test_the_page_names_the_winner_and_the_networks_that_stay_below_a_lower_rung():
    said = book._order([result("neighbours", 0.99), result("perceptron", 0.98, family="network")])
    assert "Highest: neighbours, 0.9900" in said
    assert "perceptron (0.9800) stays below neighbours (0.9900)" in said
    assert "stays below" not in book._order([result("low", 0.5), result("net", 0.9, family="network")])


def test_mean_and_spread_over_seeds():
    rung = rungs.rungs("digits", "small")[0]
    numbers = {"train_accuracy": 1.0, "parameters": 3, "fit_seconds": 2.0, "images_per_second": 10.0}
    found = climb.summary(rung, [{"test_accuracy": 0.5, **numbers}, {"test_accuracy": 0.7, **numbers}])
    assert found["test_accuracy"] == pytest.approx(0.6)
    assert found["test_accuracy_sd"] == pytest.approx(np.std([0.5, 0.7], ddof=1))
    assert found["seeds"] == 2


def test_the_surest_mistakes_come_first():
    scores = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    shown = examples.mistakes(np.zeros((3, 4, 4, 1), np.uint8), np.array([1, 1, 1]), scores, ("a", "b"), most=12)
    assert "2 of 3 test images" in shown
    assert shown.index("test image 0") < shown.index("test image 1")
    assert "test image 2" not in shown


def options(folder, **changes):
    return Options(
        **{"dataset": "digits", "size": "small", "workdir": folder, "only": ("most_frequent", "knn_l2")} | changes
    )


@pytest.fixture(scope="module")
def climbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ladder") / "digits"
    return folder, *study(options(folder))


def test_it_writes_the_numbers_and_the_page(climbed):
    folder, found, complete = climbed
    assert complete
    written = json.loads((folder / "ladder.json").read_text())
    assert [each["name"] for each in written["rungs"]] == ["most_frequent", "knn_l2"]
    assert written["rungs"] == found["rungs"]
    assert written["rungs"][0]["test_accuracy"] == pytest.approx(0.1, abs=0.03)
    assert written["rungs"][1]["test_accuracy"] > 0.97
    page = (folder / "ladder.html").read_text()
    for each in found["rungs"]:
        assert each["title"] in page
        assert f"{each['test_accuracy']:.4f}" in page


def test_again_nothing_is_measured_anew(climbed, monkeypatch):
    folder, found, _ = climbed
    monkeypatch.setattr("vision.studies.ladder.measure.fit", None)
    again, complete = study(options(folder))
    assert complete
    assert again["rungs"] == found["rungs"]


def test_another_size_does_not_take_the_folder(climbed):
    changed = rungs.Rung("knn_l2", "", "neighbours", {**rungs.rungs("digits", "small")[4].config, "features": ()})
    from vision.studies.ladder.measure import measure

    with pytest.raises(UserError, match="choose another --workdir"):
        measure(changed, 0, climbed[0] / "rungs" / "knn_l2" / "0", data_dir=None, note=print)


def test_beyond_the_time_nothing_is_begun(tmp_path):
    ladder = climb.chosen(rungs.rungs("digits", "small"), ("most_frequent",))
    (found,) = climb.climb(ladder, tmp_path, seeds=1, data_dir=None, deadline=time.monotonic() - 1, tell=print)
    assert found[1] == "not begun: the time was over"
    assert not (tmp_path / "rungs").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"dataset": "digit"}, "--dataset: unknown 'digit'; did you mean 'digits'"),
        ({"size": "large"}, "--size: unknown 'large'"),
        ({"only": ("knn",)}, "--only: unknown rung 'knn'"),
        ({"seeds": 0}, "--seeds must be at least 1"),
        ({"minutes": 0.0}, "--max_time must be more than 0"),
    ],
)
def test_what_cannot_be_is_one_line(changes, told, tmp_path):
    with pytest.raises(UserError, match=told):
        study(options(tmp_path / "ladder", **changes))


def test_a_study_whose_time_is_over_before_it_begins_has_a_page(tmp_path):
    found, complete = study(options(tmp_path / "ladder", minutes=1e-6))
    assert not complete
    assert found["rungs"] == []
    assert "the time was over" in (tmp_path / "ladder" / "ladder.html").read_text()


def test_a_rung_that_would_take_too_long_is_told_and_the_others_go_on(tmp_path):
    found, complete = study(options(tmp_path / "ladder", memory_gib=1e-7))
    assert not complete
    assert found["rungs"] == []
    told = next(iter(found["missing"].values()))
    assert "--memory_gib=" in told
    assert "--config" not in told.split("take fewer")[0]


@pytest.mark.slow
def test_the_command_on_digits(program, tmp_path):
    folder = tmp_path / "ladder"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = program("experiments.ladder", "--dataset", "digits", "--workdir", folder, "--json", timeout=1200)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = json.loads(done.stdout.splitlines()[-1])
    accuracy = {each["name"]: each["test_accuracy"] for each in found["rungs"]}
    assert set(NAMED) <= set(accuracy)
    assert accuracy["most_frequent"] < 0.15 < accuracy["tree"] < accuracy["forest"] < accuracy["resnet"]
    assert accuracy["linear_regression"] < accuracy["knn_l2"]
    check_page(folder / "ladder.html", tmp_path)
    # Four minutes on two cores; of processor time, as others may use the cores too.
    assert seconds < 2 * 240


@pytest.mark.slow
def test_stopped_by_its_time_it_goes_on(program, tmp_path):
    only = ("--only", "most_frequent", "resnet", "--workdir", tmp_path / "ladder", "--json")
    done = program("experiments.ladder", "--dataset", "digits", *only, "--max_time", "0.2", check=75)
    assert "the time was over" in done.stderr
    done = program("experiments.ladder", "--dataset", "digits", *only)
    assert {each["name"] for each in json.loads(done.stdout)["rungs"]} == {"most_frequent", "resnet"}
