"""Rankings of images are judged as scikit-learn and the definitions say; kNN votes as its published protocol says."""

import re
import sys

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from test_few_shot import pixels_of
from test_linear_probe import CLASSES, ENCODER, SCALE, SETS, as_set

from vision.evaluation.features import Features
from vision.evaluation.knn import knn
from vision.evaluation.retrieval import average_precision, retrieval
from vision.training.state import TrainState

RANDOM = np.random.default_rng(0)


def cosines(queries, bank):
    return queries @ bank.T / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(bank, axis=1)


@pytest.mark.parametrize("block_bytes", [1, 2**25], ids=["one at a time", "all at once"])
@pytest.mark.parametrize("itself", [False, True])
def test_average_precision_is_that_of_scikit_learn(monkeypatch, block_bytes, itself):
    monkeypatch.setattr(sys.modules["vision.evaluation.retrieval"], "_BLOCK_BYTES", block_bytes)
    bank, labels = RANDOM.normal(size=(50, 6)).astype(np.float32), RANDOM.integers(0, 4, 50)
    labels[7] = 9  # alone in its class
    queries, asked = (bank, labels) if itself else (RANDOM.normal(size=(20, 6)).astype(np.float32), labels[:20])
    found = average_precision(queries, asked, bank, labels, itself=itself)
    similar = cosines(queries.astype(np.float64), bank.astype(np.float64))
    for query in range(len(queries)):
        others = np.arange(len(bank)) != (query if itself else -1)
        relevant = (labels == asked[query])[others]
        expected = average_precision_score(relevant, similar[query][others]) if relevant.any() else np.nan
        np.testing.assert_allclose(found[query], expected, rtol=1e-6)
    assert np.isnan(found[7]) == itself


def test_equally_near_images_count_as_before_one_another():
    """Of four images at the same place two are relevant: the precision at both is 1/2."""
    bank = np.array([[1, 0], [1, 0], [1, 0], [1, 0], [0, 1]], np.float32)
    labels = np.array([0, 0, 1, 1, 0])
    found = average_precision(bank[:1], labels[:1], bank, labels, itself=False)
    expected = average_precision_score(labels == 0, [1, 1, 1, 1, 0])
    assert found[0] == pytest.approx((0.5 + 0.5 + 3 / 5) / 3) == pytest.approx(expected)


def run(evaluator):
    values = dict(evaluator.run(TrainState(0, np.float32(SCALE), {}, ())))
    assert tuple(values) == evaluator.metrics
    return values


def open_split(split):
    return as_set(*SETS[split or "train"])


@pytest.mark.parametrize("bank_split", [None, "train"])
def test_it_yields_what_its_definitions_say(bank_split):
    values = run(retrieval(open_split("test"), ENCODER, open_split, k=(1, 7), bank_split=bank_split))
    (queries, asked), (bank, labels) = pixels_of("test"), pixels_of(bank_split or "test")
    similar = cosines(queries, bank)
    if bank_split is None:
        np.fill_diagonal(similar, -np.inf)
    relevant = (asked[:, None] == labels) & np.isfinite(similar)
    ranked = np.take_along_axis(relevant, np.argsort(-similar, axis=1), axis=1)
    for k in (1, 7):
        near = ranked[:, :k]
        assert values[f"precision_at_{k}"] == pytest.approx(near.mean())
        assert values[f"recall_at_{k}"] == pytest.approx(np.mean(near.sum(axis=1) / relevant.sum(axis=1)))
        assert values[f"hit_at_{k}"] == pytest.approx(near.any(axis=1).mean())
    places = [np.flatnonzero(row) + 1 for row in ranked]
    each = [np.mean(np.arange(1, len(place) + 1) / place) for place in places]
    assert values["mean_average_precision"] == pytest.approx(np.mean(each), rel=1e-6)
    assert values["queries"] == 90
    assert 0.4 < values["mean_average_precision"] < 0.99


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": (0,)}, "k must be one or several different numbers >= 1"),
        ({"k": (3, 3)}, "k must be one or several"),
        ({"k": (90,)}, "k must be in [1, 89], the size of the bank"),
        ({"bank_split": "train", "open_split": None}, "there is no other split here"),
    ],
)
def test_what_cannot_be_is_one_line(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        retrieval(open_split("test"), ENCODER, options.pop("open_split", open_split), **options)


def test_knn_is_the_protocol_of_dino():
    """Written anew after the paper: L2-normalised features, the k largest cosines, exp(cosine / 0.07) as votes."""
    ks = (10, 20, 100, 200)
    values = run(knn(open_split("test"), ENCODER, open_split, Features(ENCODER), k=ks))
    (queries, asked), (bank, labels) = pixels_of("test"), pixels_of("train")
    similar = cosines(queries, bank)
    expected = {}
    for k in ks:
        right = 0
        for row, truth in zip(similar, asked, strict=True):
            votes = dict.fromkeys(range(CLASSES), 0.0)
            for neighbour in sorted(range(len(bank)), key=lambda each: -row[each])[:k]:
                votes[labels[neighbour]] += np.exp(row[neighbour] / 0.07)
            right += max(votes, key=votes.get) == truth
        expected[f"accuracy_k{k}"] = right / len(asked)
    assert values == pytest.approx(expected)
    assert len(set(values.values())) > 1
