"""What is frozen stays as it is, bit for bit, costs no gradient, and is freed when the config says so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import Killed, killed, tiny

from vision import models
from vision.config.loading import load, plain
from vision.errors import ConfigError
from vision.models.depth import block_names, parameters_before
from vision.training.assemble import assemble
from vision.training.checkpoint import load_arrays
from vision.training.loop import train
from vision.training.rules import paths_of
from vision.training.schema import resolve

RESNET = {"name": "resnet/20", "stage_sizes": (1, 1, 1), "width": 4, "block_dropout": 0.3, "stochastic_depth": 0.3}
VIT = {"name": "vit/Ti16", "patch_size": 4, "width": 16, "depth": 4, "num_heads": 2, "mlp_dim": 32}


def config(model, **changes):
    return plain(tiny()) | {"model": model} | changes


def by_path(tree):
    return dict(zip(paths_of(tree), map(np.asarray, jax.tree.leaves(jax.device_get(tree))), strict=True))


def same(a, b):
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


def after(experiment, count, state=None, first=0):
    state = experiment.init(experiment.constants.keys.init) if state is None else state
    for step in range(first, first + count):
        batch = experiment.pipeline.batch(step)
        state, metrics = experiment.stage_at(step).step(state, batch, experiment.constants)
        jax.block_until_ready(state)  # a hundred steps under way on eight devices would wait for one another for ever
    return jax.device_get(state), metrics


@pytest.mark.parametrize(
    "optimizer",
    [{"name": "adamw"}, pytest.param({"name": "sgd", "momentum": 0.9, "nesterov": True}, marks=pytest.mark.slow)],
)
def test_a_hundred_steps_leave_frozen_parameters_statistics_and_memory_bit_for_bit(optimizer):
    section = {**optimizer, "learning_rate": 1e-2, "weight_decay": 0.05, "clip_global_norm": 1.0}
    built = assemble(resolve(config(RESNET, freeze={"blocks": 2}, optimizer=section, ema=None)))
    start = built.init(built.constants.keys.init)
    # Biases of -0.0: adding +0.0 to one would change its sign bit.
    params = jax.tree.map(lambda x: jnp.where(x == 0, -0.0, x), start.params)
    extra = jax.tree.map(lambda x: x + 0.25, start.extra)  # statistics as training left them
    start = start.replace(params=params, extra=extra)
    before = jax.device_get(start)
    final, _ = after(built, 100, start)
    frozen = built.stages[0].frozen
    assert {"stem/kernel", "stem_norm/scale", "block00/conv1/kernel", "block01/norm2/bias"} <= frozen
    assert not any(path.startswith(("block02", "head")) for path in frozen)
    old, new = by_path(before.params), by_path(final.params)
    assert all(same(old[path], new[path]) for path in frozen)
    assert not any(same(old[path], new[path]) for path in set(old) - frozen)
    old, new = by_path(before.extra), by_path(final.extra)
    held = [path for path in old if path.split("batch_stats/")[1].startswith(("stem_norm", "block00", "block01"))]
    assert len(held) == 10
    assert all(same(old[path], new[path]) for path in held)
    assert not any(same(old[path], new[path]) for path in set(old) - set(held))
    remembered = " ".join(paths_of(final.opt_state))
    assert "block02/conv1/kernel" in remembered
    assert "stem/kernel" not in remembered
    assert "block01" not in remembered


def test_a_frozen_part_computes_in_training_what_it_computes_in_evaluation():
    model = models.build(
        "resnet/20", num_classes=3, image_shape=(8, 8, 1), **{k: RESNET[k] for k in RESNET if k != "name"}
    )
    images = jax.random.normal(jax.random.key(2), (6, 8, 8, 1))
    params, collections = model.init(jax.random.key(0), jax.ShapeDtypeStruct(images.shape, jnp.float32))
    collections = jax.tree.map(lambda x: x + 0.5, collections)
    keys = jax.random.split(jax.random.key(1), 6)
    part = parameters_before(model, (8, 8, 1), "block01")
    held = models.build(
        "resnet/20", num_classes=3, image_shape=(8, 8, 1), **{k: RESNET[k] for k in RESNET if k != "name"}
    )
    held = type(held)(held.module, held.precision, held.image_shape, part)
    _, wanted, _ = model.apply(params, collections, images, keys=None, train=False)
    _, drawn, _ = model.apply(params, collections, images, keys=keys, train=True)
    _, found, _ = held.apply(params, collections, images, keys=keys, train=True)
    assert np.array_equal(found["block01"], wanted["block01"])
    assert not np.allclose(drawn["block01"], wanted["block01"])
    assert not np.allclose(found["block02"], wanted["block02"])


def test_statistics_of_a_norm_whose_scale_is_trained_go_on():
    built = assemble(resolve(config(RESNET, freeze={"patterns": ("kernel$",)})))
    before = jax.device_get(built.init(built.constants.keys.init))
    final, _ = after(built, 2)
    old, new = by_path(before.extra["collections"]), by_path(final.extra["collections"])
    assert not any(same(old[path], new[path]) for path in old)
    assert same(by_path(before.params)["stem/kernel"], by_path(final.params)["stem/kernel"])


def test_microbatches_whose_number_is_no_power_of_two_leave_frozen_statistics_alone():
    """The mean of three equal numbers is not always that number."""
    made = config(RESNET, freeze={"blocks": 2}, batch_size=48, microbatches=3, ema=None)
    built = assemble(resolve(made))
    start = built.init(built.constants.keys.init)
    start = start.replace(
        extra=jax.tree.map(lambda x: x + jax.random.normal(jax.random.key(1), x.shape) ** 2, start.extra)
    )
    before = by_path(start.extra["collections"]["batch_stats"])
    final, _ = after(built, 3, start)
    now = by_path(final.extra["collections"]["batch_stats"])
    for path, leaf in before.items():
        assert same(leaf, now[path]) == path.startswith(("stem_norm", "block00", "block01"))


def test_a_projection_head_with_batch_normalisation_cannot_be_frozen():
    made = load("configs/simclr_fashion_mnist.py")
    made = made | {"freeze": {"patterns": ("^head/",)}, "data": made["data"] | {"name": "digits"}}
    with pytest.raises(ConfigError, match="batch normalisation of a projection head"):
        assemble(resolve(made))


@pytest.mark.parametrize("remat", ["none", "full"])
def test_no_gradient_is_computed_for_the_first_half(remat):
    def flops(**changes):
        built = assemble(resolve(config({**VIT, "remat": remat, "width": 64, "mlp_dim": 256}, ema=None, **changes)))
        lowered = built.step.lower(built.abstract_state, built.pipeline.batch(0), built.constants)
        return lowered.cost_analysis()["flops"]

    whole, half = flops(), flops(freeze={"blocks": 2})
    # Forward 1 and backward 2 of 3 parts, with rematerialisation 1 and 3 of 4: half of the backward pass is saved.
    assert half / whole < (0.70 if remat == "none" else 0.67)


def test_the_parameters_before_a_feature_are_read_off_the_program():
    vit = models.build("vit/Ti16", num_classes=5, image_shape=(8, 8, 3), **{k: VIT[k] for k in VIT if k != "name"})
    names = block_names(vit, (8, 8, 3))
    assert names == [f"block0{n}" for n in range(4)]
    first = parameters_before(vit, (8, 8, 3), "block00")
    assert {path.split("/")[0] for path in first} == {
        "patch_embedding",
        "position_embedding",
        "class_token",
        "encoder",
        "class_position",
    }
    assert {path.split("/")[1] for path in first if path.startswith("encoder")} == {"block00"}
    params, _ = jax.eval_shape(
        lambda key: vit.init(key, jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)), jax.random.key(0)
    )
    assert set(paths_of(params)) - parameters_before(vit, (8, 8, 3), "pre_logits") == {"head/kernel", "head/bias"}
    with pytest.raises(KeyError):
        parameters_before(vit, (8, 8, 3), "block04")


@pytest.mark.slow
def test_gradual_unfreezing_frees_the_last_blocks_first_and_resumes_to_the_same_bits(tmp_path):
    made = config(
        RESNET, freeze={"blocks": -1, "unfreeze": {"steps": 3}}, optimizer={"name": "adamw", "learning_rate": 1e-2}
    )
    made["checkpoint"] = {"every": {"steps": 1}, "keep": 20}
    built = assemble(resolve(made))
    assert [stage.first for stage in built.stages] == [0, 3, 6, 9]
    tops = [{path.split("/")[0] for path in stage.frozen} for stage in built.stages]
    assert tops == [
        {"stem", "stem_norm", "block00", "block01", "block02"},
        {"stem", "stem_norm", "block00", "block01"},
        {"stem", "stem_norm", "block00"},
        set(),
    ]
    train(made, tmp_path / "straight")
    states = {step: load_arrays(tmp_path / "straight", step)[1] for step in range(1, 13)}
    first = by_path(built.init(built.constants.keys.init).params)
    for name, until in (("block02/conv1/kernel", 3), ("block00/norm1/scale", 9), ("stem/kernel", 9)):
        assert same(states[until][f"params/{name}"], first[name])
        assert not same(states[until + 1][f"params/{name}"], first[name])
    for name, until in (("block02/norm1/mean", 3), ("stem_norm/mean", 9)):
        path = f"extra/collections/batch_stats/{name}"
        assert not states[until][path].any()
        assert states[until + 1][path].any()

    with pytest.raises(Killed):
        train(made, tmp_path / "resumed", at_step={6: killed})
    train(made, tmp_path / "resumed")
    resumed = load_arrays(tmp_path / "resumed", 12)[1]
    assert all(same(resumed[path], array) for path, array in states[12].items())


def test_a_self_distilled_backbone_is_frozen_within_its_objective():
    made = load("configs/dino_fashion_mnist.py")
    made = made | {"freeze": {"blocks": 1}, "data": made["data"] | {"name": "digits"}}
    frozen = assemble(resolve(made)).stages[0].frozen
    assert frozen
    assert all(path.startswith("backbone/") for path in frozen)


@pytest.mark.parametrize(
    ("model", "changes", "told"),
    [
        (RESNET, {"freeze": {"blocks": 4}}, "has 3 blocks"),
        (RESNET, {"freeze": {"patterns": ("steam",)}}, "did you mean 'stem'"),
        (RESNET, {"freeze": {"patterns": (".",)}}, "nothing is left to train"),
        (RESNET, {"freeze": {"unfreeze": {"steps": 3}}}, "config.freeze.blocks"),
        (RESNET, {"freeze": {"blocks": 1, "unfreeze": {"steps": 0}}}, "more than 0 steps"),
        (RESNET, {"freeze": {"blocks": 1, "unfreeze_blocks": 0}}, ">= 1"),
        (RESNET, {"freeze": {"block": 1}}, "did you mean 'blocks'"),
        ({**VIT, "scan": True}, {"freeze": {"blocks": 1}}, "config.model.scan=False"),
        ({"name": "linear"}, {"freeze": {"blocks": -1}}, "nothing comes before the head"),
        (RESNET, {"l2_sp": {"alpha": 0.1, "beta": 0.01}}, "config.init_from, which is missing"),
    ],
)
def test_what_cannot_be_frozen_is_said(model, changes, told):
    with pytest.raises(ConfigError) as error:
        assemble(resolve(config(model, **changes)))
    assert told in str(error.value)
