"""Accuracy with several right answers and among the classes present, held against NumPy."""

import jax
import numpy as np
import pytest
from conftest import mesh_of

from vision import models
from vision.data.host import HostPart
from vision.data.order import InOrder
from vision.data.pipeline import make_pipeline
from vision.data.prepare import make_prepare
from vision.data.source import ArraySource
from vision.data.sources import Opener
from vision.errors import UserError
from vision.evaluation import EVALUATORS
from vision.evaluation.base import EvalSet
from vision.interop.preprocessing import Preprocessing
from vision.objectives import OBJECTIVES
from vision.training.pretrained import PROTOCOLS, Pretrained, _by_default, evaluate
from vision.training.sharding import batch_sharding
from vision.training.state import TrainState

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (37, 4, 4, 1), dtype=np.uint8)
SEVERAL = (RNG.random((37, 8)) < 0.15).astype(np.float32)
SINGLE = RNG.choice([1, 4, 6], 37).astype(np.int32)


def evaluated(labels, **options):
    order = InOrder(37, 16)
    source = ArraySource({"image": IMAGES, "label": labels}, 8)
    pipeline = make_pipeline(source, order, HostPart((4, 4), 1), sharding=batch_sharding(mesh_of(2)), residency="auto")
    masks = tuple(order.mask(step) for step in range(order.num_batches))
    eval_set = EvalSet(pipeline, make_prepare(mean=None, std=None, channels=1), masks)
    objective = OBJECTIVES["classify"](models.build("linear", num_classes=8, zero_init=False))
    params, extra = objective.init(jax.random.key(0), {"image": jax.ShapeDtypeStruct((1, 4, 4, 1), np.float32)})
    evaluator = EVALUATORS["any_label"](eval_set, objective, **options)
    values = dict(evaluator.run(TrainState(0, params, extra, ())))
    assert tuple(values) == evaluator.metrics
    head = jax.device_get(params)["head"]
    return values, IMAGES.reshape(37, -1).astype(np.float32) / 255 @ head["kernel"] + head["bias"]


def test_each_label_is_right_and_images_without_one_are_left_out():
    values, logits = evaluated(SEVERAL)
    counted = SEVERAL.any(axis=1)
    assert 0 < counted.sum() < 37
    ranked = np.argsort(-logits, axis=1)
    right = np.take_along_axis(SEVERAL, ranked, axis=1)[counted]
    assert values["images"] == counted.sum()
    assert values["accuracy"] == pytest.approx(right[:, 0].mean())
    assert values["top5_accuracy"] == pytest.approx(right[:, :5].any(axis=1).mean())


@pytest.mark.parametrize("among", ["all", "present"])
def test_only_classes_that_occur_compete_where_asked(among):
    values, logits = evaluated(SINGLE, among=among)
    classes = np.array([1, 4, 6]) if among == "present" else np.arange(8)
    predicted = classes[np.argmax(logits[:, classes], axis=1)]
    assert values["accuracy"] == pytest.approx((predicted == SINGLE).mean())
    assert (values["images"], values["classes"]) == (37, len(classes))
    assert (values["top5_accuracy"] == 1.0) == (among == "present")


def test_data_without_any_label_are_refused():
    with pytest.raises(ValueError, match="no image has a label"):
        evaluated(np.zeros((37, 8), np.float32))


def test_sets_with_a_protocol_of_their_own_are_evaluated_by_it(monkeypatch):
    opened = []

    def stand_in(opener, split):
        opened.append((opener.name, opener.label))
        return ArraySource({"image": IMAGES, "label": SEVERAL if opener.name.endswith("real") else SINGLE}, 8)

    monkeypatch.setattr(Opener, "__call__", stand_in)
    model = models.build("linear", num_classes=8, image_shape=(4, 4, 1), zero_init=False)
    params, collections = model.init(jax.random.key(0), jax.ShapeDtypeStruct((1, 4, 4, 1), np.float32))
    expected = Preprocessing((0.0,), (1.0,))
    pretrained = Pretrained(model, params, collections, "linear", (4, 4, 1), expected)

    def values(data):
        ((name, found),) = evaluate(pretrained, data, batch_size=16, note=lambda text: None).items()
        return name, found

    name, adversarial = values("imagenet_a")
    assert (name, adversarial["classes"], adversarial["images"]) == ("any_label", 3, 37)
    name, real = values("imagenet2012_real")
    assert (name, real["classes"], real["images"]) == ("any_label", 8, SEVERAL.any(axis=1).sum())
    assert _by_default({"name": "zero_shot"}, PROTOCOLS["imagenet_r"], pretrained, 16)["among"] == "present"
    asked = {"evaluators": {"words": {"name": "zero_shot"}}, "batch_size": 16, "note": lambda text: None}
    with pytest.raises(UserError, match="one label of each image, imagenet2012_real has several: give --label"):
        evaluate(pretrained, "imagenet2012_real", **asked)
    with pytest.raises(UserError, match="--tokenizer: linear has no text tower"):
        evaluate(pretrained, "imagenet_a", tokenizer="clip.json", **asked)
    assert ("imagenet2012_real", "real_label") in opened
    name, plain = values("imagenet_v2")
    assert name == "classification"
    assert plain["accuracy"] <= adversarial["accuracy"]
