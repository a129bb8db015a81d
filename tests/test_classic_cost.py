"""Before a fit: costs are told with the key to go on, data that cannot be learned from are named. After it: files."""

import contextlib
import time
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from skops import io

from vision.classic import cost, persist
from vision.classic.checks import check_features, check_labels
from vision.classic.estimators import ESTIMATORS
from vision.classic.features.standardize import Standardize
from vision.classic.scores import scores
from vision.errors import UserError

LIMITS = {"memory_gib": 8.0, "minutes": 30.0}


def large(examples: int, features: int):
    """Data of this shape that take no memory."""
    return np.broadcast_to(np.float32(0), (examples, features)), np.arange(examples, dtype=np.int32) % 10


def pretend(monkeypatch, seconds):
    """Fits take ``seconds(estimator, examples)``."""
    fitted = []

    def taken(estimator, x, y):
        fitted.append((estimator, len(x)))
        return seconds(estimator, len(x))

    monkeypatch.setattr(cost, "_seconds_of", taken)
    return fitted


@pytest.mark.parametrize(
    ("name", "options", "shape", "gib"),
    [
        ("kernel_svm", {"kernel": "intersection"}, (60_000, 10), 60_000**2 * 16 / 2**30),
        ("ridge", {}, (50_000, 40_000), (50_000 * 40_000 * 4 + 40_000**2 * 8) / 2**30),
        ("softmax_regression", {}, (200_000, 12_288), 200_000 * 12_288 * 4 / 2**30),
    ],
)
def test_memory_beyond_the_limit_is_told_with_the_key_to_go_on(name, options, shape, gib):
    with pytest.raises(UserError) as error:
        cost.check_cost(name, ESTIMATORS[name](**options), *large(*shape), **LIMITS)
    text = str(error.value)
    assert f"config.estimator: {name} on {shape[0]:,} examples of {shape[1]:,} features" in text
    told = float(text.split("about ")[1].split(" GiB")[0])
    assert gib <= told * 1.05 <= 1.3 * gib
    key = float(text.split("--config.limits.memory_gib=")[1].split(",")[0])
    cost.check_cost("mean_class", ESTIMATORS["mean_class"](), *large(10, 10), **LIMITS)
    assert cost.memory_bytes(name, ESTIMATORS[name](**options), *shape, 10) < key * 2**30  # with it, it goes on
    assert "\n" not in text


def test_the_largest_ridge_of_the_anchors_is_within_the_usual_limits(monkeypatch):
    pretend(monkeypatch, lambda estimator, examples: 10.0)
    cost.check_cost("ridge", ESTIMATORS["ridge"](), *large(50_000, 6_400), **LIMITS)


@pytest.mark.parametrize(
    ("name", "options", "power", "seconds"),
    [
        ("kernel_svm", {}, 2.3, lambda estimator, n: 1e-7 * n**2.3),
        ("kernel_svm", {}, 2.0, lambda estimator, n: 1e-3 * n),  # what small fits show is not what comes
        ("decision_tree", {}, 1.1, lambda estimator, n: 1e-3 * n**1.1),
        ("random_forest", {"num_trees": 80}, 1.0, lambda estimator, n: 1e-2 * n * estimator.n_estimators / 80),
        ("softmax_regression", {}, 1.0, lambda estimator, n: 1e-1 * n * estimator.max_iterations / 500),
    ],
)
def test_time_follows_from_small_fits_by_the_known_growth(name, options, power, seconds, monkeypatch):
    pilots = pretend(monkeypatch, seconds)
    estimator = ESTIMATORS[name](**options)
    x, y = large(40_000, 100)
    got = cost.fit_minutes(name, estimator, x, y) * 60
    _, size = pilots[-1]
    assert size <= len(x) / 4
    assert got == pytest.approx(seconds(estimator, size) * (len(x) / size) ** power, rel=1e-6)


def test_time_beyond_the_limit_is_told_with_the_key_to_go_on(monkeypatch):
    pretend(monkeypatch, lambda estimator, examples: 6e-7 * examples**2)
    with pytest.raises(UserError) as error:
        cost.check_cost("kernel_svm", ESTIMATORS["kernel_svm"](), *large(60_000, 100), **LIMITS)
    assert "would take about 36 minutes, the limit is 30 minutes" in str(error.value)
    assert "--config.limits.minutes=72, or take fewer examples" in str(error.value)
    cost.check_cost("kernel_svm", ESTIMATORS["kernel_svm"](), *large(60_000, 100), memory_gib=8.0, minutes=72.0)


@pytest.mark.parametrize(("name", "shape"), [("kernel_svm", (1437, 64)), ("knn", (60_000, 3_000))])
def test_nothing_is_tried_where_it_is_no_question(name, shape, monkeypatch):
    pilots = pretend(monkeypatch, lambda estimator, examples: 1e9)
    cost.check_cost(name, ESTIMATORS[name](), *large(*shape), **LIMITS)
    assert not pilots


def test_every_estimator_is_estimated(monkeypatch):
    pretend(monkeypatch, lambda estimator, examples: 10.0)
    free = {"knn", "mean_class"}
    for name, function in ESTIMATORS.items():
        assert cost.memory_bytes(name, function(), 1000, 10, 3) >= 40_000
        assert (cost.fit_minutes(name, function(), *large(200_000, 10)) == 0) == (name in free)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["decision_tree", "kernel_svm", "softmax_regression", "random_forest"])
def test_estimates_are_near_what_fits_take(name):
    """Within a factor of 6, as other programs may be running.

    The estimate is for all the steps that L-BFGS may take, so it gets a problem on which it takes them all.
    """
    random = np.random.default_rng(0)
    x = random.random((12_000, 200)).astype(np.float32)
    y = (x[:, :10] + 0.3 * random.random((12_000, 10))).argmax(axis=1)
    iterative = name == "softmax_regression"
    options: dict[str, Any] = {"max_iterations": 30, "l2": 0.0, "tolerance": 1e-9} if iterative else {}
    estimate = 60 * cost.fit_minutes(name, ESTIMATORS[name](**options), x, y)
    with pytest.warns(ConvergenceWarning) if iterative else contextlib.nullcontext():
        began = time.perf_counter()
        ESTIMATORS[name](**options).fit(x, y)
        taken = time.perf_counter() - began
    assert 1 / 6 < estimate / taken < 6, f"{estimate:.2f} s estimated, {taken:.2f} s taken"


def test_labels_that_teach_nothing_are_told():
    names = ("cat", "dog", "emu")
    check_labels(np.array([0, 1, 2]), 3, names)
    with pytest.raises(ValueError, match="all 4 examples are of one class, dog: nothing to tell apart"):
        check_labels(np.ones(4, int), 3, names)
    with pytest.raises(ValueError, match=r"1 of 3 classes have no example among 2 \(emu\)"):
        check_labels(np.array([0, 1]), 3, names)
    with pytest.raises(ValueError, match=r"98 of 100 classes have no example among 2 \(2, 3, 4, 5, 6, \.\.\.\)"):
        check_labels(np.array([0, 1]), 100)


def test_features_that_are_no_numbers_are_told():
    check_features(np.zeros((2, 3), np.float32))
    broken = np.zeros((1500, 3), np.float32)
    broken[1204, 1] = np.nan
    with pytest.raises(ValueError, match="the features: row 1204 has a value that is not finite"):
        check_features(broken)
    with pytest.raises(ValueError, match="something in it"):
        check_features(np.zeros((2, 0), np.float32))


class Voter:
    """Says a class and no more."""

    classes_ = np.array([0, 2])

    def predict(self, x):
        return self.classes_[(x[:, 0] > 0).astype(int)]


def test_scores_have_a_column_for_every_class_of_the_data():
    x = np.array([[-1.0], [2.0]], np.float32)
    values, kind = scores(Voter(), x, 4)
    assert kind == "votes"
    np.testing.assert_array_equal(values, [[1, 0, 0, 0], [0, 0, 1, 0]])
    many, y = np.repeat(x, 10, axis=0) + np.linspace(0, 0.1, 20, dtype=np.float32)[:, None], np.repeat([0, 2], 10)
    values, kind = scores(ESTIMATORS["linear_svm"]().fit(many, y), x, 4)
    assert kind == "margin"
    np.testing.assert_array_equal(values.argmax(axis=1), [0, 2])
    assert (values[:, [1, 3]] <= values.min(axis=1, keepdims=True)).all()
    values, kind = scores(ESTIMATORS["kernel_svm"]().fit(many, y), x, 4)  # one margin for two classes
    assert kind == "margin"
    np.testing.assert_array_equal(values.argmax(axis=1), [0, 2])
    values, kind = scores(ESTIMATORS["knn"]().fit(many, y), x, 4)
    assert kind == "probability"
    np.testing.assert_array_equal(values, [[1, 0, 0, 0], [0, 0, 1, 0]])


@pytest.fixture
def saved(tmp_path):
    data = load_digits()
    x = data.data[:60].astype(np.float32)
    path = tmp_path / "estimator.skops"
    persist.save(path, Standardize().fit(x), ESTIMATORS["decision_tree"]().fit(x, data.target[:60]))
    return path


def test_a_file_that_is_cut_short_or_none_is_one_line(saved, tmp_path):
    whole = saved.read_bytes()
    for content in (whole[:-200], b""):
        saved.write_bytes(content)
        with pytest.raises(UserError, match="cannot be read by this version") as error:
            persist.load(saved)
        assert "\n" not in str(error.value)
        assert str(saved) in str(error.value)
    with pytest.raises(UserError, match="there is no fitted estimator here"):
        persist.load(tmp_path / "nowhere")


class Foreign:
    """Of no package that is trusted."""


def test_a_file_with_other_types_is_refused(tmp_path):
    path = tmp_path / "estimator.skops"
    io.dump({"chain": Foreign(), "estimator": None}, path)
    with pytest.raises(UserError, match=r"holds test_classic_cost\.Foreign, which is no part of an estimator"):
        persist.load(path)
    io.dump({"other": 1}, path)
    with pytest.raises(UserError, match="holds other, not a chain and an estimator"):
        persist.load(path)
    io.dump([1, 2], path)
    with pytest.raises(UserError, match="holds a list"):
        persist.load(path)


def test_a_file_is_replaced_as_a_whole(saved, monkeypatch):
    before = saved.read_bytes()

    def broken(whole, path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(persist.io, "dump", broken)
    with pytest.raises(OSError, match="disk full"):
        persist.save(saved, None, None)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
