"""A linear probe is SGD as written down, the same alone as beside others, and chosen by what it was not trained on."""

import re
import sys

import jax
import numpy as np
import pytest
from conftest import mesh_of
from jax.sharding import NamedSharding, PartitionSpec
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from vision import models
from vision.data.host import HostPart
from vision.data.order import InOrder
from vision.data.pipeline import make_pipeline
from vision.data.prepare import make_prepare
from vision.data.source import ArraySource
from vision.evaluation.base import EvalSet
from vision.evaluation.features import Features
from vision.evaluation.linear_probe import LEARNING_RATES, linear_probe
from vision.evaluation.outputs import Gathered, named
from vision.evaluation.probe_training import Scores, initial, order_of_batches, score, train
from vision.evaluation.probe_views import Input, View, columns, probed
from vision.evaluation.stratify import equal, folded, proportional
from vision.objectives import OBJECTIVES
from vision.training.state import TrainState

MODULE = sys.modules["vision.evaluation.linear_probe"]  # the package has the function under this name
CLASSES, WIDTH = 3, 4
RANDOM = np.random.default_rng(0)
CENTRES = RANDOM.normal(size=(CLASSES, 3 * WIDTH)) * 1.2
VIT = ("block00/class_token", "block01/class_token", "patch_tokens", "pre_logits")
RATES = (0.01, 0.1, 1.0)


def examples(count, seed):
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count).astype(np.int32)
    return (CENTRES[labels] + random.normal(size=(count, 3 * WIDTH))).astype(np.float32), labels


def by_hand(x, y, order, rate, weight):
    """SGD with momentum in float64, the formula written out."""
    weight, bias = weight.astype(np.float64), np.zeros(CLASSES)
    velocity = np.zeros_like(weight), np.zeros_like(bias)
    for t, rows in enumerate(order):
        error = (softmax(x[rows] @ weight + bias, axis=1) - np.eye(CLASSES)[y[rows]]) / len(rows)
        velocity = 0.9 * velocity[0] + x[rows].T @ error, 0.9 * velocity[1] + error.sum(axis=0)
        now = rate * (1 + np.cos(np.pi * t / len(order))) / 2
        weight, bias = weight - now * velocity[0], bias - now * velocity[1]
    return weight, bias


VIEWS = (View(4, 8, 2), View(0, 12, 5))


def trained(rates, views):
    x, y = examples(60, 1)
    order = order_of_batches(60, 16, 25, seed=3)
    key = jax.random.key(7)
    params = train(x, y, order, np.asarray(rates, np.float32), key, views=views, num_classes=CLASSES)
    return params, (x, y, order, key)


def test_each_of_all_at_once_is_momentum_sgd_with_a_cosine_as_written_down():
    params, (x, y, order, key) = trained(RATES, VIEWS)
    for view, one in zip(VIEWS, params, strict=True):
        start = np.asarray(initial(view, rates=1, num_classes=CLASSES, key=key).weight)
        for number, rate in enumerate(RATES):
            weight, bias = by_hand(x[:, view.first : view.end].astype(np.float64), y, order, rate, start)
            own = slice(number * CLASSES, (number + 1) * CLASSES)
            np.testing.assert_allclose(one.weight[:, own], weight, rtol=2e-4, atol=2e-5)
            np.testing.assert_allclose(one.bias[own], bias, rtol=2e-4, atol=2e-5)


def test_one_alone_is_the_one_among_others():
    params, _ = trained(RATES, VIEWS)
    alone, _ = trained(RATES[1:2], VIEWS[1:])
    own = slice(CLASSES, 2 * CLASSES)
    np.testing.assert_allclose(alone[0].weight, params[1].weight[:, own], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(alone[0].bias, params[1].bias[own], rtol=1e-5, atol=1e-6)


def test_initial_weights_are_normal_with_deviation_0_01_and_differ_by_view():
    key = jax.random.key(0)
    one, other = (initial(View(0, 500, n), rates=2, num_classes=8, key=key) for n in (2, 3))
    weight = np.asarray(one.weight)
    assert weight[:, :8].std() == pytest.approx(0.01, rel=0.05)
    np.testing.assert_array_equal(weight[:, :8], weight[:, 8:])
    assert not np.any(one.bias)
    assert np.abs(weight - other.weight).max() > 0.01


@pytest.mark.slow
def test_enough_steps_find_what_scikit_learn_finds():
    (x, y), (held_out, truth) = ((rows[:, :3], labels) for rows, labels in (examples(400, 1), examples(2000, 2)))
    order = order_of_batches(400, 400, 1500, seed=0)
    view = (View(0, 3, 0),)
    params = train(x, y, order, np.float32([1.0]), jax.random.key(0), views=view, num_classes=CLASSES)
    library = LogisticRegression(C=np.inf, tol=1e-8, max_iter=5000).fit(x, y)
    scores = score(params, held_out, truth, view, num_classes=CLASSES)
    assert 0.5 < library.score(held_out, truth) < 0.95, "classes overlap, so that the best weights are finite"
    assert scores.accuracy[0, 0] == pytest.approx(library.score(held_out, truth), abs=0.001)
    expected = -np.mean(library.predict_log_proba(held_out)[np.arange(2000), truth])
    assert scores.loss[0, 0] == pytest.approx(expected, rel=1e-4)


def test_scores_are_of_every_row_and_classifier():
    params, _ = trained(RATES, VIEWS)
    x, y = examples(37, 4)
    scores = score(params, x, y, VIEWS, num_classes=CLASSES)
    assert scores.accuracy.shape == scores.loss.shape == (2, 3)
    for v, view in enumerate(VIEWS):
        for r in range(3):
            own = slice(r * CLASSES, (r + 1) * CLASSES)
            logits = x[:, view.first : view.end] @ np.asarray(params[v].weight)[:, own] + np.asarray(
                params[v].bias[own]
            )
            assert scores.accuracy[v, r] == pytest.approx(np.mean(logits.argmax(axis=1) == y))
            assert scores.loss[v, r] == pytest.approx(-log_softmax(logits, axis=1)[np.arange(37), y].mean(), rel=1e-5)


def test_batches_are_permutations_one_after_another():
    order = order_of_batches(10, 4, 10, seed=1)
    np.testing.assert_array_equal(np.sort(order.reshape(4, 10), axis=1), np.tile(np.arange(10), (4, 1)))
    assert not np.array_equal(order[0], order_of_batches(10, 4, 10, seed=2)[0])
    np.testing.assert_array_equal(order, order_of_batches(10, 4, 10, seed=1))


def test_what_is_probed_is_the_last_class_tokens_and_the_mean_patch():
    names, inputs = probed(VIT, blocks=None, average_pool=None, output=None)
    assert names == ("block01/class_token", "patch_tokens:mean"), "there are no four blocks"
    assert inputs == (Input(1, False), Input(1, True))
    names, inputs = probed(VIT, blocks=(2, 1), average_pool=(True, False), output=None)
    assert names == ("block00/class_token", "block01/class_token", "patch_tokens:mean")
    each = {name: np.full((5, WIDTH), number, np.float32) for number, name in enumerate(names)}
    whole, views = columns(Gathered(each, None), names, inputs)
    seen = [set(whole[0, view.first : view.end]) for view in views]
    assert seen == [{0, 1, 2}, {0, 1}, {1, 2}, {1}]
    assert len({view.number for view in views}) == 4
    twelve = [f"block{number:02}/class_token" for number in range(12)]
    assert probed(twelve, blocks=(4,), average_pool=(False,), output=None)[0] == tuple(twelve[-4:])
    assert probed(VIT, blocks=None, average_pool=None, output="stem:mean") == (("stem:mean",), (Input(0, False),))
    assert probed(("pre_logits",), blocks=None, average_pool=None, output=None)[0] == ("pre_logits",)


def test_parts_keep_the_classes_shares():
    labels = RANDOM.permutation(np.repeat([0, 1, 2], [60, 30, 10]))
    part = proportional(labels, 20, seed=0)
    assert np.bincount(labels[part]).tolist() == [12, 6, 2]
    assert len(set(part)) == 20
    assert len(proportional(labels, 17, seed=0)) == 17
    assert np.bincount(labels[proportional(labels, 3, seed=0, at_least=1)]).tolist() == [2, 1, 1]
    assert np.bincount(labels[equal(labels, 20, seed=0)]).tolist() == [20, 20, 10]
    assert set(equal(labels, 2, seed=(0, 1))) <= set(equal(labels, 5, seed=(0, 1))), "fewer are a part of more"
    assert not np.array_equal(part, proportional(labels, 20, seed=1))
    np.testing.assert_array_equal(part, proportional(labels, 20, seed=0))


SETS = {"train": examples(200, 1), "test": examples(90, 2), "val": examples(80, 3)}


def encode(params, extra, batch):
    """12 values are two class tokens and one patch."""
    rows = (batch["image"].reshape(-1, 12) - 0.5) * params
    tokens = rows[:, :4], rows[:, 4:8], rows[:, None, 8:]
    return dict(zip(VIT, (*tokens, rows), strict=True)) | {"output": rows}


ENCODER = OBJECTIVES["classify"](models.build("linear", num_classes=CLASSES))._replace(encode=encode)
SCALE = 20.0


def as_set(rows, labels):
    pixels = np.clip(np.round((rows / SCALE + 0.5) * 255), 0, 255).astype(np.uint8).reshape(-1, 3, 4, 1)
    sharding = NamedSharding(mesh_of(1), PartitionSpec(("data", "fsdp")))
    order = InOrder(len(labels), 100)
    source = ArraySource({"image": pixels, "label": labels}, CLASSES)
    pipeline = make_pipeline(source, order, HostPart((3, 4), 1), sharding=sharding, residency="auto")
    masks = tuple(order.mask(step) for step in range(order.num_batches))
    return EvalSet(pipeline, make_prepare(mean=None, std=None, channels=1), masks)


def probe(sets=SETS, outputs=VIT, **options):
    opened = {}

    def open_split(split):
        return opened.setdefault(split or "train", as_set(*sets[split or "train"]))

    features = Features(ENCODER, outputs=dict.fromkeys(outputs))
    options = {"learning_rates": RATES, "steps": 30, "blocks": (1, 2)} | options
    evaluator = linear_probe(open_split("test"), ENCODER, open_split, features, **options)
    values = dict(evaluator.run(TrainState(0, np.float32(SCALE), {}, ())))
    assert tuple(values) == evaluator.metrics
    return values


def test_it_is_the_best_of_its_grid_on_the_validation_part_and_seeded(monkeypatch):
    seen = []

    def told(*arguments, **options):
        seen.append(score(*arguments, **options))
        return seen[-1]

    monkeypatch.setattr(MODULE, "score", told)
    values = probe(average_pool=(False,))
    validation, test = seen
    assert len(np.unique(validation.accuracy)) > 2, "there was something to choose"
    assert values["validation_accuracy"] == validation.accuracy.max() > 0.7
    which = (1.0, 2.0).index(values["blocks"]), RATES.index(values["learning_rate"])
    assert validation.accuracy[which] == validation.accuracy.max()
    assert values["accuracy"] == test.accuracy[which] > 0.7
    assert probe(average_pool=(False,)) == values
    assert probe(average_pool=(False,), seed=1) != values


def test_the_choice_is_by_validation_and_not_by_test():
    """The class token of the first block says the class in training and validation, that of the second in the test."""
    random = np.random.default_rng(5)

    def planted(count, informative):
        rows, labels = random.normal(size=(count, 12)), random.integers(0, CLASSES, count).astype(np.int32)
        rows[:, informative : informative + CLASSES] += 6 * np.eye(CLASSES)[labels]
        return rows.astype(np.float32), labels

    sets = {"train": planted(300, 4), "test": planted(300, 8)}
    sets["train"][0][:, 8 : 8 + CLASSES] += 3 * np.eye(CLASSES)[sets["train"][1]]  # told in training too, but less
    sets["val"] = planted(300, 4)
    options = {"blocks": (1,), "learning_rates": (0.1,)}
    by_validation = probe(sets, validation_split="val", **options)
    better = probe(sets, validation_split="test", **options)
    assert (by_validation["average_pool"], better["average_pool"]) == (0.0, 1.0)
    assert by_validation["accuracy"] < better["accuracy"] - 0.2
    assert by_validation["validation_accuracy"] > 0.9


def test_accuracy_chooses_then_the_loss_and_what_is_not_finite_is_last(monkeypatch):
    """Scores as planted: the least loss is elsewhere, and of the three most accurate one diverged."""
    planted = Scores(
        np.array([[0.5, 0.9, 0.9], [0.9, 0.2, 0.8]]),
        np.array([[0.1, 0.7, 0.6], [np.nan, 0.2, 0.3]]),
    )
    test = Scores(np.array([[0.0, 0.1, 0.2], [0.3, 0.4, 0.99]]), planted.loss)
    given = iter((planted, test))
    monkeypatch.setattr(MODULE, "train", lambda *arguments, **options: [])
    monkeypatch.setattr(MODULE, "score", lambda *arguments, **options: next(given))
    values = probe(blocks=(1,))
    which = {"learning_rate": RATES[2], "blocks": 1.0, "average_pool": 0.0}
    assert values == {"accuracy": 0.2, "validation_accuracy": 0.9, **which}


@pytest.mark.parametrize(
    ("options", "labelled", "kept"),
    [
        ({}, 200, 20),
        ({"label_fraction": 0.1}, 20, 2),
        ({"examples_per_class": 5}, 15, 2),
        ({"label_fraction": 0.1, "validation_fraction": 0.25}, 20, 5),
        ({"label_fraction": 0.1, "validation_split": "val"}, 20, 0),
    ],
)
def test_it_sees_no_other_labels_than_it_may(monkeypatch, options, labelled, kept):
    seen = {}

    def no_train(features, labels, order, rates, *rest, **options):
        seen["train"], seen["order"], seen["rates"] = np.asarray(features), order, rates
        return []

    def no_score(params, features, labels, views, **options):
        seen.setdefault("validation", features)
        return Scores(np.zeros((len(views), 3)), np.zeros((len(views), 3)))

    monkeypatch.setattr(MODULE, "train", no_train)
    monkeypatch.setattr(MODULE, "score", no_score)
    probe(steps=7, train_batch_size=64, **options)
    batch = min(64, labelled - kept)
    assert seen["order"].shape == (7, batch)
    np.testing.assert_allclose(seen["rates"], np.array(RATES) * batch / 256, rtol=1e-6)
    assert len(seen["train"]) == labelled - kept
    assert len(seen["validation"]) == (kept or 80)
    both = np.concatenate([seen["train"], seen["validation"]])
    assert len(np.unique(both, axis=0)) == len(both), "what it is chosen by it was not trained on"


def test_folds_differ_by_one_in_size_and_in_each_class():
    labels = RANDOM.permutation(np.repeat([0, 1, 2], [60, 33, 4]))
    fold_of = folded(labels, 7, seed=0)
    for part in (labels >= 0, labels == 0, labels == 1, labels == 2):
        assert np.ptp(np.bincount(fold_of[part], minlength=7)) <= 1
    assert not np.array_equal(fold_of, folded(labels, 7, seed=1))
    np.testing.assert_array_equal(fold_of, folded(labels, 7, seed=0))


def test_a_tenth_of_few_labels_chooses_badly_and_folds_do_not():
    """The three held out of 30 happen to be labelled wrong, and so the classifier that learned nothing looks best."""
    rows, labels = examples(30, 7)
    labels[proportional(labels, 3, seed=(0, 1))] += 1
    sets = SETS | {"train": (rows, labels % CLASSES)}
    options = {"blocks": (1,), "average_pool": (True,), "learning_rates": (1e-6, 0.5)}
    by_a_tenth, by_folds = probe(sets, **options), probe(sets, folds=5, **options)
    assert (by_a_tenth["learning_rate"], by_folds["learning_rate"]) == (1e-6, 0.5)
    assert by_folds["accuracy"] > by_a_tenth["accuracy"] + 0.2
    assert 0.5 < by_folds["validation_accuracy"] < 1.0, "the wrong labels count too"


def test_every_fold_is_scored_by_what_did_not_see_it_and_the_last_training_sees_all(monkeypatch):
    trained_on, scored = [], []

    def no_train(features, labels, order, rates, *rest, **options):
        assert order.shape == (30, 39), "one batch size for all, so that a learning rate means the same"
        np.testing.assert_allclose(rates, np.array(RATES) * 39 / 256, rtol=1e-6)
        trained_on.append(({tuple(row) for row in np.asarray(features)}, []))
        return trained_on[-1][1]

    def planted(params, features, labels, views, **options):
        seen = next(rows for rows, made in trained_on if made is params)
        scored.append((seen, {tuple(row) for row in features}))
        accuracy = [[0.9, 0.9, 0.6]] if len(features) == 14 else [[0.4, 0.4, 0.5]]
        return Scores(np.array(accuracy), np.array([[0.4, 0.3, 0.0]]))

    monkeypatch.setattr(MODULE, "train", no_train)
    monkeypatch.setattr(MODULE, "score", planted)
    sets = SETS | {"train": examples(53, 6)}
    values = probe(sets, folds=4, blocks=(1,), average_pool=(False,))
    *of_folds, (last, _) = scored
    held = [rows for _, rows in of_folds]
    assert sorted(map(len, held)) == [13, 13, 13, 14]
    assert len(set.union(*held)) == 53, "each is held out once"
    for seen, rows in of_folds:
        assert len(seen | rows) == 53
        assert not seen & rows
    assert len(last) == 53
    # Over the examples 28.2 of 53 against 27.9; over the folds all would be equal, and the third has the least loss.
    assert values["validation_accuracy"] == pytest.approx((14 * 0.9 + 39 * 0.4) / 53)
    assert values["learning_rate"] == RATES[1], "of equal ones that with the lower loss"


def test_one_classifier_needs_no_choice():
    values = probe(output="pre_logits", blocks=None, learning_rates=(0.1,), validation_fraction=0.0)
    assert tuple(values) == ("accuracy", "learning_rate", "blocks", "average_pool")
    assert (values["blocks"], values["average_pool"]) == (0.0, 0.0)
    assert values["accuracy"] > 0.8


def test_a_vit_has_what_is_probed():
    model = models.build("vit/Ti16", num_classes=3, image_shape=(8, 8, 1), patch_size=4, depth=5, width=24, num_heads=2)
    objective, image = OBJECTIVES["classify"](model), jax.ShapeDtypeStruct((1, 8, 8, 1), np.float32)
    params, extra = jax.eval_shape(lambda key: objective.init(key, {"image": image}), jax.random.key(0))
    outputs = jax.eval_shape(objective.encode, params, extra, {"image": image})
    names, inputs = probed(outputs, blocks=None, average_pool=None, output=None)
    assert names == (*(f"block{number:02}/class_token" for number in (1, 2, 3, 4)), "patch_tokens:mean")
    assert {tuple(one) for one in inputs} == {(1, False), (1, True), (4, False), (4, True)}
    shapes = jax.eval_shape(lambda outputs: {name: named(outputs, name) for name in names}, outputs)
    assert {shape.shape for shape in shapes.values()} == {(1, 24)}


def test_the_published_grid():
    assert len(LEARNING_RATES) == 13
    assert (min(LEARNING_RATES), max(LEARNING_RATES)) == (1e-5, 0.1)
    np.testing.assert_allclose(np.log10(LEARNING_RATES[::3]), [-5, -4, -3, -2, -1], atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": (3,)}, "blocks must be in [1, 2]"),
        ({"blocks": ()}, "blocks must be one or several"),
        ({"average_pool": (True, True)}, "average_pool must be one or several"),
        ({"output": "stem"}, "no blocks and no average_pool here: output 'stem' is probed alone"),
        ({"outputs": ("pre_logits",)}, "the model has no class tokens"),
        ({"learning_rates": (0.1, 0.1)}, "learning_rates must be different"),
        ({"steps": 0}, "steps and train_batch_size"),
        ({"label_fraction": 1.5}, "label_fraction must be in (0, 1]"),
        ({"examples_per_class": 0}, "examples_per_class must be >= 1"),
        ({"label_fraction": 0.5, "examples_per_class": 3}, "exclude each other"),
        ({"validation_fraction": 1.0}, "validation_fraction must be in [0, 1)"),
        ({"folds": 1}, "folds must be in [2, 200]"),
        ({"folds": 4, "examples_per_class": 1}, "folds must be in [2, 3], the number of labelled examples"),
        ({"folds": 5, "validation_fraction": 0.1}, "folds and validation_fraction exclude each other"),
        ({"folds": 5, "validation_split": "val"}, "folds and validation_split exclude each other"),
        ({"validation_fraction": 0.0}, "leaves none to choose one of 12 classifiers by"),
        ({"examples_per_class": 1}, "validation_fraction 0.1 of 3 examples leaves none"),
        ({"sets": {"train": SETS["train"], "test": (SETS["test"][0], np.eye(3, dtype=np.float32)[SETS["test"][1]])}},
         "linear_probe needs one label for each image"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(options, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        probe(**options)
    assert "\n" not in str(error.value)
