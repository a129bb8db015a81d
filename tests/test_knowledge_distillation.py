"""A student learns from labels and from a frozen teacher, whose weights travel with its checkpoints."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import Killed, killed, tiny
from scipy.special import log_softmax, rel_entr, softmax

from vision import models
from vision.config.loading import plain
from vision.errors import ConfigError, UserError
from vision.objectives import OBJECTIVES
from vision.objectives.knowledge_distillation import hard, soft
from vision.training.assemble import assemble
from vision.training.checkpoint import load_arrays
from vision.training.loop import train
from vision.training.pretrained import load_pretrained
from vision.training.schema import resolve

TEACHER = {"name": "mlp/128", "hidden_sizes": (16,), "batch_norm": True}
VIT = {"patch_size": 2, "width": 8, "depth": 1, "num_heads": 1, "mlp_dim": 8, "distillation_token": True}


def logits(seed, shape=(5, 4)):
    return np.random.default_rng(seed).normal(scale=2.0, size=shape).astype(np.float32)


def test_the_lessons_are_those_of_the_equations():
    student, teacher = logits(0), logits(1)
    wanted = -log_softmax(student, axis=-1)[np.arange(5), teacher.argmax(-1)]
    np.testing.assert_allclose(hard(jnp.asarray(student), jnp.asarray(teacher)), wanted, rtol=1e-5)
    divergence = rel_entr(softmax(teacher / 3, axis=-1), softmax(student / 3, axis=-1)).sum(-1)
    found = soft(jnp.asarray(student), jnp.asarray(teacher), temperature=3.0)
    np.testing.assert_allclose(found, 9 * divergence, rtol=1e-4)


def objective(**options):
    student = models.build("vit/S16", num_classes=4, image_shape=(4, 4, 1), **VIT)
    made = OBJECTIVES["knowledge_distillation"](student, teacher=models.build("linear", num_classes=4), **options)
    batch = {"image": jax.random.normal(jax.random.key(1), (6, 4, 4, 1)), "label": jnp.arange(6) % 4}
    params, extra = made.init(jax.random.key(0), jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch))
    extra["teacher"]["params"] = jax.tree.map(
        lambda x: jax.random.normal(jax.random.key(2), x.shape), extra["teacher"]["params"]
    )
    return made, params, extra, batch


@pytest.mark.parametrize(
    ("weight", "taught", "other"), [(1.0, "distillation_head", "head"), (0.0, "head", "distillation_head")]
)
def test_the_teacher_speaks_to_the_distillation_token_and_the_labels_to_the_class_token(weight, taught, other):
    made, params, extra, batch = objective(weight=weight)

    def loss(params, extra):
        outputs, new = made.forward(params, extra, batch, None, True)
        return made.loss(params, outputs, new, batch, jnp.int32(0))[0]

    gradients, of_teacher = jax.grad(loss, argnums=(0, 1))(params, extra)
    assert np.abs(gradients[taught]["kernel"]).max() > 0
    assert not np.abs(gradients[other]["kernel"]).any()
    assert not any(np.abs(leaf).any() for leaf in jax.tree.leaves(of_teacher))


def test_the_loss_mixes_both_parts_and_the_metrics_say_who_is_right():
    made, params, extra, batch = objective(weight=0.3)
    outputs, _ = made.forward(params, extra, batch, None, False)
    outputs = {**outputs, "class_logits": logits(0, (6, 4)), "distillation_logits": logits(1, (6, 4))}
    outputs |= {
        "teacher": 9 * jnp.eye(4)[jnp.array([0, 1, 2, 3, 1, 1])],
        "output": jnp.eye(4)[jnp.array([0, 1, 2, 0, 0, 0])],
    }
    outputs = jax.tree.map(jnp.asarray, outputs)
    value, (_, metrics) = made.loss(params, outputs, extra, batch, jnp.int32(0))
    rows = np.arange(6)
    of_labels = -log_softmax(np.asarray(outputs["class_logits"]), axis=-1)[rows, np.arange(6) % 4].mean()
    of_teacher = -log_softmax(np.asarray(outputs["distillation_logits"]), axis=-1)[rows, [0, 1, 2, 3, 1, 1]].mean()
    np.testing.assert_allclose(value, 0.7 * of_labels + 0.3 * of_teacher, rtol=1e-5)
    told = {name: float(total) for name, (total, _) in metrics.items()}
    assert told == {"accuracy": 4.0, "teacher_accuracy": 5.0, "agreement": 3.0}  # the labels are 0 1 2 3 0 1


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "run"
    train(plain(tiny()) | {"model": TEACHER, "evals": {}, "checkpoint": {}}, folder)
    return folder


def student(path, /, **changes):
    made = plain(tiny()) | {"objective": {"name": "knowledge_distillation"}, "duration": {"steps": 4}}
    return (
        made | {"teacher": {"model": TEACHER, "init_from": str(path)}, "checkpoint": {"every": {"steps": 2}}} | changes
    )


def test_the_teacher_stays_as_it_was_and_its_folder_is_not_needed_again(teacher, tmp_path):
    given = load_arrays(teacher, 12)[1]
    copy = tmp_path / "copy"
    shutil.copytree(teacher, copy)
    made = student(copy)
    result = train(made, tmp_path / "straight")
    assert 0 <= result["test"]["accuracy"] <= 1
    final = load_arrays(tmp_path / "straight", 4)[1]
    assert load_pretrained(str(tmp_path / "straight"), note=print).loss == "softmax"  # it tells classes apart
    for path, leaf in given.items():
        if path.startswith("extra/ema/"):  # what evaluations of the teacher use
            taken = final[path.replace("extra/ema/", "extra/teacher/params/")]
            assert np.array_equal(taken, leaf)
        if path.startswith("extra/collections/"):
            assert final[path.replace("extra/", "extra/teacher/")].tobytes() == leaf.tobytes()

    with pytest.raises(Killed):
        train(made, tmp_path / "resumed", at_step={2: killed})
    shutil.rmtree(copy)
    train(made, tmp_path / "resumed")
    resumed = load_arrays(tmp_path / "resumed", 4)[1]
    assert all(resumed[path].tobytes() == leaf.tobytes() for path, leaf in final.items())


def test_a_teacher_of_other_classes_or_shape_is_refused(teacher, tmp_path):
    wide = {"model": {**TEACHER, "hidden_sizes": (8,)}, "init_from": str(teacher)}
    with pytest.raises(UserError, match="config.teacher.init_from.*hidden_0/kernel"):
        train(student(teacher, teacher=wide), tmp_path / "wide")
    few = plain(tiny())["data"] | {"classes": (0, 1, 2)}
    with pytest.raises(UserError, match="config.teacher.init_from: a teacher's weights must all be there.*head"):
        train(student(teacher, data=few), tmp_path / "few")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"teacher": None}, "config.teacher: missing"),
        ({"objective": {"name": "classify"}}, "config.teacher: no code reads it"),
        ({"teacher": {"model": {"name": "resnet/81"}, "init_from": "x"}}, "config.teacher.model"),
        ({"objective": {"name": "knowledge_distillation", "weight": 1.5}}, "weight must be in"),
        ({"objective": {"name": "knowledge_distillation", "temperature": 0.0}}, "temperature must be positive"),
    ],
)
def test_what_cannot_be_is_said(changes, told):
    with pytest.raises(ConfigError) as error:
        assemble(resolve(student("somewhere", **changes)))
    assert told in str(error.value)
