"""Images with several classes at once: metrics are scikit-learn's, and training and balance treat them as such."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mesh_of
from sklearn.metrics import f1_score, log_loss

from vision import models
from vision.data.host import HostPart
from vision.data.order import InOrder
from vision.data.pipeline import make_pipeline
from vision.data.prepare import make_prepare
from vision.data.source import ArraySource
from vision.errors import ConfigError
from vision.evaluation import EVALUATORS
from vision.evaluation.base import EvalSet
from vision.objectives import OBJECTIVES
from vision.training.assemble import assemble
from vision.training.loop import train
from vision.training.schema import resolve
from vision.training.sharding import batch_sharding

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (37, 4, 4, 1), dtype=np.uint8)
LABELS = (RNG.random((37, 5)) < 0.4).astype(np.float32)


def eval_set(labels=LABELS, classes=5):
    order = InOrder(37, 16)
    source = ArraySource({"image": IMAGES, "label": labels}, classes)
    pipeline = make_pipeline(source, order, HostPart((4, 4), 1), sharding=batch_sharding(mesh_of(2)), residency="auto")
    masks = tuple(order.mask(step) for step in range(order.num_batches))
    return EvalSet(pipeline, make_prepare(mean=None, std=None, channels=1), masks)


class State:
    """What an evaluator reads."""

    def __init__(self, params, extra):
        self.params, self.extra = params, extra


@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_metrics_are_scikit_learns(threshold):
    objective = OBJECTIVES["classify"](models.build("linear", num_classes=5, zero_init=False), loss="sigmoid")
    params, extra = objective.init(jax.random.key(0), {"image": jax.ShapeDtypeStruct((1, 4, 4, 1), np.float32)})
    params = jax.tree.map(lambda p: p * 3, params)
    state = State(params, extra)
    evaluator = EVALUATORS["multilabel"](eval_set(), objective, threshold=threshold)
    values = dict(evaluator.run(state))
    assert tuple(values) == evaluator.metrics
    logits = np.asarray(objective.encode(params, extra, {"image": jnp.asarray(IMAGES / np.float32(255))})["output"])
    probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
    predicted = probability > threshold
    assert 0.1 < predicted.mean() < 0.9
    assert values["f1_micro"] == pytest.approx(f1_score(LABELS, predicted, average="micro"))
    assert values["f1_macro"] == pytest.approx(f1_score(LABELS, predicted, average="macro", zero_division=0))
    assert values["exact_match"] == pytest.approx((predicted == LABELS).all(1).mean())
    assert values["top1_hit"] == pytest.approx(LABELS[np.arange(37), logits.argmax(1)].mean())
    assert values["loss"] == pytest.approx(5 * log_loss(LABELS.ravel(), probability.ravel()), rel=1e-5), (
        "the mean over images of the sum over classes"
    )


def test_each_evaluator_refuses_the_other_kind_of_labels():
    objective = OBJECTIVES["classify"](models.build("linear", num_classes=5))
    with pytest.raises(ValueError, match="use multilabel"):
        EVALUATORS["classification"](eval_set(), objective)
    with pytest.raises(ValueError, match="use classification"):
        EVALUATORS["multilabel"](eval_set(np.zeros(37, np.int32), 5), objective)


def config(**data):
    return {
        "batch_size": 16,
        "duration": {"steps": 4},
        "data": {"name": "arrays", **data},
        "model": {"name": "linear"},
        "objective": {"name": "classify", "loss": "sigmoid"},
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "evals": {"test": {"name": "multilabel", "batch_size": 16, "threshold": 0.3}},
        "logging": {"tensorboard": False},
    }


def test_arrays_with_several_labels_train_by_one_call(tmp_path):
    arrays = {"image": IMAGES[..., 0], "label": LABELS}
    result = train(config(), tmp_path, sources={"train": arrays, "test": arrays})
    assert set(result["test"]) == {"f1_micro", "f1_macro", "exact_match", "top1_hit", "loss"}
    assert 0.3 < result["test"]["f1_micro"] <= 1, "with a threshold below the share of ones nearly all are predicted"


def test_balance_needs_one_label_each():
    given = {"train": {"image": IMAGES, "label": LABELS}}
    with pytest.raises(ConfigError, match="one label for each example"):
        assemble(resolve(config(balance="class")), given=given)


@pytest.mark.parametrize("name", ["classify", "regress"])
def test_mixing_trains_on_mixed_labels(tmp_path, name):
    whole = {**config(mix={"name": "mixup_or_cutmix"}), "objective": {"name": name}}
    evaluator = "classification" if name == "classify" else "regression"
    whole["evals"] = {"test": {"name": evaluator, "batch_size": 16}}
    arrays = {"image": IMAGES, "label": np.arange(37) % 5}
    result = train(whole, tmp_path, sources={"train": arrays, "test": arrays})
    assert np.isfinite(list(result["test"].values())).all()


def test_what_an_objective_needs_and_the_data_lack_is_named():
    with pytest.raises(ConfigError, match=r"config.objective: classify needs 'image' of each example.*brings.*crop"):
        assemble(resolve(config(views={"crop": ((),)})), given={"train": {"image": IMAGES, "label": LABELS}})
    with pytest.raises(ConfigError, match=r"config.data.*label"):
        assemble(resolve(config(mix={"name": "mixup"})), given={"train": {"image": IMAGES, "target": LABELS}})
    with pytest.raises(ConfigError, match=r"config.data: arrays has no labels, from which objective classify learns"):
        assemble(resolve(config()), given={"train": {"image": IMAGES}})
    both = config(mix={"name": "mixup"}, views={"crop": ((),)})
    with pytest.raises(ConfigError, match=r"config.data.mix: mixup mixes images; config.data.views makes several"):
        assemble(resolve(both), given={"train": {"image": IMAGES, "label": LABELS}})


def test_images_of_another_size_than_evaluations_bring_are_refused_before_training(tmp_path):
    arrays = {"image": IMAGES, "label": LABELS}
    smaller = config(augment=({"name": "random_resized_crop", "size": 3},))
    with pytest.raises(ConfigError, match=r"evaluations bring images of 4x4x1.*set config.data.image_size"):
        train(smaller, tmp_path, sources={"train": arrays, "test": arrays})
    smaller["data"]["image_size"] = 3
    assert train(smaller, tmp_path, sources={"train": arrays, "test": arrays})["step"] == 4
