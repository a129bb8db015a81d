"""Evaluation counts every example once, whatever the batch size, and agrees with scikit-learn."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mesh_of
from sklearn import metrics as sklearn_metrics

from vision import models
from vision.data.host import HostPart
from vision.data.order import InOrder
from vision.data.pipeline import make_pipeline
from vision.data.prepare import make_prepare
from vision.data.source import ArraySource
from vision.errors import UserError
from vision.evaluation import EVALUATORS
from vision.evaluation.base import EvalSet
from vision.evaluation.classification import batch_statistics, metrics
from vision.evaluation.features import Features
from vision.evaluation.views import with_views
from vision.objectives import OBJECTIVES
from vision.objectives.ema import with_ema
from vision.training.state import TrainState

CLASSES = 7
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 255, (45, 4, 4, 1)).astype(np.uint8)
LABELS = RANDOM.integers(0, CLASSES, 45).astype(np.int32)
MODEL = models.build("linear", num_classes=CLASSES, zero_init=False)


def state_of(objective):
    spec = {"image": jax.ShapeDtypeStruct((1, 4, 4, 1), jnp.float32)}
    params, extra = objective.init(jax.random.key(0), spec)
    return TrainState(jnp.int32(0), params, extra, ())


def run(name, objective, *, batch_size=16, devices=1, **options):
    label = np.eye(CLASSES, dtype=np.float32)[LABELS] if name == "multilabel" else LABELS
    source = ArraySource({"image": IMAGES, "label": label}, CLASSES)
    sharding = jax.sharding.NamedSharding(mesh_of(devices), jax.sharding.PartitionSpec(("data", "fsdp")))
    order = InOrder(len(source), batch_size)
    pipeline = make_pipeline(source, order, HostPart((4, 4), 1), sharding=sharding, residency="auto")
    masks = tuple(order.mask(step) for step in range(order.num_batches))
    prepare = make_prepare(mean=None, std=None, augmentation=None, channels=1)
    eval_set = EvalSet(pipeline, prepare, masks)
    required = {"open_split": lambda split: eval_set, "features": Features(objective)}
    asked = inspect.signature(EVALUATORS[name]).parameters
    options |= {
        key: value for key, value in required.items() if key in asked and asked[key].default is asked[key].empty
    }
    evaluator = EVALUATORS[name](eval_set, objective, **options)
    return dict(evaluator.run(state_of(objective)))


def logits_of(objective):
    state = state_of(objective)
    return np.asarray(
        objective.encode(state.params, state.extra, {"image": jnp.asarray(IMAGES / 255.0, jnp.float32)})["output"]
    )


@pytest.mark.parametrize(("batch_size", "devices"), [(16, 1), (45, 1), (64, 1), (16, 8)])
def test_metrics_agree_with_scikit_learn_in_any_batch_size(batch_size, devices):
    objective = OBJECTIVES["classify"](MODEL)
    got = run("classification", objective, batch_size=batch_size, devices=devices)
    logits = logits_of(objective).astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.arange(CLASSES)
    assert got["accuracy"] == sklearn_metrics.accuracy_score(LABELS, logits.argmax(1))
    assert got["top5_accuracy"] == sklearn_metrics.top_k_accuracy_score(LABELS, probabilities, k=5, labels=labels)
    assert np.isclose(got["loss"], sklearn_metrics.log_loss(LABELS, probabilities, labels=labels), rtol=1e-5)
    np.testing.assert_array_equal(
        got["confusion"], sklearn_metrics.confusion_matrix(LABELS, logits.argmax(1), labels=labels)
    )


def test_calibration_error_of_a_hand_made_case():
    """Two bins: confidence 0.9 right 1 of 2, confidence 0.6 right 2 of 2; (2 |0.5 - 0.9| + 2 |1 - 0.6|) / 4 = 0.4."""
    probabilities = jnp.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    label = jnp.array([0, 1, 0, 0])
    sums = batch_statistics(jnp.log(probabilities), label, jnp.ones(4), loss="softmax", calibration_bins=15)
    assert np.isclose(dict(metrics(jax.device_get(sums)))["calibration_error"], 0.4, rtol=1e-5)


def test_padding_counts_for_nothing():
    logits, label = jax.random.normal(jax.random.key(0), (6, 3)), jnp.array([0, 1, 2, 0, 1, 2])
    mask = jnp.array([1.0, 1, 1, 1, 0, 0])
    options = {"loss": "softmax", "calibration_bins": 10}
    padded = batch_statistics(logits, label, mask, **options)
    plain = batch_statistics(logits[:4], label[:4], mask[:4], **options)
    for name, value in plain.items():
        np.testing.assert_allclose(padded[name], value, rtol=1e-6)


def test_top5_is_left_out_below_five_classes():
    sums = batch_statistics(jnp.eye(3), jnp.arange(3), jnp.ones(3), loss="softmax", calibration_bins=5)
    assert "top5_accuracy" not in dict(metrics(jax.device_get(sums)))


def test_sigmoid_loss_is_the_sum_over_classes():
    objective = OBJECTIVES["classify"](MODEL, loss="sigmoid")
    got = run("classification", objective, loss="sigmoid")
    logits, onehot = logits_of(objective).astype(np.float64), np.eye(CLASSES)[LABELS]
    expected = np.sum(np.logaddexp(0, logits) - onehot * logits, axis=1).mean()
    assert np.isclose(got["loss"], expected, rtol=1e-5)


def test_regression_error_agrees_with_numpy():
    objective = OBJECTIVES["regress"](MODEL)
    got = run("regression", objective)
    output, onehot = logits_of(objective), np.eye(CLASSES)[LABELS]
    assert np.isclose(got["squared_error"], np.sum((output - onehot) ** 2, axis=1).mean(), rtol=1e-5)
    assert got["accuracy"] == np.mean(output.argmax(1) == LABELS)


def test_evaluators_use_the_average_of_the_parameters_where_there_is_one():
    objective = with_ema(OBJECTIVES["classify"](MODEL), decay=0.5)
    state = state_of(objective)
    moved = state.replace(params=jax.tree.map(jnp.zeros_like, state.params))
    batch = {"image": jnp.asarray(IMAGES / 255.0, jnp.float32)}
    one, other = (objective.encode(s.params, s.extra, batch)["output"] for s in (state, moved))
    np.testing.assert_array_equal(one, other)


OF_WORDS = {"caption_retrieval", "perplexity", "zero_shot"}  # their numbers: test_zero_shot.py and test_language.py


@pytest.mark.parametrize("name", sorted(OF_WORDS))
def test_evaluators_of_words_refuse_a_model_without(name):
    assert EVALUATORS[name].__doc__
    with pytest.raises((UserError, ValueError), match=rf"^({name} needs|the model has no output) "):
        run(name, OBJECTIVES["classify"](MODEL))


@pytest.mark.parametrize("name", sorted(set(EVALUATORS) - OF_WORDS))
def test_contract_documented_and_yields_numbers(name):
    objective = OBJECTIVES["classify"](MODEL)
    assert EVALUATORS[name].__doc__
    values = run(name, objective)
    assert values
    for value in values.values():
        assert isinstance(value, float | np.ndarray)
        assert np.isfinite(value).all()


def test_views_are_averaged_with_their_weights():
    """Half of the image and its mirror image, a quarter of those of each of two shifts (Jordan 2024, section 3.6)."""
    objective = OBJECTIVES["classify"](MODEL)
    state = state_of(objective)

    def outputs(pixels):
        return objective.encode(state.params, state.extra, {"image": jnp.asarray(pixels / 255.0, jnp.float32)})[
            "output"
        ]

    padded = np.pad(IMAGES, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
    views = [(0.5, IMAGES), (0.25, padded[:, :4, :4]), (0.25, padded[:, 2:, 2:])]
    expected = sum(weight * 0.5 * (outputs(each) + outputs(each[:, :, ::-1])) for weight, each in views)
    images = jnp.asarray(IMAGES / 255.0, jnp.float32)
    averaged = with_views(objective, "mirror_and_shift").encode(state.params, state.extra, {"image": images})["output"]
    np.testing.assert_allclose(averaged, expected, rtol=1e-5, atol=1e-5)
    got = run("classification", objective, views="mirror_and_shift")
    assert got["accuracy"] == pytest.approx(np.mean(np.argmax(expected, axis=1) == LABELS))
    mirrored = with_views(objective, "mirror").encode(state.params, state.extra, {"image": images})["output"]
    np.testing.assert_allclose(mirrored, 0.5 * (outputs(IMAGES) + outputs(IMAGES[:, :, ::-1])), rtol=1e-5, atol=1e-5)
    assert with_views(objective, "none") is objective
