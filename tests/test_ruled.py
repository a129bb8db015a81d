"""Rules that self-supervised recipes add: clipping by tensor and by module, late layers, weight decay by schedule."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vision.errors import ConfigError
from vision.training.clipping import clip_norms
from vision.training.optimizers import OPTIMIZERS
from vision.training.ruled import with_rules
from vision.training.rules import layerwise_rules, rules_in_steps
from vision.training.state import TrainState
from vision.training.step import _unless

PARAMS = {
    "backbone": {"kernel": jnp.full((2, 2), 0.5), "bias": jnp.ones(2)},
    "head": {"prototypes": jnp.full((2, 3), -1.0)},
}
GRADIENTS = {
    "backbone": {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.asarray([0.1, 0.2])},
    "head": {"prototypes": jnp.full((2, 3), 2.0)},
}
NONE_FROZEN = jax.tree.map(lambda x: False, PARAMS)


def clipped(most, over, frozen=NONE_FROZEN):
    return clip_norms(most, over, frozen).update(GRADIENTS, optax.EmptyState(), PARAMS)[0]


def test_each_tensor_is_clipped_on_its_own_as_dino_does():
    """coefficient = 3 / (norm + 1e-6) where that is below 1 (main_dino's utils.clip_gradients)."""
    found = clipped(3.0, "tensor")
    np.testing.assert_allclose(found["backbone"]["kernel"], 3.0 * 3.0 / (6.0 + 1e-6), rtol=1e-6)
    np.testing.assert_array_equal(found["backbone"]["bias"], GRADIENTS["backbone"]["bias"])
    np.testing.assert_allclose(found["head"]["prototypes"], 2.0 * 3.0 / (np.sqrt(24.0) + 1e-6), rtol=1e-6)


def test_each_module_is_clipped_on_its_own_as_dinov2_does():
    found = clipped(3.0, "module")
    norm = np.sqrt(36.0 + 0.05)
    np.testing.assert_allclose(found["backbone"]["kernel"], 3.0 * 3.0 / (norm + 1e-6), rtol=1e-6)
    np.testing.assert_allclose(found["backbone"]["bias"], np.asarray([0.1, 0.2]) * 3.0 / (norm + 1e-6), rtol=1e-6)
    np.testing.assert_allclose(found["head"]["prototypes"], 2.0 * 3.0 / (np.sqrt(24.0) + 1e-6), rtol=1e-6)


def test_what_is_frozen_counts_in_no_norm():
    frozen = {"backbone": {"kernel": True, "bias": False}, "head": {"prototypes": False}}
    found = clipped(1.0, "all", frozen)
    assert float(optax.tree.norm(found)) == pytest.approx(1.0, rel=1e-6)
    assert not np.any(found["backbone"]["kernel"])


def test_two_bounds_at_once_are_refused():
    with pytest.raises(ConfigError, match="one of clip_global_norm, clip_tensor_norm, clip_module_norm at most"):
        ruled(clips={"clip_global_norm": 1.0, "clip_tensor_norm": 1.0})
    with pytest.raises(ConfigError, match="x.clip_tensor_norm: must be > 0"):
        ruled(clips={"clip_tensor_norm": 0.0})


def rate(count):
    return 0.1 * (1.0 + count)


def ruled(**options):
    settings = {"weight_decay": 0.0, "rules": (), "where": "x", **options}
    return with_rules(lambda decay: OPTIMIZERS["adamw"](rate=rate, decay=decay), PARAMS, **settings)


def steps(optimizer, count):
    state, params, updates = optimizer.init(PARAMS), PARAMS, []
    for number in range(count):
        gradients = jax.tree.map(lambda g, number=number: g * (1 + number), GRADIENTS)
        update, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, update)
        updates.append(update)
    return updates


def test_a_late_layer_begins_anew_at_the_learning_rate_of_its_step():
    """DINO cancels the last layer's gradients in the first epoch: AdamW then skips it, and counts from there."""
    updates = steps(ruled(rules=((r"prototypes", {"freeze_for": 2}),)), 4)
    for early in updates[:2]:
        assert not np.any(early["head"]["prototypes"])
    # Adam's first update has the size of the learning rate, here that of step 2, 0.3: bias correction begins with it.
    np.testing.assert_allclose(updates[2]["head"]["prototypes"], -0.3, rtol=1e-5)
    alone = with_rules(
        lambda decay: OPTIMIZERS["adamw"](rate=lambda count: rate(count + 2), decay=decay),
        PARAMS,
        weight_decay=0.0,
        rules=(),
        where="x",
    )
    state, gradients = alone.init(PARAMS), [jax.tree.map(lambda g, n=n: g * (1 + n), GRADIENTS) for n in (2, 3)]
    first, state = alone.update(gradients[0], state, PARAMS)
    second, _ = alone.update(gradients[1], state, optax.apply_updates(PARAMS, first))
    np.testing.assert_allclose(updates[3]["head"]["prototypes"], second["head"]["prototypes"], rtol=1e-6)
    others = steps(ruled(), 4)
    for one, other in zip(updates, others, strict=True):
        np.testing.assert_array_equal(one["backbone"]["kernel"], other["backbone"]["kernel"])


def test_a_skipped_step_makes_the_wait_no_longer_and_the_schedule_no_older():
    """Time goes on in a step that is skipped for a loss that is not finite, for late layers too."""
    optimizer = ruled(rules=((r"prototypes", {"freeze_for": 2}),))
    old = TrainState(jnp.int32(0), PARAMS, {}, optimizer.init(PARAMS))
    _, opt_state = optimizer.update(GRADIENTS, old.opt_state, PARAMS)
    skipped = _unless(jnp.bool_(False), TrainState(jnp.int32(1), PARAMS, {}, opt_state), old)
    _, opt_state = optimizer.update(GRADIENTS, skipped.opt_state, PARAMS)
    update, _ = optimizer.update(GRADIENTS, opt_state, PARAMS)
    np.testing.assert_allclose(update["head"]["prototypes"], -0.3, rtol=1e-5)


def test_weight_decay_follows_its_schedule_but_where_a_rule_says_otherwise():
    decay_at = optax.cosine_decay_schedule(0.04, 10, 10.0)  # DINO's, from 0.04 to 0.4
    quiet = jax.tree.map(jnp.zeros_like, GRADIENTS)
    optimizer = ruled(weight_decay=0.04, decay_at=decay_at, rules=((r"bias", {"weight_decay": 0.0}),))
    state = optimizer.init(PARAMS)
    for step in range(6):
        update, state = optimizer.update(quiet, state, PARAMS)
        decay = 0.4 + 0.5 * (0.04 - 0.4) * (1 + np.cos(np.pi * step / 10))
        np.testing.assert_allclose(update["backbone"]["kernel"], -rate(step) * decay * 0.5, rtol=2e-5)
        assert not np.any(update["backbone"]["bias"])


def test_a_late_layer_is_decayed_by_the_schedule_of_its_step():
    decay_at = optax.linear_schedule(0.1, 0.5, 4)
    quiet = jax.tree.map(jnp.zeros_like, GRADIENTS)
    optimizer = ruled(weight_decay=0.1, decay_at=decay_at, rules=((r"prototypes", {"freeze_for": 3}),))
    state = optimizer.init(PARAMS)
    for _ in range(4):
        update, state = optimizer.update(quiet, state, PARAMS)
    np.testing.assert_allclose(update["head"]["prototypes"], -rate(3) * 0.4 * -1.0, rtol=1e-6)


def test_durations_of_rules_are_steps_of_the_training():
    rules = rules_in_steps(((r"a", {"freeze_for": {"epochs": 2}}), (r"b", {"freeze": True})), lambda d, key: 7)
    assert rules == [(r"a", {"freeze_for": 7}), (r"b", {"freeze": True})]


def test_learning_rates_by_layer_are_those_of_dinov2():
    """0.9 ** (L + 1 - layer): embeddings are layer 0, block i is i + 1, the rest L + 1; the patches a fifth more."""
    leaves = ["patch_embedding/kernel", "class_token", "encoder/block00/k", "encoder/block11/k", "norm/scale"]
    params = {leaf: jnp.zeros(()) for leaf in leaves}
    section = {
        "decay": 0.9,
        "layers": (r"_token$|patch_embedding", r"/block(\d+)/", r"."),
        "factors": ((r"patch_embedding", 0.2),),
    }
    found = dict(zip(leaves, (0.2 * 0.9**3, 0.9**3, 0.9**2, 0.9, 1.0), strict=True))  # two blocks here
    rules = {pattern: settings["learning_rate_scale"] for pattern, settings in layerwise_rules(section, params, "x")}
    assert {pattern.strip("^$").replace("\\", ""): scale for pattern, scale in rules.items()} == pytest.approx(found)


def test_clipped_lars_moves_no_kernel_by_more_than_its_share_and_others_like_sgd():
    """solo-learn's LARS with clip_lr: gradient times min(eta ||p|| / ||g|| / rate, 1)."""
    optimizer = OPTIMIZERS["lars"](
        rate=lambda count: 0.1, decay=optax.identity(), momentum=0.0, trust_coefficient=0.02, clip=True
    )
    large, _ = optimizer.update(GRADIENTS, optimizer.init(PARAMS), PARAMS)
    assert float(optax.tree.norm(large["head"])) == pytest.approx(0.02 * np.sqrt(6.0), rel=1e-5)
    np.testing.assert_allclose(large["backbone"]["bias"], -0.1 * GRADIENTS["backbone"]["bias"], rtol=1e-6)
    quiet = jax.tree.map(lambda g: 1e-3 * g, GRADIENTS)
    small, _ = optimizer.update(quiet, optimizer.init(PARAMS), PARAMS)
    np.testing.assert_allclose(small["head"]["prototypes"], -0.1 * quiet["head"]["prototypes"], rtol=1e-6)
