"""Every network and objective learns the same under every strategy; what follows a parameter lies where it does."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import mesh_of
from jax.sharding import PartitionSpec as P

from tools.strategies import MESHES, NETWORKS, OBJECTIVES, compared, experiment_of, train, within
from vision.analysis.collectives import collectives_of
from vision.training.optimizers import OPTIMIZERS
from vision.training.rules import paths_of
from vision.training.sharding import state_shardings

PRODUCT = "data=2 fsdp=2 tensor=2"


def specs(name):
    """``path -> PartitionSpec`` of the whole state, on the mesh of all three axes; nothing is compiled."""
    state = experiment_of(NETWORKS[name], MESHES[PRODUCT], steps=3, devices=8).abstract_state
    return dict(zip(paths_of(state), (leaf.sharding.spec for leaf in jax.tree.leaves(state)), strict=True))


def test_pairs_of_layers_are_split_by_outputs_and_then_by_inputs():
    """Shoeybi et al. 2019, section 3: column-parallel, then row-parallel; 64 x 64 numbers and more also over fsdp."""
    found = specs("ViT")
    block = "params/encoder/block01"
    wanted = {
        "attention/qkv/kernel": P("fsdp", None, "tensor"),
        "attention/qkv/bias": P(None, "tensor"),
        "attention/out/kernel": P("tensor", "fsdp"),
        "attention/out/bias": P(),
        "mlp/hidden/kernel": P("fsdp", "tensor"),
        "mlp/hidden/bias": P("tensor"),
        "mlp/out/kernel": P("tensor", "fsdp"),
        "mlp_norm/scale": P(),
    }
    assert {name: found[f"{block}/{name}"] for name in wanted} == wanted
    assert found["params/head/kernel"] == P(None, "tensor"), "512 numbers are too few for fsdp"


@pytest.mark.parametrize("strategy", ["fsdp", "auto"])
def test_what_is_added_to_tokens_is_not_split_by_its_width(strategy):
    """It would split the tokens themselves, and each block would then exchange activations."""
    shapes = {
        "token_embedding": (530, 64),
        "position_embedding": (16, 16, 1280),
        "register_token": (4, 1280),
        "patch_embedding": {"kernel": (588, 1280)},
    }
    state = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32), shapes, is_leaf=lambda x: type(x) is tuple
    )
    found = state_shardings(state, mesh_of(8, data=1, fsdp=8), strategy, "config.sharding")
    assert {name: each.spec for name, each in found.items() if name != "patch_embedding"} == {
        "token_embedding": P(),
        "position_embedding": P(),
        "register_token": P(),
    }
    assert found["patch_embedding"]["kernel"].spec == P(None, "fsdp")
    words = {"token_embedding": jax.ShapeDtypeStruct((49408, 512), jnp.float32)}
    (spec,) = jax.tree.leaves(state_shardings(words, mesh_of(8, data=1, fsdp=8), strategy, "config.sharding"))
    assert spec.spec == P("fsdp", None)


@pytest.mark.parametrize("name", ["MLP", "DINO"])
def test_averages_teachers_and_moments_lie_where_their_parameters_do(name):
    found = specs(name)
    average = {"MLP": "extra/ema/", "DINO": "extra/teacher/"}[name]
    params = {path.removeprefix("params/"): spec for path, spec in found.items() if path.startswith("params/")}
    assert sum(spec != P() for spec in params.values()) >= 3
    for path, spec in params.items():
        followers = {key: other for key, other in found.items() if key.endswith(f"/{path}")}
        assert {key for key in followers if key.startswith(average)}
        assert sum("/mu/" in key or "/nu/" in key for key in followers) == 2
        assert set(followers.values()) == {spec}, path


@pytest.mark.parametrize(("name", "options"), [("adamw", {}), ("lamb", {}), ("lion", {}), ("sgd", {"momentum": 0.9})])
def test_a_first_moment_in_bfloat16_is_half_as_large_and_steps_nearly_the_same(name, options):
    """The gradients are float32 all the same, and so is Adam's second moment; bfloat16 keeps 8 bits, so 1 in 256."""
    params = {"kernel": jax.random.normal(jax.random.key(0), (40, 30))}
    gradients = {"kernel": jax.random.normal(jax.random.key(1), (40, 30))}
    moved = []
    for kind in ("float32", "bfloat16"):
        optimizer = OPTIMIZERS[name](lambda step: 0.1, optax.identity(), moment_dtype=kind, **options)
        state, updates = optimizer.init(params), None
        for _ in range(3):
            updates, state = optimizer.update(gradients, state, params)
        arrays = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim]
        assert updates["kernel"].dtype == jnp.float32
        assert [leaf.dtype for leaf in arrays] == [kind, "float32"][: len(arrays)]
        moved.append(np.asarray(updates["kernel"]))
    np.testing.assert_allclose(moved[1], moved[0], rtol=2 / 256)
    assert np.abs(moved[1] - moved[0]).max() > 0 or name == "lion", "its step is a sign"


def check(name, sections, meshes, steps):
    for row in compared(name, sections, meshes, steps):
        assert within(row), row
        assert (row["split"] < 0.7) == (row["mesh"] != "data=8"), row


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_learn_as_on_one_device(name):
    check(name, NETWORKS[name], MESHES, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_learn_as_on_one_device(name):
    check(name, OBJECTIVES[name], {axes: MESHES[axes] for axes in ("data=8", PRODUCT)}, 3)


@pytest.mark.slow
def test_a_tensor_axis_divides_attention_and_gathers_no_weights():
    """Heads are computed where they are: nothing but sums goes over the axis (Shoeybi et al. 2019, section 3)."""
    found = train(NETWORKS["ViT"], {"data": 4, "tensor": 2}, 1, devices=8).collectives
    gathered = sum(size for kind, (_, size) in found.items() if "tensor" in kind and not kind.startswith("all-reduce"))
    assert gathered < 4096, found
    assert found["all-reduce (tensor)"][0] >= 8, "two a block forward, two back"


@pytest.mark.slow
@pytest.mark.parametrize("scan", [False, True])
def test_under_fsdp_weights_are_gathered_and_activations_stay(scan):
    """Rajbhandari et al. 2020, section 7.2.2: forward, again for what is computed again, and back; sums once."""
    sections = {
        "model": {"name": "vit/S16", "patch_size": 4, "depth": 3, "remat": "full", "scan": scan},
        "objective": {"name": "classify"},
    }
    experiment = experiment_of(sections, {"data": 1, "fsdp": 8}, steps=3, devices=8)
    size = sum(4 * leaf.size for leaf in jax.tree.leaves(experiment.abstract_state.params))
    arguments = (experiment.abstract_state, experiment.pipeline.spec(), experiment.constants)
    text = experiment.step.lower(*arguments).compile({"xla_backend_optimization_level": 0}).as_text()
    found = {kind: 0 for kind in ("all-gather", "all-reduce", "all-to-all", "collective-permute")}
    for each in collectives_of(text, experiment.mesh):
        found[each.kind] += each.payload
    assert found["all-gather"] < 3.2 * size, found
    assert found["all-reduce"] < 1.1 * size, found
    assert found["all-to-all"] + found["collective-permute"] < 0.1 * size, found


def test_a_gradient_of_another_scale_is_seen():
    row = {"difference": 1e-7, "tolerance": 2e-5, "norm_difference": 7.0, "norm_tolerance": 1e-3}
    assert not within(row)
    assert within({**row, "norm_difference": 1e-5})
    assert not within({**row, "norm_difference": 1e-5, "difference": 1e-4})


@pytest.mark.slow
def test_microbatches_learn_as_on_one_device_under_a_product_of_axes():
    check("CLIP", {**NETWORKS["CLIP"], "microbatches": 2}, {PRODUCT: MESHES[PRODUCT]}, 3)
