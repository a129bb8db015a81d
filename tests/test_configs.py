"""Every file in configs/ resolves, builds and steps at a tiny size, and says how to run it and what to expect."""

import ast
import inspect
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import REPOSITORY

from tools.benchmarks.small_configs import KNOWN, loaded, small
from vision.config.duration import steps_of
from vision.data import inputs, tokenizer
from vision.data.source import ArraySource
from vision.data.sources import Opener
from vision.data.sources.captions import pack
from vision.errors import ConfigError
from vision.objectives import WITHOUT_LABELS
from vision.training import assemble as module
from vision.training.evaluators import make_evaluators
from vision.training.make_optimizer import make_optimizer, make_schedule

CONFIGS = sorted(path for path in (REPOSITORY / "configs").glob("*.py") if path.name != "__init__.py")
# What stands behind the colon of `configs/x.py:argument`; the first is the default.
ARGUMENTS = {
    "clip_flickr8k": ("runs/folder_resnet",),
    "clip_vit": ("B32", "B16"),
    "deit_s16_distilled_imagenet": ("runs/resnet50_imagenet",),
    "lit_coco": ("runs/vit_b16",),
    "words_shapes": ("next", "masked"),
    "few_labels_fashion_mnist": ("vgg", "vit", "lenet"),
    "degradation_cifar10": ("plain20", "plain56", "resnet20", "resnet56"),
    "dino_fashion_mnist": ("quick", "full"),
    "dino_resnet18_cifar10": ("solo_learn", "lightly"),
    "dino_vits16_imagenet": ("vanilla", "boosted"),
    "cifar10_airbench": ("10", "8"),
    "alexnet_imagenet": ("2012", "torchvision"),
    "convnext_imagenet": ("T", "S", "B", "L"),
    "lenet_mnist": ("5", "5_1998"),
    "mixer_b16_imagenet": ("300", "60"),
    "resnet50_imagenet": ("50", "18", "34", "101", "152"),
    "resnet50_rsb_imagenet": ("a1", "a2", "a3"),
    "resnet_cifar10": ("20", "32", "44", "56", "110", "20,3"),
    "vgg_imagenet": ("16", "11", "13", "19", "11_bn", "13_bn", "16_bn", "19_bn"),
    "vit_s16_imagenet": ("90", "300"),
}
SPECS = [path.stem for path in CONFIGS] + [f"{stem}:{each}" for stem, all_of in ARGUMENTS.items() for each in all_of]
# What steps in the quick tests: small networks, each kind once. The configs beside them, and one of each network and
# recipe that an argument chooses, are traced with few layers, and step with all of them in the slow tests.
TRACED = [path.stem for path in CONFIGS if "imagenet" in path.stem] + [
    "clip_flickr8k",
    "clip_vit",
    "lit_coco",
    "siglip_b16",
    "dino_fashion_mnist",
    "few_labels_fashion_mnist",
    "degradation_cifar10",
    "degradation_cifar10:resnet56",
    "dino_fashion_mnist:full",
    "dino_resnet18_cifar10",
    "dino_resnet18_cifar10:lightly",
    "alexnet_imagenet:torchvision",
    "cifar10_airbench",
    "lenet_mnist",
    "lenet_mnist:5_1998",
    "resnet50_rsb_imagenet:a3",
    "resnet_cifar10",
    "simclr_fashion_mnist",
    "simclr_resnet18_cifar10",
    "transfer_fashion_mnist",
    "vgg_imagenet:16_bn",
]
STEPPED = [path.stem for path in CONFIGS if path.stem not in TRACED]


@pytest.fixture
def stand_in(monkeypatch):
    def make(opener, split):
        shape, classes, _ = KNOWN[opener.name]
        generator = np.random.default_rng(len(split or ""))
        arrays = {"image": generator.integers(0, 256, (40, *shape), dtype=np.uint8)}
        if classes:
            heldout = 8 if opener.name == "shapes24" else 0  # classes that no other split has
            first, last = (classes - heldout, classes) if split == "heldout" else (0, classes - heldout)
            arrays["label"] = generator.integers(first, last, 40).astype(np.int32)
        if not classes or opener.name == "shapes24":
            arrays |= pack([[f"a picture of {word}", f"{word} again"] for word in map(str, range(40))])
        return ArraySource(arrays, classes, tuple(f"class {number}" for number in range(classes)))

    monkeypatch.setattr(Opener, "__call__", make)
    vocabulary = tokenizer.train(["a picture of something"], vocab_size=tokenizer.LEAST_SIZE)
    monkeypatch.setattr(inputs, "load", lambda path: vocabulary)


def tiny(spec: str, *, batch_size: int, shallow: bool = False):
    return module.assemble(small(spec, batch_size=batch_size, shallow=shallow))


def check_steps(experiment):
    """Two steps change parameters, losses and metrics of evaluations are finite."""
    state = experiment.init(experiment.constants.keys.init)
    before = jax.device_get(state.params)
    for step in range(2):
        state, metrics = experiment.step(state, experiment.pipeline.batch(step), experiment.constants)
        assert np.isfinite(float(metrics["loss"][0]))
    assert experiment.step._cache_size() == 1, "the second step was compiled anew"
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, jax.device_get(state.params))
    assert any(jax.tree.leaves(moved))
    for evaluator in make_evaluators(experiment).values():
        assert all(np.isfinite(value).all() for _, value in evaluator.run(state))


def check_traces(experiment):
    """The step gives a state of the same shapes and types, and evaluations can be made."""
    state, batch = experiment.abstract_state, experiment.pipeline.spec()
    after, metrics = jax.eval_shape(experiment.step, state, batch, experiment.constants)
    same = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), state, after)
    assert all(jax.tree.leaves(same))
    learns_from_labels = experiment.config["objective"]["name"] not in WITHOUT_LABELS
    assert {"loss", *["accuracy"] * learns_from_labels} <= set(metrics)
    assert set(make_evaluators(experiment)) == set(experiment.config["evals"])


@pytest.mark.parametrize("spec", STEPPED)
def test_builds_and_steps_at_tiny_size(spec, stand_in):
    check_steps(tiny(spec, batch_size=16, shallow=True))


@pytest.mark.slow
@pytest.mark.parametrize("spec", TRACED)
def test_traced_ones_step_too(spec, stand_in):
    check_steps(tiny(spec, batch_size=8))


@pytest.mark.slow
@pytest.mark.parametrize("spec", sorted({*SPECS} - {*STEPPED} - {*TRACED}))
def test_every_other_argument_traces(spec, stand_in):
    check_traces(tiny(spec, batch_size=8))


# Of the many recipes of self-supervised learning one of each objective is traced quickly.
QUICKLY = {"dino_vits16_imagenet", "simclr_fashion_mnist", "mae_vitb16_imagenet"}
TRACED_SLOWLY = [spec for spec in TRACED if spec.startswith(("dino", "simclr", "mae")) and spec not in QUICKLY]


@pytest.mark.parametrize("spec", [pytest.param(s, marks=[pytest.mark.slow] * (s in TRACED_SLOWLY)) for s in TRACED])
def test_others_trace(spec, stand_in):
    check_traces(tiny(spec, batch_size=8, shallow=True))


def schedule_of(spec: str):
    """Returns the learning rate as a function of the step and the number of steps, both at the published size."""
    config = loaded(spec)
    examples = KNOWN[config["data"]["name"]][2]
    if config["data"]["split"] == "train[:99%]":
        examples = round(0.99 * examples)
    in_steps = partial(steps_of, batch_size=config["batch_size"], num_examples=examples)
    total = in_steps(config["duration"], "config.duration")
    return make_schedule(config["optimizer"], total, in_steps), total, in_steps


@pytest.mark.parametrize("spec", SPECS)
def test_schedule_and_batches_hold_at_their_real_size(spec):
    config = loaded(spec)
    schedule, total, in_steps = schedule_of(spec)
    warmup = in_steps(config["optimizer"]["warmup"] or {"steps": 0}, "config.optimizer.warmup")
    assert warmup < total
    assert float(schedule(warmup)) == pytest.approx(config["optimizer"]["learning_rate"])
    assert float(schedule(total - 1)) < float(schedule(warmup))
    for when in config["optimizer"]["schedule"].get("at", ()):
        assert in_steps(when, "at") < total
    assert config["batch_size"] % 8 == 0, "the devices of a machine share a batch"


@pytest.mark.parametrize(
    ("spec", "step", "rate"),
    [
        # He et al. 2016, section 4.2: 0.1, divided by 10 at 32,000 and 48,000 iterations; 110 layers warm up before.
        ("resnet_cifar10:56", 31_999, 0.1),
        ("resnet_cifar10:56", 32_000, 0.01),
        ("resnet_cifar10:56", 48_000, 0.001),
        ("resnet_cifar10:110", 31_999, 0.1),
        ("resnet_cifar10:110", 32_000, 0.01),
        ("resnet_cifar10:110", 48_000, 0.001),
        # An epoch of ImageNet in batches of 256 is 5,004.6 steps.
        ("resnet50_imagenet", 30 * 5004, 0.1),
        ("resnet50_imagenet", 30 * 5005, 0.01),
        # big_vision: warm-up to 10,000 steps, then half a cosine; at the middle of the rest the half.
        ("vit_s16_imagenet:90", 5_000, 0.5e-3),
        ("vit_s16_imagenet:90", 10_000 + (111_476 - 10_000) // 2, 0.5e-3),
        ("mixer_b16_imagenet:300", 92_897, 1e-8),
        # "ResNet strikes back": 5 epochs of 625.6 steps up to 8e-3, and down to 1e-6.
        ("resnet50_rsb_imagenet:a3", 3128, 8e-3),
        ("resnet50_rsb_imagenet:a3", 62_557, 1e-6),
        # MAE: 40 epochs of 312.8 steps up to 2.4e-3, half of it in the middle of the 760 after them.
        ("mae_vitb16_imagenet", 12_511, 2.4e-3),
        ("mae_vitb16_imagenet", 420 * 312.78, 1.2e-3),
        # solo-learn: 10 epochs of 195.3 steps up to 0.4, half of it in the middle of the 990 after them.
        ("simclr_resnet18_cifar10", 1953, 0.4),
        ("simclr_resnet18_cifar10", 505 * 195.3, 0.2),
        # airbench94_muon: a straight line to 0 over 200 steps.
        ("cifar10_airbench:8", 50, 0.18),
        ("cifar10_airbench:8", 199, 0.0012),
    ],
)
def test_learning_rates_are_the_published_ones(spec, step, rate):
    schedule, _, _ = schedule_of(spec)
    assert float(schedule(step)) == pytest.approx(rate, rel=1e-3)


LENGTHS: dict[str, Any] = {"total_steps": 100, "in_steps": lambda duration, path: 10}


def first_update(spec, params, gradients, rate):
    """The first update of a config's optimizer at a constant learning rate."""
    optimizer = make_optimizer(loaded(spec)["optimizer"], optax.constant_schedule(rate), params, **LENGTHS)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    return updates


@pytest.mark.parametrize(
    ("spec", "rate", "kernel", "other"),
    [
        # What the weight decay alone takes of a parameter at the peak of the learning rate. He et al. and torchvision
        # decay all parameters, times the learning rate; big_vision takes 1e-4 of kernels, beside it; the rest is AdamW.
        ("resnet_cifar10", 0.1, 0.1 * 1e-4, 0.1 * 1e-4),
        ("resnet50_imagenet", 0.1, 0.1 * 1e-4, 0.1 * 1e-4),
        ("alexnet_imagenet:2012", 0.01, 0.01 * 5e-4, 0.01 * 5e-4),
        ("vgg_imagenet", 0.01, 0.01 * 1e-4, 0.01 * 1e-4),
        ("vit_s16_imagenet", 1e-3, 1e-4, 0.0),
        ("mixer_b16_imagenet", 1e-3, 1e-4, 0.0),
        ("deit_s16_imagenet", 1e-3, 1e-3 * 0.05, 0.0),
        ("convnext_imagenet", 4e-3, 4e-3 * 0.05, 0.0),
        ("mae_vitb16_imagenet", 2.4e-3, 2.4e-3 * 0.05, 0.0),
        ("simclr_resnet18_cifar10", 0.4, 0.4 * 1e-4, 0.0),
    ],
)
def test_weight_decay_is_the_published_one(spec, rate, kernel, other):
    assert loaded(spec)["optimizer"]["learning_rate"] == pytest.approx(rate)
    params = {"layer": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3), "scale": jnp.ones(3)}}
    updates = first_update(spec, params, jax.tree.map(jnp.zeros_like, params), rate)["layer"]
    np.testing.assert_allclose(updates["kernel"], -kernel, rtol=1e-6)
    np.testing.assert_allclose(updates["bias"], -other, rtol=1e-6)
    np.testing.assert_allclose(updates["scale"], -other, rtol=1e-6)


@pytest.mark.parametrize("size", [1e-6, 1e-2])
def test_lamb_sees_the_mean_over_classes_that_timm_has(size):
    """timm averages over 1,000 classes, then clips to 1 and adds 1e-6; here the sum over classes takes the same step.

    Gradients of 1e-6 are where the epsilon shows, 1e-2 over 400 x 400 weights is where the clipping does.
    """
    generator = np.random.default_rng(0)
    weights, mean = generator.normal(size=(400, 400)), size * generator.normal(size=(400, 400))
    updates = first_update(
        "resnet50_rsb_imagenet:a1",
        {"kernel": jnp.asarray(weights, jnp.float32), "scale": jnp.ones(1)},
        {"kernel": jnp.asarray(1000 * mean, jnp.float32), "scale": jnp.zeros(1)},
        5e-3,
    )
    clipped = mean / max(1.0, np.linalg.norm(mean))
    # The first step of Adam: both averages, with their bias corrected, are the gradient and its square.
    direction = clipped / (np.abs(clipped) + 1e-6) + 0.01 * weights
    expected = -5e-3 * np.linalg.norm(weights) / np.linalg.norm(direction) * direction
    np.testing.assert_allclose(updates["kernel"], expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("stem", ARGUMENTS)
def test_the_first_argument_is_the_default(stem):
    assert loaded(stem) == loaded(f"{stem}:{ARGUMENTS[stem][0]}")


@pytest.mark.parametrize(
    "stem",
    sorted(
        ARGUMENTS.keys()
        - {"clip_flickr8k", "deit_s16_distilled_imagenet", "lit_coco", "mixer_b16_imagenet", "vit_s16_imagenet"}
    ),
)
def test_an_unknown_argument_is_refused_by_its_name(stem):
    with pytest.raises(ConfigError, match="none"):
        loaded(f"{stem}:none")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_docstring_has_the_command_and_the_expected_result(path: Path):
    text = inspect.cleandoc(ast.get_docstring(ast.parse(path.read_text())) or "")
    assert f"python -m experiments.train --config configs/{path.name}" in text
    assert "Expected:" in text


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_arguments_are_tested(path: Path):
    functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    takes_one = any(node.args.args for node in functions if node.name == "get_config")
    assert takes_one == (path.stem in ARGUMENTS or path.stem.startswith("folder"))
