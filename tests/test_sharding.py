"""Rules place the arrays they name, and a rule that places nothing is an error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mesh_of
from jax.sharding import PartitionSpec as P

from vision.errors import ConfigError
from vision.training.sharding import check_batch, make_mesh, state_shardings, with_shardings

SHAPES = {
    "params": {
        "head": {"kernel": jax.ShapeDtypeStruct((16, 6), jnp.float32), "bias": jax.ShapeDtypeStruct((6,), jnp.float32)}
    },
    "opt_state": (
        jax.ShapeDtypeStruct((), jnp.int32),
        {"head": {"kernel": jax.ShapeDtypeStruct((16, 6), jnp.float32)}},
    ),
}


def specs(rules, mesh=None):
    resolved = state_shardings(SHAPES, mesh or mesh_of(8, data=2, fsdp=4), rules, "config.sharding")
    return jax.tree.map(lambda sharding: sharding.spec, resolved)


def test_without_rules_everything_is_replicated():
    assert set(jax.tree.leaves(specs(()), is_leaf=lambda x: isinstance(x, P))) == {P()}


def test_fsdp_splits_the_largest_dimension_that_divides():
    got = specs(((".*", "fsdp(fsdp)"),))
    assert got["params"]["head"]["kernel"] == P("fsdp", None)
    assert got["params"]["head"]["bias"] == P(), "6 does not divide over 4"
    assert got["opt_state"] == (P(), {"head": {"kernel": P("fsdp", None)}}), "the optimizer's arrays follow"


def test_split_takes_the_dimension_it_names_and_the_first_rule_wins():
    mesh = mesh_of(8, data=1, fsdp=4, tensor=2)
    got = specs(((r"params/.*kernel", "split(-1, tensor)"), ("kernel", "replicate"), (".*", "fsdp(fsdp)")), mesh)
    assert got["params"]["head"]["kernel"] == P(None, "tensor")
    assert got["opt_state"][1]["head"]["kernel"] == P()


def test_one_tactic_after_the_other_takes_what_is_left():
    mesh = mesh_of(8, data=2, fsdp=2, tensor=2)
    got = specs((("kernel", "split(-1, tensor) + fsdp(fsdp)"), ("bias", "split(0, tensor) + fsdp(fsdp)")), mesh)
    assert got["params"]["head"]["kernel"] == P("fsdp", "tensor")
    assert got["params"]["head"]["bias"] == P("tensor"), "its only dimension is taken"
    assert specs((("kernel", "fsdp(fsdp, 97)"),), mesh)["params"]["head"]["kernel"] == P(), "16 x 6 are 96"
    assert specs((("kernel", "fsdp(fsdp, 96)"),), mesh)["params"]["head"]["kernel"] == P("fsdp", None)


def test_a_name_stands_for_its_rules_and_own_rules_go_before_it():
    mesh = mesh_of(8, data=2, fsdp=2, tensor=2)
    assert specs("tensor", mesh)["params"]["head"] == {"kernel": P(None, "tensor"), "bias": P("tensor")}
    assert specs((("bias", "replicate"), "tensor"), mesh)["params"]["head"]["bias"] == P()
    assert specs("replicate", mesh) == specs((), mesh)
    assert specs("tensor", mesh_of(8)) == specs((), mesh), "over an axis of one device nothing is split"
    four = mesh_of(8, data=2, fsdp=1, tensor=4)
    assert specs("tensor", four)["params"]["head"]["kernel"] == P(), "6 classes do not divide over 4, nor need they"
    with pytest.raises(ConfigError, match=r"config.sharding: unknown strategy 'tensors'; did you mean 'tensor'"):
        specs("tensors", mesh)
    with pytest.raises(ConfigError, match=r"config.sharding\[1\]: unknown strategy 'fdsp'; did you mean 'fsdp'"):
        specs((("bias", "replicate"), "fdsp"), mesh)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (("kernal", "replicate"), "matches no parameter.*did you mean"),
        (("(", "replicate"), "no regular expression"),
        (("kernel", "shard(fsdp)"), "unknown tactic"),
        (("kernel", "fsdp(model)"), "unknown tactic"),
        (("kernel", "fsdp(fsdp) + "), "unknown tactic"),
        (("kernel", "split(1, fsdp)"), "dimension 1 does not divide over 4"),
        (("kernel",), "regex, tactic"),
    ],
)
def test_wrong_rules_are_named(rule, message):
    with pytest.raises(ConfigError, match=message):
        specs((rule,))


def test_mesh_takes_what_is_left_and_refuses_what_does_not_fit():
    assert dict(make_mesh(data=-1, fsdp=2).shape) == {"data": 4, "fsdp": 2, "tensor": 1}
    for wrong in ({"data": 3}, {"data": -1, "fsdp": -1}, {"data": -1, "fsdp": 3}, {"data": 0}):
        with pytest.raises(ValueError, match="axis sizes|do not fit 8 devices"):
            make_mesh(**wrong)


def test_batch_must_divide_over_devices_and_microbatches():
    check_batch(16, mesh_of(8), 2)
    with pytest.raises(ConfigError, match=r"config.batch_size: 24 does not divide over 8 devices x 2"):
        check_batch(24, mesh_of(8), 2)


@pytest.mark.parametrize("axes", [{"data": 8}, {"data": 2, "fsdp": 4}, {"data": 2, "fsdp": 2, "tensor": 2}])
def test_sharded_training_gives_the_losses_of_one_device(axes, tiny_config):
    """The same run under data, fsdp and tensor sharding; parameters and optimizer state really are split."""
    from vision.config.loading import plain
    from vision.training import assemble as module
    from vision.training.schema import resolve

    tiny_config.mesh = axes
    rules = [] if "fsdp" not in axes else [["(hidden|head).*kernel", "fsdp(fsdp)"]]
    if "tensor" in axes:
        rules = [["hidden_0/kernel", "split(1, tensor)"], *rules]
    tiny_config.sharding = rules
    losses = []
    for sharded in (True, False):
        config = resolve(plain(tiny_config) | ({} if sharded else {"sharding": (), "mesh": {}}))
        experiment = module.assemble(config, devices=jax.devices()[: 8 if sharded else 1])
        state = experiment.init(experiment.constants.keys.init)
        if sharded and rules:
            assert any(leaf.sharding.spec != P() for leaf in jax.tree.leaves(state.params))
            assert any(leaf.sharding.spec != P() for leaf in jax.tree.leaves(state.opt_state))
            assert any(leaf.sharding.spec != P() for leaf in jax.tree.leaves(state.extra))
        for k in range(3):
            state, metrics = experiment.step(state, experiment.pipeline.batch(k), experiment.constants)
            losses.append(float(metrics["loss"][0]))
        expected = jax.tree.map(lambda leaf: leaf.sharding, experiment.abstract_state)
        assert jax.tree.all(jax.tree.map(lambda leaf, s: leaf.sharding.is_equivalent_to(s, leaf.ndim), state, expected))
    np.testing.assert_allclose(losses[:3], losses[3:], rtol=2e-5)


def test_restore_target_has_a_sharding_on_every_leaf():
    shardings = state_shardings(SHAPES, mesh_of(8), (), "config.sharding")
    target = with_shardings(SHAPES, shardings)
    assert all(leaf.sharding is not None for leaf in jax.tree.leaves(target))
