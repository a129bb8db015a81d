"""Self-distillation as a training: teacher and centre, resumed bit for bit, on any number of devices, used after."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mesh_of

from vision import models
from vision.errors import ConfigError, UserError
from vision.objectives.distill import distill
from vision.training.accumulate import loss_and_gradients
from vision.training.assemble import assemble
from vision.training.checkpoint import load_arrays
from vision.training.loop import train
from vision.training.pretrained import load_pretrained
from vision.training.schema import resolve
from vision.training.sharding import batch_sharding

VIT = {"name": "vit/S16_dino", "patch_size": 4, "width": 16, "depth": 2, "num_heads": 2, "mlp_dim": 24}
MASKED = {"mask_token": True, "num_registers": 2, "layer_scale": 1e-1}
HEAD = {"num_prototypes": 12, "hidden_dim": 10, "bottleneck_dim": 6, "num_layers": 2}
V2 = {"centering": "sinkhorn_knopp", "koleo_weight": 0.1, "patch_weight": 1.0, "trained_gain": True}
LENGTHS = {"total_steps": 10, "steps_of": lambda duration, key: duration["steps"]}
BATCH = 16
GLOBAL = jax.random.normal(jax.random.key(0), (BATCH, 2, 16, 16, 1))
LOCAL = jax.random.normal(jax.random.key(1), (BATCH, 3, 8, 8, 1))
VIEWS = {"global": GLOBAL, "local": LOCAL}
SPEC = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), VIEWS)


def vit(**options):
    section = {**VIT, **options}
    name = section.pop("name")
    return models.build(name, num_classes=0, image_shape=(16, 16, 1), **section)


KINDS = {
    "dino": lambda: distill(vit(stochastic_depth=0.2), **LENGTHS, **HEAD),
    "dinov2": lambda: distill(vit(**MASKED), **LENGTHS, **HEAD, **V2),
    "separate": lambda: distill(vit(**MASKED), **LENGTHS, **HEAD, **V2, patch_head="separate"),
}


def gradients(objective, *, devices=1, microbatches=1):
    params, extra = objective.init(jax.random.key(2), SPEC)
    keys = jax.random.split(jax.random.key(3), BATCH)
    batch, keys = jax.device_put((VIEWS, keys), batch_sharding(mesh_of(devices)))

    @jax.jit
    def run(params, extra, batch, keys):
        found = loss_and_gradients(objective, params, extra, batch, keys, jnp.int32(3), microbatches=microbatches)
        return found[0], found[1], {"centres": found[2]["centres"]}, found[3]

    return jax.device_get(run(params, extra, batch, keys))


def far(found, expected):
    """The largest difference, over the largest number of its kind."""
    differences = []
    for one, other in zip(found, expected, strict=True):
        size = max((np.abs(leaf).max() for leaf in jax.tree.leaves(other)), default=1.0)
        pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
        differences += [np.abs(x - y).max() / size for x, y in pairs]
    return max(differences)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dino", "dinov2"])
def test_eight_devices_agree_with_one_on_loss_gradients_centres_and_meters(kind):
    """Centre, Sinkhorn-Knopp and KoLeo are over the batch of all devices."""
    objective = KINDS[kind]()
    whole = gradients(objective)
    assert far(gradients(objective, devices=8), whole) < 2e-5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dino", "separate"])
def test_accumulation_equals_the_big_batch(kind):
    objective = KINDS[kind]()
    assert far(gradients(objective, microbatches=4), gradients(objective)) < 2e-5


@pytest.mark.slow
def test_accumulation_hands_the_teacher_on_untouched():
    objective = KINDS["dino"]()
    params, extra = objective.init(jax.random.key(2), SPEC)
    keys = jax.random.split(jax.random.key(3), BATCH)
    after = loss_and_gradients(objective, params, extra, VIEWS, keys, jnp.int32(0), microbatches=2)[2]
    for one, other in zip(jax.tree.leaves(after["teacher"]), jax.tree.leaves(extra["teacher"]), strict=True):
        assert one is other


def test_the_teacher_is_a_copy_that_moves_on_the_published_cosine():
    """momentum(i) = 1 - 0.004 (1 + cos(pi i / T)) / 2: 0.996 at step 0, 0.998 halfway, 0.99999999 at step 999."""
    objective = distill(vit(), **{**LENGTHS, "total_steps": 1000}, **HEAD)
    params, extra = objective.init(jax.random.key(0), SPEC)
    for one, other in zip(jax.tree.leaves(params), jax.tree.leaves(extra["teacher"]), strict=True):
        np.testing.assert_array_equal(one, other)
    moved = jax.tree.map(lambda x: x + 1.0, params)
    for done, rate in ((1, 0.004), (501, 0.002), (1000, 1e-8)):
        after = objective.refresh(moved, {**extra, "teacher": jax.tree.map(jnp.zeros_like, params)}, jnp.int32(done))
        ones = jax.tree.map(lambda t, p: t / p, after["teacher"]["head"]["prototypes"], moved["head"]["prototypes"])
        assert float(jnp.mean(ones)) == pytest.approx(rate, rel=2e-2 if rate < 1e-6 else 1e-4)


def test_teacher_temperature_warms_up_on_a_line():
    warm = {"warmup_teacher_temperature": 0.04, "teacher_temperature": 0.07, "warmup": {"steps": 30}}
    objective = distill(vit(), **{**LENGTHS, "total_steps": 100}, **HEAD, **warm)
    params, extra = objective.init(jax.random.key(0), SPEC)
    outputs = jax.eval_shape(lambda: objective.forward(params, extra, VIEWS, None, True)[0])
    outputs = jax.tree.map(lambda x: jnp.ones(x.shape), outputs)
    for step, value in ((0, 0.04), (15, 0.055), (30, 0.07), (99, 0.07)):
        _, (_, metrics) = objective.loss(params, outputs, extra, VIEWS, jnp.int32(step))
        assert float(metrics["teacher_temperature"][0]) == pytest.approx(value, rel=1e-6)


@pytest.mark.slow
def test_the_teacher_sees_all_patches_and_the_student_one_masked_view_of_each_image():
    objective = KINDS["dinov2"]()
    params, extra = objective.init(jax.random.key(2), SPEC)
    keys = jax.random.split(jax.random.key(3), BATCH)
    outputs, _ = objective.forward(params, extra, VIEWS, keys, True)
    plain, _ = distill(vit(**MASKED), **LENGTHS, **HEAD, trained_gain=True).forward(params, extra, VIEWS, keys, True)
    np.testing.assert_allclose(outputs["teacher"], plain["teacher"], rtol=1e-5, atol=1e-6)
    other = np.abs(np.asarray(outputs["student"][:, :2] - plain["student"][:, :2])).max(-1) > 1e-5
    np.testing.assert_array_equal(other.sum(1), 1)
    assert 0 < other[:, 0].sum() < BATCH
    assert outputs["student_patches"].shape == (BATCH, 8, HEAD["num_prototypes"])


@pytest.mark.slow
def test_the_network_learns_nothing_from_the_teacher_side():
    """Without a stop of the gradient a centre or a target would pull on the student too."""
    objective = KINDS["dinov2"]()
    params, extra = objective.init(jax.random.key(2), SPEC)
    outputs, extra = objective.forward(params, extra, VIEWS, jax.random.split(jax.random.key(3), BATCH), True)
    slopes = jax.grad(lambda o: objective.loss(params, o, extra, VIEWS, jnp.int32(0))[0])(outputs)
    for name in ("teacher", "teacher_patches", "teacher_embedding"):
        assert not np.any(slopes[name])
    assert np.any(slopes["student_patches"])
    assert np.any(slopes["embedding"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher_temperature": 0.0}, "teacher_temperature must be above 0"),
        ({"centre_momentum": 1.0}, r"centre_momentum must be in \[0, 1\)"),
        ({"teacher_momentum": 0.9, "final_teacher_momentum": 0.8}, "final_teacher_momentum must be in"),
        ({"patch_weight": 1.0}, "patch_weight needs a model with mask_token=True"),
        ({"mask_ratio": (0.5, 0.1)}, "mask_ratio must be two numbers"),
        ({"koleo_weight": -1.0}, "must be >= 0"),
        ({"num_prototypes": 1}, "num_prototypes must be at least 2"),
        ({"warmup": {"steps": 3}}, "warmup and warmup_teacher_temperature go together"),
        ({"warmup": {"steps": 30}, "warmup_teacher_temperature": 0.01}, "30 steps are more than the 10"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        distill(vit(), **LENGTHS, **{**HEAD, **options})


def images(count=32):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, 16, 16, 1), dtype=np.uint8)
    return {"train": {"image": pixels, "label": (np.arange(count) % 3).astype(np.int32)}}


def view(size):
    return ({"name": "random_resized_crop", "size": size}, {"name": "random_flip"})


def config(model=VIT, **more):
    return {
        "batch_size": 8,
        "duration": {"steps": 6},
        "data": {"name": "arrays", "views": {"global": (view(16),) * 2, "local": (view(8),)}},
        "model": model,
        "objective": {"name": "distill", **HEAD},
        "optimizer": {
            "name": "adamw",
            "learning_rate": 1e-2,
            "clip_tensor_norm": 3.0,
            "weight_decay": 0.04,
            "weight_decay_schedule": {"name": "cosine", "final": 0.4},
            "rules": ((r"head/prototypes", {"freeze_for": {"steps": 2}}),),
        },
        "checkpoint": {"every": {"steps": 3}, "keep": 5},
        "logging": {"every": {"steps": 2}, "tensorboard": False, "progress": False},
        **more,
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [VIT, {"name": "resnet/18_cifar", "width": 4, "stage_sizes": (1, 1)}, {**VIT, "name": "vit/S14_dinov2_reg4"}],
)
def test_a_resumed_run_is_bitwise_the_uninterrupted_one(model, tmp_path):
    """Student, teacher, heads, centre and the batch statistics of both."""
    more = {"objective": {"name": "distill", **HEAD, "head_batch_norm": "resnet" in model["name"]}}
    if "dinov2" in model["name"]:
        more["objective"] |= V2
    train(config(model, **more), tmp_path / "whole", sources=images())
    stopped = config(model, **more)

    class Killed(Exception):
        pass

    def kill():
        raise Killed

    with pytest.raises(Killed):
        train(stopped, tmp_path / "parts", sources=images(), at_step={4: kill})
    train(stopped, tmp_path / "parts", sources=images())
    (_, whole, _), (_, parts, _) = (load_arrays(tmp_path / name, None) for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert {name for name in whole if name.startswith("extra/teacher/head/")}
    assert ("extra/centres/views" in whole) == ("dinov2" not in model["name"])
    assert [name for name in whole if whole[name].tobytes() != parts[name].tobytes()] == []


@pytest.mark.slow
def test_the_backbone_of_the_teacher_is_what_evaluations_and_later_runs_take(tmp_path):
    train(config(), tmp_path / "ssl", sources=images())
    _, arrays, _ = load_arrays(tmp_path / "ssl", None)
    pretrained = load_pretrained(str(tmp_path / "ssl"), note=lambda text: None)
    kernel = arrays["extra/teacher/backbone/patch_embedding/kernel"]
    np.testing.assert_array_equal(pretrained.params["patch_embedding"]["kernel"], kernel)
    assert pretrained.model.module.num_classes == 0
    with pytest.raises(UserError, match="trained by distill, which tells no classes apart"):
        _ = pretrained.loss
    later = config(
        data={"name": "arrays"},
        objective={"name": "classify"},
        optimizer={"name": "sgd", "learning_rate": 0.0},
        init_from=str(tmp_path / "ssl"),
        duration={"steps": 1},
    )
    train(later, tmp_path / "later", sources=images())
    _, taken, _ = load_arrays(tmp_path / "later", None)
    np.testing.assert_array_equal(taken["params/patch_embedding/kernel"], kernel)
    again = config(init_from=str(tmp_path / "later"), duration={"steps": 1})
    again["optimizer"] = {"name": "sgd", "learning_rate": 0.0}
    train(again, tmp_path / "again", sources=images())
    _, back, _ = load_arrays(tmp_path / "again", None)
    for part in ("params/backbone", "extra/teacher/backbone"):
        np.testing.assert_array_equal(back[f"{part}/patch_embedding/kernel"], kernel)


@pytest.mark.slow
def test_without_centring_and_sharpening_a_run_collapses_and_says_so(tmp_path, capsys):
    broken = config(duration={"steps": 60})
    broken["objective"] |= {"centering": "none", "teacher_temperature": 1.0, "teacher_momentum": 0.5}
    broken["optimizer"] = {"name": "adamw", "learning_rate": 3e-2}
    summary = train(broken, tmp_path, sources=images())
    assert "collapse" in summary["warnings"][0]
    assert "warning: collapse" in capsys.readouterr().err
    assert "collapse" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_without_centring_at_the_temperature_of_the_student_it_collapses_too(tmp_path):
    """Not to the uniform distribution nor to one prototype, but to one distribution for all images."""
    broken = config(duration={"steps": 150})
    broken["objective"] |= {"centering": "none", "teacher_temperature": 0.1, "teacher_momentum": 0.5}
    broken["optimizer"] = {"name": "adamw", "learning_rate": 1e-2}
    summary = train(broken, tmp_path, sources=images())
    assert "collapse" in summary["warnings"][0]


def test_views_that_nobody_reads_are_refused():
    views = {"global": (view(16),) * 2, "locals": (view(8),)}
    with pytest.raises(
        ConfigError, match="config.data.views.locals: distill takes no such views.*did you mean 'local'"
    ):
        assemble(resolve(config(data={"name": "arrays", "views": views})), given=images())


def test_local_views_need_a_backbone_of_any_size():
    small = {key: value for key, value in VIT.items() if key != "name"}
    with pytest.raises(ConfigError, match="config.objective: distill: .*built for images of 16x16x1, these are 8x8x1"):
        assemble(resolve(config({"name": "vit/S16", **small})), given=images())


def test_an_average_beside_the_teacher_is_refused():
    with pytest.raises(ConfigError, match="config.ema: distill's teacher is such an average"):
        assemble(resolve(config(ema={"decay": 0.9})), given=images())


def test_views_that_are_not_there_are_named():
    with pytest.raises(ConfigError, match="config.objective: distill needs 'global' of each example"):
        assemble(resolve(config(data={"name": "arrays"})), given=images())


def test_data_without_labels_are_enough():
    unlabelled = {"train": {"image": images()["train"]["image"]}}
    experiment = assemble(resolve(config()), given=unlabelled)
    assert experiment.source.num_classes == 0
    assert math.isclose(experiment.abstract_state.params["head"]["prototypes"].shape[1], HEAD["num_prototypes"])


def test_evaluations_may_have_images_of_another_size_than_those_that_views_are_cut_from():
    larger = config(evals={"knn": {"name": "knn", "k": 1, "split": "train", "batch_size": 8}})
    larger["data"] |= {"image_size": 24, "eval_image_size": 16}
    experiment = assemble(resolve(larger), given=images())
    assert experiment.inputs.part.size == (24, 24)
    assert experiment.model.image_shape == (16, 16, 1)
    pipeline, _ = experiment.inputs.evaluation_pipeline(
        "train", batch_size=8, sharding=batch_sharding(experiment.mesh), what="knn"
    )
    assert pipeline.resident["image"].shape == (32, 16, 16, 1)


@pytest.mark.slow
def test_the_untrained_network_is_evaluated_too_where_asked_for(tmp_path):
    knn = {"name": "knn", "k": 1, "split": "train", "batch_size": 8, "at_start": True}
    train(config(evals={"knn": knn}), tmp_path, sources=images())
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "knn/accuracy" in line] == [0, 6]
