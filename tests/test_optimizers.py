"""Every optimizer takes the steps of PyTorch or of its paper; rules per parameter do what they say and no more."""

import functools
import itertools
import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vision.config.calling import fill_named
from vision.config.loading import plain
from vision.errors import ConfigError
from vision.training.make_optimizer import make_optimizer
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
    lengths: dict[str, Any] = {"total_steps": 100, "in_steps": lambda duration, path: 10}
    return make_optimizer(full, optax.constant_schedule(full["learning_rate"]), params, **lengths)


def trajectory(params, gradients, optimizer) -> list:
    @jax.jit
    def step(params, state, gradient):
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    state, path = jax.jit(optimizer.init)(params), []
    for gradient in gradients:
        params, state = step(params, state, gradient)
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


@pytest.mark.parametrize("name", ["lamb", "lars"])
def test_trust_ratio_lets_a_tensor_of_zeros_start(name):
    params, gradients = {"kernel": jnp.zeros((4, 3))}, {"kernel": jnp.full((4, 3), 2.0)}
    plain_step = {"lamb": RATE * 1.0, "lars": RATE * 2.0}[name]  # Adam's first step is the sign, SGD's the gradient
    assert_close(after_one_step(params, gradients, name), {"kernel": jnp.full((4, 3), -plain_step)})


def test_muon_takes_a_convolution_as_the_matrix_of_its_inputs_and_outputs(network, gradients):
    options = {"name": "muon", "nesterov": False}
    kernel, gradient = network["stem"]["kernel"], gradients["stem"]["kernel"]
    whole = after_one_step({"kernel": kernel}, {"kernel": gradient}, **options)
    matrix = after_one_step({"kernel": kernel.reshape(18, 4)}, {"kernel": gradient.reshape(18, 4)}, **options)
    assert_close({"kernel": whole["kernel"].reshape(18, 4)}, matrix)
    singular = np.linalg.svd(np.asarray(kernel - whole["kernel"]).reshape(18, 4) / RATE, compute_uv=False)
    assert singular.min() > 0.6
    assert singular.max() < 1.3  # Jordan et al.: the iteration leaves them around 1


def test_what_muon_excludes_is_trained_as_what_is_no_matrix(network, gradients):
    options = {"others": "sgd", "momentum": 0.5, "exclude": ["^head/"], "weight_decay": 0.1}
    muon = trajectory(network, [gradients] * 2, build(network, "muon", **options))[-1]
    whole = {**options, "exclude": [], "weight_decay": 0.1}
    all_matrices = trajectory(network, [gradients] * 2, build(network, "muon", **whole))[-1]
    sgd = trajectory(network, [gradients] * 2, build(network, "sgd", momentum=0.5, nesterov=True, weight_decay=0.1))[-1]
    assert_close(muon["head"], sgd["head"])
    assert_close({"kernel": muon["block_0"]["kernel"]}, {"kernel": all_matrices["block_0"]["kernel"]}, rtol=0, atol=0)
    assert np.abs(all_matrices["head"]["kernel"] - sgd["head"]["kernel"]).max() > 0.01


def test_unit_rows_undo_the_scale_of_a_matrix(network, gradients):
    """Jordan 2024's released code: the norm is sqrt(outputs) before each step, whatever it was."""
    options = {"unit_rows": True, "weight_decay": 0.0}
    once = after_one_step(network, gradients, "muon", **options)
    larger = {**network, "block_0": {**network["block_0"], "kernel": 7.0 * network["block_0"]["kernel"]}}
    again = after_one_step(larger, gradients, "muon", **options)
    assert_close(again, once, rtol=1e-4, atol=1e-5)


def test_what_is_trained_for_a_while_has_the_whole_schedule_in_it_and_then_stays(network, gradients):
    section = plain({"name": "sgd", "learning_rate": 0.4, "rules": [("^stem/bias", {"train_for": {"epochs": 1}})]})
    full = fill_named(
        OPTIMIZERS, section, "config.optimizer", kind="optimizer", provided=("rate", "decay"), common=optimizer_section
    )
    lengths: dict[str, Any] = {"total_steps": 8, "in_steps": lambda duration, path: 4}
    optimizer = make_optimizer(full, optax.linear_schedule(0.4, 0.0, 8), network, **lengths)
    path = [network, *trajectory(network, [gradients] * 8, optimizer)]
    for step, (before, after) in enumerate(itertools.pairwise(path)):
        moved = before["stem"]["bias"] - after["stem"]["bias"]
        rate = 0.4 * max(1 - step / 4, 0)
        np.testing.assert_allclose(moved, rate * gradients["stem"]["bias"], rtol=1e-4, atol=1e-6)
        assert (rate == 0.0) == np.array_equal(before["stem"]["bias"], after["stem"]["bias"])
        moved = before["head"]["bias"] - after["head"]["bias"]
        np.testing.assert_allclose(moved, 0.4 * (1 - step / 8) * gradients["head"]["bias"], rtol=1e-4, atol=1e-6)


def test_what_cannot_be_of_a_while_or_an_exclusion_is_told(network):
    with pytest.raises(ConfigError, match="train_for: must be more than 0 steps"):
        build(network, rules=[("stem", {"train_for": 0})])
    with pytest.raises(ConfigError, match="no regular expression"):
        build(network, "muon", exclude=["("])
    with pytest.raises(ConfigError, match="matches no parameter"):
        build(network, "muon", exclude=["^haed"])


def test_freezing_first_and_later_are_not_for_one_parameter(network):
    with pytest.raises(ConfigError, match="freeze_for and train_for"):
        build(network, rules=[("stem", {"freeze_for": {"steps": 1}}), ("bias", {"train_for": {"steps": 1}})])


@pytest.mark.parametrize("name", NAMES)
def test_learning_rate_follows_the_schedule(name):
    params, gradients = arrays(GOLDEN["params"]), list(map(arrays, GOLDEN["gradients"]))
    update = functools.partial(OPTIMIZERS[name], decay=optax.identity())
    path = trajectory(params, gradients[:3], update(rate=lambda count: jnp.where(count == 0, RATE, 0.0)))
    # Momentum may coast where the learning rate is inside it; nothing else may move at rate 0.
    assert all(np.any(path[0][leaf] != params[leaf]) for leaf in params)
    if name != "lars":
        assert_close(path[2], path[0], rtol=0, atol=0)


# Rules per parameter.


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_leaves_frozen_parameters_alone_and_keeps_nothing_for_them(name, network, gradients):
    rules = [("^block_0/", {"freeze": True}), ("stem/bias", {"freeze": True})]
    optimizer = build(network, name, rules=rules, weight_decay=0.1, clip_global_norm=1.0)
    before, after = flat(network), flat(trajectory(network, [gradients] * 3, optimizer)[-1])
    frozen = {"block_0/kernel", "block_0/bias", "stem/bias"}
    for path in before:
        assert np.all(np.isfinite(after[path])), path
        assert np.array_equal(before[path], after[path]) == (path in frozen), path
    kept = [leaf.size for leaf in jax.tree.leaves(optimizer.init(network)) if leaf.ndim]
    trained = [value.size for path, value in before.items() if path not in frozen]
    assert set(kept) <= set(trained)  # no two sizes are alike, so a size tells whose state it is


@pytest.mark.parametrize("name", NAMES)
def test_frozen_parameters_change_nothing_for_the_others(name, network, gradients):
    rules = [("^block_0/", {"freeze": True})]
    whole = trajectory(network, [gradients] * 2, build(network, name, rules=rules, clip_global_norm=0.5))[-1]
    rest = {key: value for key, value in network.items() if key != "block_0"}
    alone = trajectory(rest, [{key: gradients[key] for key in rest}] * 2, build(rest, name, clip_global_norm=0.5))[-1]
    assert_close({key: whole[key] for key in rest}, alone, rtol=1e-6)


def test_everything_frozen_trains_nothing(network, gradients):
    frozen = after_one_step(network, gradients, "adamw", rules=[(".", {"freeze": True})], clip_global_norm=1.0)
    assert_close(frozen, network, rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_learning_rate_scale_scales_the_step_of_its_parameter_only(name, network, gradients):
    usual = after_one_step(network, gradients, name, weight_decay=0.1)
    rules = [("head/kernel", {"learning_rate_scale": 0.25}), ("stem", {"learning_rate_scale": 0.0})]
    scaled = after_one_step(network, gradients, name, weight_decay=0.1, rules=rules)
    factors = {"head/kernel": 0.25, "stem/kernel": 0.0, "stem/bias": 0.0}
    before, usual = flat(network), flat(usual)
    expected = {path: before[path] + factors.get(path, 1.0) * (usual[path] - before[path]) for path in before}
    for path, value in flat(scaled).items():
        np.testing.assert_allclose(value, expected[path], rtol=1e-5, atol=1e-6, err_msg=path)


def test_weight_decay_of_a_rule_replaces_the_common_one(network, gradients):
    rules = [("bias$", {"weight_decay": 0.0}), ("head/", {"weight_decay": 0.5})]
    stepped = flat(after_one_step(network, gradients, weight_decay=0.1, rules=rules))
    gradients = flat(gradients)
    for path, value in flat(network).items():
        decay = 0.0 if path.endswith("bias") else 0.5 if path.startswith("head") else 0.1
        np.testing.assert_allclose(
            stepped[path], value - RATE * (gradients[path] + decay * value), rtol=1e-5, err_msg=path
        )


def test_first_rule_that_has_a_setting_decides_it():
    rules = [
        ("head", {"learning_rate_scale": 0.1}),
        ("kernel", {"learning_rate_scale": 0.5, "weight_decay": 0.2}),
        (".", {"weight_decay": 0.3, "freeze": True}),
    ]
    both = lambda path: tuple(setting(rules, path, name, None) for name in ("learning_rate_scale", "weight_decay"))  # noqa: E731
    assert both("head/kernel") == (0.1, 0.2)
    assert both("stem/kernel") == (0.5, 0.2)
    assert both("head/bias") == (0.1, 0.3)
    assert both("stem/bias") == (None, 0.3)
    assert setting(rules[:2], "head/bias", "freeze", False) is False


def test_clipping_bounds_the_norm_of_all_trained_parameters_together(network, gradients):
    rules = [("block_0", {"freeze": True})]
    flat_gradients = flat(gradients)
    norm = math.sqrt(sum(np.sum(g**2) for path, g in flat_gradients.items() if "block_0" not in path))
    for bound, factor in ((0.5, 0.5 / norm), (2 * norm, 1.0)):
        stepped = flat(after_one_step(network, gradients, rules=rules, clip_global_norm=bound))
        for path, value in flat(network).items():
            expected = value - RATE * factor * flat_gradients[path] if "block_0" not in path else value
            np.testing.assert_allclose(stepped[path], expected, rtol=1e-5, atol=1e-7, err_msg=path)


def test_clipping_does_not_count_the_weight_decay(network):
    nothing = jax.tree.map(jnp.zeros_like, network)
    stepped = after_one_step(network, nothing, weight_decay=0.5, clip_global_norm=1e-3)
    assert_close(stepped, jax.tree.map(lambda p: p - RATE * 0.5 * p, network))


# Layer-wise learning rates.


def blocks(count: int) -> dict:
    leaf = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    return {"embedding": leaf, **{f"block_{i}": leaf for i in range(count)}, "norm": leaf, "head": leaf}


def test_layerwise_decay_counts_layers_from_the_head_in_numeric_order():
    params = blocks(12)
    layers = ("^embedding/", r"^block_(\d+)/", "^(?:norm|head)/")
    rules = layerwise_rules({"layers": layers, "decay": 0.5}, params, "here")
    scale = lambda path: setting(rules, path, "learning_rate_scale", None)  # noqa: E731
    assert scale("head/kernel") == scale("norm/bias") == 1.0
    for block in range(12):  # block_11 is one below the head, block_0 twelve, the embedding thirteen
        assert scale(f"block_{block}/kernel") == scale(f"block_{block}/bias") == 0.5 ** (12 - block)
    assert scale("embedding/kernel") == 0.5**13


def test_layerwise_decay_reaches_the_step_and_a_rule_overrides_it():
    params = blocks(3)
    ones = jax.tree.map(jnp.ones_like, params)
    layers = {"decay": 0.5, "layers": ("^embedding/", r"^block_(\d+)/", "^(?:norm|head)/")}
    rules = [("block_1/bias", {"learning_rate_scale": 3.0})]
    moved = flat(jax.tree.map(jnp.subtract, params, after_one_step(params, ones, rules=rules, layerwise_decay=layers)))
    scales = {"embedding": 0.0625, "block_0": 0.125, "block_1": 0.25, "block_2": 0.5, "norm": 1.0, "head": 1.0}
    for path, value in moved.items():
        scale = 3.0 if path == "block_1/bias" else scales[path.split("/")[0]]
        np.testing.assert_allclose(value, RATE * scale, rtol=1e-5, err_msg=path)


@pytest.mark.parametrize(
    ("layers", "decay", "message"),
    [
        (("^embedding/", r"^block_(\d+)/", "^norm/"), 0.5, "no layer for head/bias, head/kernel"),
        (("^embedding/", "^blocks/", "."), 0.5, "'^blocks/' matches no parameter"),
        (("^embedding/", "^(block|norm|head)"), 0.5, "must match a number, got 'block'"),
        (("^(embedding)?", "."), 0.5, "must match a number, got None"),
        ((".",), 1.5, "must be in (0, 1], got 1.5"),
        ((".",), 0.0, "must be in (0, 1], got 0.0"),
    ],
)  # fmt: skip
def test_layers_that_make_no_order_are_refused(layers, decay, message):
    with pytest.raises(ConfigError) as caught:
        build(blocks(2), layerwise_decay={"decay": decay, "layers": layers})
    assert f"config.optimizer.layerwise_decay.{'decay' if len(layers) == 1 else 'layers'}" in str(caught.value)
    assert message in str(caught.value)


# What cannot be is refused in one line that says where.


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([("bias", {}), ("hede/kernel", {"freeze": True})],
         "rules[1]: 'hede/kernel' matches no parameter; did you mean 'head/kernel'?"),
        ([("^Stem/kernel$", {"freeze": True})], "did you mean 'stem/kernel'?"),
        ([("block_(", {"freeze": True})], "rules[0]: 'block_(' is no regular expression"),
        ([("head", {"weight_decy": 0.0})], "rules[0].weight_decy: unknown setting; did you mean 'weight_decay'?"),
        ([("head", {"freeze": 1})], "rules[0].freeze: expected bool, got 1"),
        ([("head", {"weight_decay": True})], "rules[0].weight_decay: expected float, got True"),
        ([("head", {"weight_decay": "0.1"})], "rules[0].weight_decay: expected float, got '0.1'"),
        ([("head", {"weight_decay": -0.1})], "rules[0].weight_decay: must be a number >= 0, got -0.1"),
        ([("head", {"learning_rate_scale": -1})], "rules[0].learning_rate_scale: must be a number >= 0, got -1"),
        ([("head", {"learning_rate_scale": math.inf})], "rules[0].learning_rate_scale: must be a number >= 0, got inf"),
        ([("head", {"learning_rate_scale": math.nan})], "rules[0].learning_rate_scale: must be a number >= 0, got nan"),
    ],
)  # fmt: skip
def test_rule_that_cannot_be_is_refused(network, rules, message):
    with pytest.raises(ConfigError) as caught:
        build(network, rules=rules)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rule_of_a_wrong_form_is_refused(network):
    with pytest.raises(ConfigError, match="rules"):
        build(network, rules=[("head",)])
    with pytest.raises(ConfigError, match="rules"):
        build(network, rules=[("head", 0.1)])


IMPOSSIBLE = {
    "sgd": [{"momentum": 1.5}, {"momentum": -0.1}, {"nesterov": True}],
    "adagrad": [{"initial_accumulator": -0.1}, {"eps": -1.0}],
    "rmsprop": [{"smoothing": 1.0}, {"momentum": 1.5}, {"eps": -1.0}],
    "adam": [{"b1": 1.5}, {"b2": 1.0}, {"eps": -1.0}],
    "adamw": [{"b1": -0.1}, {"b2": 1.0}, {"eps": -1.0}],
    "lamb": [{"b1": 1.0}, {"b2": 1.5}, {"eps": -1.0}],
    "lars": [{"momentum": 1.5}, {"trust_coefficient": -0.001}],
    "lion": [{"b1": 1.0}, {"b2": -0.1}],
    "muon": [{"beta": 1.5}, {"b1": 1.0}, {"b2": 1.0}, {"newton_schulz_steps": 0}, {"consistent_rms": 0.0}],
}


def test_no_optimizer_is_without_its_impossible_values():
    assert set(IMPOSSIBLE) == set(OPTIMIZERS)


@pytest.mark.parametrize(("name", "options"), [(name, each) for name in IMPOSSIBLE for each in IMPOSSIBLE[name]])
def test_impossible_value_is_refused_by_name(name, options, network):
    with pytest.raises(ConfigError, match=f"config.optimizer: .*{next(iter(options))}"):
        build(network, name, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"weight_decay": -0.1}, "weight_decay: must be >= 0"),
     ({"clip_global_norm": 0.0}, "clip_global_norm: must be > 0"),
     ({"weight_decay": math.nan}, "weight_decay: must be >= 0"),
     ({"clip_global_norm": math.nan}, "clip_global_norm: must be > 0")],
)  # fmt: skip
def test_impossible_common_value_is_refused_by_name(options, message, network):
    with pytest.raises(ConfigError, match=f"config.optimizer.{message}"):
        build(network, **options)
