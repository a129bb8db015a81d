"""Every optimizer takes the steps of PyTorch or of its paper; rules per parameter do what they say and no more."""

import functools
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vision.config.calling import fill_named
from vision.config.loading import plain
from vision.errors import ConfigError
from vision.training.assemble import make_optimizer
from vision.training.optimizers import OPTIMIZERS
from vision.training.rules import layerwise_rules, paths_of, setting
from vision.training.schema import optimizer_section

GOLDEN = json.loads((Path(__file__).parent / "goldens" / "optimizers.json").read_text())
RATE = GOLDEN["learning_rate"]
NAMES = sorted(OPTIMIZERS)


def arrays(tree) -> dict:
    return {name: jnp.asarray(value, jnp.float32) for name, value in tree.items()}


def build(params, name="sgd", **options) -> optax.GradientTransformation:
    """The optimizer of a config section, as a run builds it."""
    section = plain({"name": name, "learning_rate": RATE, **options})
    full = fill_named(
        OPTIMIZERS, section, "config.optimizer", kind="optimizer", provided=("rate", "decay"), common=optimizer_section
    )
    return make_optimizer(full, optax.constant_schedule(full["learning_rate"]), params)


def trajectory(params, gradients, optimizer) -> list:
    state, path = optimizer.init(params), []
    update = jax.jit(optimizer.update)
    for gradient in gradients:
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return path


def after_one_step(params, gradients, name="sgd", **options):
    return trajectory(params, [gradients], build(params, name, **options))[0]


@pytest.fixture
def network() -> dict:
    """Parameters as a convolutional network has them."""
    draw = iter(jax.random.split(jax.random.key(3), 6))
    normal = lambda *shape: jax.random.normal(next(draw), shape)  # noqa: E731
    return {
        "stem": {"kernel": normal(3, 3, 2, 4), "bias": normal(4)},
        "block_0": {"kernel": normal(4, 6), "bias": normal(6)},
        "head": {"kernel": normal(6, 3), "bias": normal(3)},
    }


@pytest.fixture
def gradients(network) -> dict:
    leaves, shape = jax.tree.flatten(network)
    keys = jax.random.split(jax.random.key(4), len(leaves))
    return shape.unflatten([jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)])


def flat(tree) -> dict[str, np.ndarray]:
    return dict(zip(paths_of(tree), map(np.asarray, jax.tree.leaves(tree)), strict=True))


def assert_close(ours, expected, **tolerances):
    ours, expected = flat(ours), flat(expected)
    assert ours.keys() == expected.keys()
    for path, value in ours.items():
        np.testing.assert_allclose(value, expected[path], err_msg=path, **({"rtol": 1e-5, "atol": 1e-6} | tolerances))


# The steps themselves.


def test_no_optimizer_is_without_an_outside_golden():
    assert {case["optimizer"] for case in GOLDEN["cases"]} == set(OPTIMIZERS)


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_trajectory_is_that_of_the_reference(case):
    params = arrays(GOLDEN["params"])
    optimizer = build(params, case["optimizer"], weight_decay=case["weight_decay"], **case["options"])
    path = trajectory(params, map(arrays, GOLDEN["gradients"]), optimizer)
    assert len(path) == len(case["trajectory"]) == 6
    for step, (ours, reference) in enumerate(zip(path, case["trajectory"], strict=True)):
        for name, value in reference.items():
            np.testing.assert_allclose(ours[name], value, rtol=1e-5, atol=1e-6, err_msg=f"{name} after step {step + 1}")
