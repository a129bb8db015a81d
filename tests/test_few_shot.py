"""Few-shot accuracies are those of scikit-learn's ridge and nearest centroids on seeded draws of each class."""

import re

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestCentroid
from test_linear_probe import CLASSES, ENCODER, SCALE, SETS, as_set

from vision.evaluation.features import Features
from vision.evaluation.few_shot import BIAS, few_shot, mean_class, ridge
from vision.evaluation.stratify import equal
from vision.training.state import TrainState

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(("count", "width"), [(9, 30), (60, 7)], ids=["fewer rows than features", "more"])
def test_ridge_is_that_of_scikit_learn_on_standardised_features_and_a_constant_one(count, width):
    rows, queries = RANDOM.normal(3.0, 2.0, (count, width)), RANDOM.normal(3.0, 2.0, (11, width))
    rows[:, 0] = queries[:, 0] = 5.0  # the same everywhere
    labels = np.arange(count) % 4
    mean, std = rows.mean(axis=0), rows.std(axis=0) + 1e-5
    padded = [np.hstack([(each - mean) / std, np.full((len(each), 1), BIAS)]) for each in (rows, queries)]
    target = np.where(labels[:, None] == np.arange(5), 1.0, -1.0)
    library = Ridge(alpha=64.0, fit_intercept=False, solver="cholesky").fit(padded[0], target)
    expected = library.predict(padded[1])
    found = ridge(rows.astype(np.float32), labels, queries.astype(np.float32), 5, l2=64.0)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert (found[:, 4] < -0.99).all(), "a class without a row"


def test_nearest_class_means_are_those_of_scikit_learn_on_rows_of_length_1():
    rows, queries = RANDOM.normal(1.0, 1.0, (40, 6)), RANDOM.normal(1.0, 1.0, (200, 6))
    labels = np.arange(40) % 3
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (rows, queries)]
    library = NearestCentroid().fit(unit[0], labels)
    scores = mean_class(rows, labels, queries, 5)
    np.testing.assert_array_equal(scores.argmax(axis=1), library.predict(unit[1]))
    distance = np.linalg.norm(unit[1][:, None] - library.centroids_, axis=2)
    np.testing.assert_allclose(scores[:, :3], -(distance**2), rtol=1e-9)
    assert np.isneginf(scores[:, 3:]).all()


def evaluated(**options):
    opened = {}

    def open_split(split):
        return opened.setdefault(split or "train", as_set(*SETS[split or "train"]))

    evaluator = few_shot(open_split("test"), ENCODER, open_split, Features(ENCODER), **options)
    values = dict(evaluator.run(TrainState(0, np.float32(SCALE), {}, ())))
    assert tuple(values) == evaluator.metrics
    return values


def pixels_of(name):
    rows, labels = SETS[name]
    return (np.clip(np.round((rows / SCALE + 0.5) * 255), 0, 255) / 255 - 0.5) * SCALE, labels


@pytest.mark.parametrize("method", ["mean_class", "ridge"])
def test_accuracies_are_means_over_draws_with_their_standard_deviation(method):
    values = evaluated(shots=(1, 5), draws=3, method=method, seed=4, l2=8.0)
    (rows, labels), (queries, truth) = pixels_of("train"), pixels_of("test")
    for count in (1, 5):
        each = []
        for draw in range(3):
            chosen = equal(labels, count, seed=(4, draw))
            assert np.bincount(labels[chosen]).tolist() == [count] * CLASSES
            given = rows[chosen], labels[chosen], queries, CLASSES
            scores = mean_class(*given) if method == "mean_class" else ridge(*given, l2=8.0)
            each.append(np.mean(scores.argmax(axis=1) == truth))
        assert len(set(each)) > 1
        assert values[f"accuracy_{count}"] == pytest.approx(np.mean(each), abs=1e-9)
        assert values[f"accuracy_{count}_std"] == pytest.approx(np.std(each, ddof=1), abs=1e-9)
    assert values["accuracy_5"] > values["accuracy_1"] > 0.5
    assert values == evaluated(shots=(1, 5), draws=3, method=method, seed=4, l2=8.0)


def test_one_draw_has_no_deviation_and_a_class_gives_what_it_has():
    assert set(evaluated(shots=(500,), draws=1)) == {"accuracy_500"}
    assert evaluated(shots=(500,), draws=2)["accuracy_500_std"] == 0.0, "all examples each time"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shots": (0,)}, "shots must be one or several different numbers >= 1"),
        ({"shots": (5, 5)}, "shots must be"),
        ({"draws": 0}, "draws must be >= 1"),
        ({"l2": 0.0}, "l2 must be > 0"),
    ],
)
def test_what_cannot_be_is_one_line(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        evaluated(**options)
