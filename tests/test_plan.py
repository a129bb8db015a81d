"""Plans: bytes of the state are those of real arrays, collectives those of theory, and a guess is called one."""

import dataclasses
import json
import os

import jax
import numpy as np
import pytest
from conftest import tiny

from tools import plan as tool
from tools.planning import chips, program
from tools.planning.described import Facts, read_facts
from tools.planning.fit import fits, nearest, settings_of
from tools.planning.report import as_result, lines
from tools.planning.traffic import bytes_of
from vision.analysis import hlo
from vision.analysis.collectives import Collective
from vision.errors import ConfigError, UserError
from vision.training.assemble import assemble
from vision.training.schema import resolve

HOST = chips.read_target("cpu:8")
CONFIG = "configs/resnet50_imagenet.py"  # its data are not here


def config_of(**changes):
    return resolve(tiny().to_dict() | {"model": {"name": "mlp/128", "hidden_sizes": (256, 128)}} | changes)


def devices() -> chips.Devices:
    return chips.Devices(jax.devices()[:8], "XLA for CPU", True)


def compiled_on(mesh, **changes) -> program.Compiled:
    return program.compile_step(config_of(mesh=mesh, **changes), HOST, devices(), None)


SLOW = pytest.param({"data": 8}, marks=pytest.mark.slow)


@pytest.mark.parametrize("mesh", [SLOW, {"data": 2, "fsdp": 2, "tensor": 2}], ids=str)
def test_bytes_are_those_of_the_arrays_that_a_run_puts_on_a_device(mesh):
    config = config_of(mesh=mesh)
    real = assemble(config)
    state = real.init(real.constants.keys.init)
    described, _ = program.prepare_experiment(config, devices(), None)

    def on_first(tree) -> int:
        shards = [shard for leaf in jax.tree.leaves(tree) for shard in leaf.addressable_shards]
        return sum(shard.data.nbytes for shard in shards if shard.device == jax.devices()[0])

    for part in ("params", "opt_state", "extra"):
        assert program.bytes_per_chip(getattr(described.abstract_state, part)) == on_first(getattr(state, part)) > 0
    resident, batch = described.constants.resident, real.pipeline.batch(0)
    assert program.bytes_per_chip(resident) == on_first(real.constants.resident) > 0
    assert program.bytes_per_chip(program.batch_of(described)) == on_first(batch)
    same = jax.tree.map(lambda a, b: (a.shape, a.dtype, a.sharding) == (b.shape, b.dtype, b.sharding), state,
                        described.abstract_state)  # fmt: skip
    assert all(jax.tree.leaves(same))


@pytest.fixture(scope="module")
def data_parallel() -> program.Compiled:
    return compiled_on({"data": 8})


def test_data_parallelism_reduces_every_gradient_once_and_little_else(data_parallel):
    found = data_parallel.collectives
    assert {(each.kind, each.axes) for each in found} == {("all-reduce", ("data",))}
    parameters = data_parallel.state["parameters"]
    assert parameters == 4 * (64 * 256 + 256 + 256 * 128 + 128 + 128 * 10 + 10)
    extra = sum(each.payload for each in found) - parameters
    assert 0 <= extra < 256  # sums of the metrics
    assert found[0].sent == pytest.approx(2 * 7 / 8 * found[0].payload)


def test_fsdp_gathers_parameters_and_leaves_an_eighth_of_the_state(data_parallel):
    split = compiled_on({"fsdp": 8}, batch_size=512)
    assert split.state["parameters"] == 4 * (
        (64 * 256 + 256 * 128) // 8 + 256 + 128 + 128 * 10 + 10
    )  # small ones whole
    assert split.state["optimizer"] - 2 * split.state["parameters"] == (
        data_parallel.state["optimizer"] - 2 * data_parallel.state["parameters"]
    )  # two averages for each parameter, and counters
    gathered = sum(each.payload for each in split.collectives if each.kind == "all-gather")
    reduced = sum(each.payload for each in split.collectives if each.kind in ("all-reduce", "reduce-scatter"))
    # The large kernels, forwards at least; gradients are reduced, on CPU whole where a TPU scatters them.
    large = 4 * (64 * 256 + 256 * 128)
    assert large <= gathered + reduced <= 4 * large
    assert gathered > 0 < reduced


def test_a_plan_says_what_a_step_costs(data_parallel):
    # Forwards, and backwards twice as much, but no gradient of the pixels.
    forward = 64 * (64 * 256 + 256 * 128 + 128 * 10)
    by_hand = 2 * (3 * forward - 64 * 64 * 256) / 8
    assert data_parallel.step_flops == data_parallel.model_flops == by_hand
    assert by_hand < data_parallel.flops < 2 * by_hand  # the compiler counts single numbers too
    assert data_parallel.memory is not None
    exact = sum(data_parallel.state.values()) + data_parallel.inputs
    assert exact <= data_parallel.memory.arguments <= exact + 1024


def test_bytes_accessed_are_counted_as_the_compiler_counts_them():
    def run(w, x):
        return jax.grad(lambda w: (jax.nn.relu(x @ w) ** 2).sum())(w)

    shapes = [jax.ShapeDtypeStruct(shape, np.float32) for shape in ((512, 512), (256, 512))]
    compiled = jax.jit(run).lower(*shapes).compile()
    ours = bytes_of(hlo.read(compiled.as_text()))
    assert ours == pytest.approx(compiled.cost_analysis()["bytes accessed"], rel=0.3)


def test_what_lies_in_a_chips_own_memory_is_no_traffic_of_the_main_one():
    """A slice of 64 bytes comes in, a copy of it goes out, and a sum takes the copy from main memory: 192 bytes."""
    text = """HloModule step
ENTRY %main (a: f32[8,8]) -> f32[2,8] {
  %a = f32[8,8]{1,0:T(8,128)} parameter(0)
  %in = ((f32[8,8]{1,0:T(8,128)}), f32[2,8]{1,0:T(8,128)S(1)}, s32[]{:S(2)}) slice-start(%a), slice={[0:2], [0:8]}
  %here = f32[2,8]{1,0:T(8,128)S(1)} slice-done(%in)
  %out = (f32[2,8]{1,0:T(8,128)}, f32[2,8]{1,0:T(8,128)S(1)}, u32[]{:S(2)}) copy-start(%here)
  %there = f32[2,8]{1,0:T(8,128)} copy-done(%out)
  ROOT %sum = f32[2,8]{1,0:T(8,128)S(1)} add(%there, %here)
}
"""
    step = hlo.read(text)
    assert bytes_of(step, main=True) == 64 + 64 + 64
    assert bytes_of(step) == (256 + 64 + 4) + (64 + 64 + 4) + 3 * 64


def test_loops_of_unknown_length_are_counted_once_and_it_is_said():
    def until(x):
        return jax.lax.while_loop(lambda x: x.sum() < 100, lambda x: x @ x, x)

    def turns(x):
        return jax.lax.fori_loop(0, 7, lambda _, x: jax.numpy.sin(x), x)

    shape = jax.ShapeDtypeStruct((8, 8), np.float32)
    unknown, known = (hlo.read(jax.jit(run).lower(shape).compile().as_text()) for run in (until, turns))
    assert (program.count_unknown_loops(unknown), program.count_unknown_loops(known)) == (1, 0)
    said = lines(as_result(of(1, unknown_loops=2), V5E, devices(), precision=""))
    assert "loops of unknown length: 2, counted as if they turned once" in said
    assert "unknown length" not in lines(as_result(of(1), V5E, devices(), precision=""))


V5E = chips.read_target("v5e:2x2")


GIB = 2**30


def of(size: int, **changes) -> program.Compiled:
    """A program that takes so many bytes."""
    return program.Compiled(
        **{
            "mesh": {"data": 4},
            "batch_size": 64,
            "data": "",
            "state": {"parameters": 100},
            "inputs": 0,
            "memory": program.Memory(size, 0, 0, 0, 0),
            "needed": 0,
            "limit": 0,
            "flops": 1.97e12,
            "accessed": 8.19e9,
            "accessed_by": "",
            "model_flops": 9.85e11,
            "step_flops": 1.97e12,
            "collectives": (),
            "loops": (),
            "unknown_loops": 0,
            "seconds": {"compile": 1.0},
            **changes,
        }
    )


def test_the_roofline_is_the_longest_of_three_times():
    result = as_result(of(1), V5E, devices(), precision="compute=bfloat16")
    # 1.97e12 FLOPs at 197 TFLOP/s and 8.19 GB at 819 GB/s are 10 ms each; half of the FLOPs are the model's.
    roofline = result["roofline"]
    assert roofline["compute"] == pytest.approx(0.01)
    assert roofline["memory"] == pytest.approx(0.01)
    assert (roofline["links"], roofline["mfu"]) == (0, pytest.approx(0.5))
    assert roofline["examples_per_second_per_chip"] == pytest.approx(16 / 0.01)
    slow = as_result(dataclasses.replace(of(1), accessed=8.19e10), V5E, devices(), precision="compute=bfloat16")
    assert (slow["roofline"]["bound"], slow["roofline"]["step"]) == ("memory", pytest.approx(0.1))
    h100 = chips.read_target("h100:8")
    float32 = as_result(of(1), h100, devices(), precision="compute=float32")["roofline"]
    assert float32["compute"] == pytest.approx(2 * 1.97e12 / 989e12)


def vit(**changes):
    config = {"name": "vit/Ti4_cifar"}
    return config_of(model=config, batch_size=64, mesh={"data": 4}, **changes)


def test_what_does_not_fit_is_changed_from_the_least_on():
    flags = [setting.flags for setting in settings_of(vit(), {"data": 4})]
    full = "--config.model.remat=full"
    assert flags == [
        ("--config.model.remat=dots",),
        (full,),
        *[(full, f"--config.microbatches={parts}") for parts in (2, 4, 8, 16)],
        *[(full, f"--config.batch_size={size}") for size in (32, 16, 8, 4)],
        *[(full, f"--mesh data={4 // size},fsdp={size}") for size in (2, 4)],
    ]
    three = {"data": 4, "tensor": 2}
    last = [each for each in settings_of(vit() | {"mesh": {"fsdp": 1, **three}}, three) if each.spread > 1]
    assert [each.flags[-1] for each in last] == [f"--mesh data={4 // n},fsdp={n},tensor=2" for n in (2, 4)]
    for setting in last:  # what is printed is what was compiled, and can be run
        assert tool.read_mesh(setting.flags[-1].removeprefix("--mesh ")) == setting.config["mesh"]
    state = [setting.flags for setting in settings_of(vit(), {"data": 4}, only_state=True)]
    assert state == [("--mesh data=2,fsdp=2",), ("--mesh data=1,fsdp=4",)]
    assert settings_of(config_of(), {"data": 8}).__next__().flags == ("--config.microbatches=2",)  # keeps nothing less


def test_the_nearest_setting_is_the_first_whose_program_fits():
    notes: list[str] = []
    tried = []

    def compile_one(config):
        tried.append(config)
        if config["microbatches"] == 2:
            raise ConfigError("cannot be")
        return of(10**9 if config["microbatches"] == 4 else 10**12)

    large = of(10**12)
    assert fits(large, V5E) is False
    assert fits(of(1), HOST) is None
    setting, found = nearest(vit(), large, V5E, compile_one, tries=5, note=notes.append) or (None, None)
    assert setting is not None
    assert setting.flags[-1] == "--config.microbatches=4"
    assert found is not None
    assert fits(found, V5E)
    assert len(tried) == 4
    assert "cannot be" in notes
    assert nearest(vit(), large, V5E, compile_one, tries=1, note=notes.append) is None


@pytest.mark.parametrize(
    ("state", "compiled"),
    [
        # Gradients as large as the parameters need another 5 GiB: the state over more chips comes first.
        ({"parameters": 5 * GIB, "optimizer": 9 * GIB}, 1),
        # They would fit; five tries for activations, and the last one is not another of those.
        ({"parameters": 1 * GIB, "optimizer": 13 * GIB}, 6),
        # The state alone does not fit on one chip, nor on two.
        ({"parameters": 20 * GIB, "optimizer": 20 * GIB}, 1),
    ],
    ids=["with gradients", "last try", "state alone"],
)
def test_the_state_over_more_chips_is_tried_by_default_where_it_is_what_is_too_large(state, compiled):
    tried = []

    def compile_one(config):
        tried.append(config)
        rest = sum(state.values()) / config["mesh"].get("fsdp", 1)
        return of(round(rest) + 4 * GIB)

    large = of(sum(state.values()) + 4 * GIB, state=state, mesh={"data": 64})
    config = vit() | {"batch_size": 4096, "mesh": {"data": 64}}
    found = nearest(config, large, chips.read_target("v5e:8x8"), compile_one, tries=6, note=lambda text: None)
    assert found is not None
    assert found[0].config["mesh"]["fsdp"] == (4 if sum(state.values()) == 40 * GIB else 2)
    assert len(tried) == compiled


def test_a_card_has_what_jax_takes_of_it(monkeypatch):
    for name in ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
        monkeypatch.delenv(name, raising=False)
    h100 = chips.read_target("h100")
    assert fits(of(59 * 10**9), h100) is True
    assert fits(of(61 * 10**9), h100) is False  # three quarters of 80 GB
    text = lines(as_result(of(61 * 10**9), h100, devices(), precision=""))
    assert "0.75 of the card's memory is JAX's: XLA_CLIENT_MEM_FRACTION=0.95 gives it more" in text
    assert "JAX's" not in lines(as_result(of(10**12), V5E, devices(), precision=""))
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.9")
    assert fits(of(61 * 10**9), h100) is True
    monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", "most")
    with pytest.raises(UserError, match="XLA_CLIENT_MEM_FRACTION=most: write a share"):
        fits(of(1), h100)


def test_each_collective_goes_by_the_links_between_its_devices():
    def links(kind: str, axes: tuple[str, ...], size: int, mesh: dict[str, int], chip: str) -> float:
        each = Collective(kind, axes, size, 1, 16 * 10**9)
        found = of(1, mesh=mesh, collectives=(each,))
        result = as_result(found, chips.read_target(chip), devices(), precision="")
        return each.sent / result["roofline"]["links"]

    two = {"data": 2, "fsdp": 8}
    assert links("all-gather", ("fsdp",), 8, two, "h100:16") == pytest.approx(450e9)  # within a host, by NVLink
    assert links("all-reduce", ("data",), 2, two, "h100:16") == pytest.approx(50e9)  # one card of each host
    # All 8 cards of a host send by their own link to other hosts.
    assert links("all-reduce", ("data", "fsdp"), 16, two, "h100:16") == pytest.approx(400e9)
    assert links("all-reduce", ("data",), 8, {"data": 8, "tensor": 2}, "h100:16") == pytest.approx(200e9)
    assert links("all-to-all", ("data",), 16, {"data": 16}, "h100:16") == pytest.approx(50e9)
    assert links("all-reduce", ("?",), 2, two, "h100:16") == pytest.approx(50e9)  # nobody knows: the slowest
    assert links("all-reduce", ("data",), 8, {"data": 8}, "h100:8") == pytest.approx(450e9)
    assert links("all-reduce", ("data",), 16, {"data": 16}, "v5e:4x4") == pytest.approx(200e9)


def test_what_a_compiler_says_that_refuses():
    message = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (24.76G) exceeds "
        "available HBM (15.75G)."
    )
    other = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.5G of 15.75G hbm. Exceeded by 4.75G."
    assert program._refused(message) == (round(24.76 * 2**30), round(15.75 * 2**30))
    assert program._refused(other) == (round(20.5 * 2**30), round(15.75 * 2**30))
    refused = of(0, memory=None, needed=24 * 2**30, limit=15 * 2**30)
    text = lines(as_result(refused, V5E, devices(), precision=""))
    assert "no, the compiler refuses: at least 24.00 GiB of 15.00 GiB" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--chip", "v5ee:2x2"), "unknown kind; did you mean 'v5e'"),
        (("--chip", "v5e:4"), "has 2 lengths, as v5e:2x2"),
        (("--chip", "h100:12"), "whole hosts of 8"),
        (("--chip", "cpu:some"), "write a number of chips, as cpu:8"),
        (("--chip", "cpu:8", "--mesh", "data=4"), "data=4: is 4 devices, and cpu:8 has 8 chips"),
        (("--chip", "cpu:8", "--mesh", "datum=8"), "unknown axis; did you mean 'data'"),
        (("--chip", "cpu:8", "--mesh", "data=x"), "write data=N"),
        (("--chip", "cpu:8", "--mesh", "data=8", "--config.batch_size=12"), "12 does not divide over 8 devices"),
        (("--chip", "cpu:8", "--data", "exmples=5"), "unknown key; did you mean 'examples'"),
        (("--chip", "cpu:8", "--data", "classes=5"), "say how many examples"),
        (("--chip", "cpu:8", "--config.data.name=folder:nowhere"), "--data examples=1000000,classes=10"),
    ],
)
def test_mistakes_are_one_line(arguments, said, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")  # a plan changes it
    with pytest.raises(UserError) as raised:
        tool.main(["--config", CONFIG, *arguments])
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_data_that_are_not_there_are_described(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    facts = read_facts("examples=5000000,classes=0,captions=2,vocabulary=1000")
    assert facts == Facts(5_000_000, 0, captions=2, vocabulary=1000)
    pairs = {
        "text": {"name": "text/small", "depth": 1},
        "objective": {"name": "contrast", "embed_dim": 32},
        "model": {"name": "vit/Ti4_cifar", "depth": 1},
        "data": {"name": "captions:captions.tsv", "image_size": 32, "tokens": {"tokenizer": "none.gz", "length": 16}},
        "evals": {},
        "checkpoint": {},
        "mesh": {"data": 8},
        "ema": None,
    }
    experiment, origin = program.prepare_experiment(config_of(**pairs), devices(), facts)
    assert origin == "as --data says"
    spec = experiment.pipeline.spec()
    assert (spec["image"].shape, spec["tokens"].shape, spec["tokens"].dtype) == ((64, 32, 32, 3), (64, 2, 16), np.int32)
    assert experiment.inputs.tokenizer is not None
    assert experiment.inputs.tokenizer.vocab_size == 1000


def test_without_the_compiler_host_devices_stand_in_and_it_is_said(monkeypatch, capsys):
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr(chips, "has_compiler", lambda target: False)
    flags = ["--config.batch_size=64", "--config.model.hidden_sizes=(16,)"]
    code = tool.main(["--config", "configs/fashion_mnist_mlp.py", "--chip", "v5e:2x4", "--json", *flags])
    printed = capsys.readouterr()
    result = json.loads(printed.out.splitlines()[-1])
    assert code == 0
    assert result["fits"] is True
    assert result["data"] == "as published"
    assert set(result["estimates"]) == {"memory", "flops", "accessed", "collectives", "roofline"}
    assert 'pip install -e ".[plan-tpu]"' in printed.err
    assert "--xla_force_host_platform_device_count=8" in os.environ["XLA_FLAGS"]


@pytest.mark.slow
def test_the_compiler_of_tpus_reduces_gradients_once_and_lays_out_the_state_that_is_counted(monkeypatch):
    pytest.importorskip("libtpu")
    monkeypatch.setenv("XLA_FLAGS", "")
    for name, value in chips._NO_TPU.items():
        monkeypatch.setenv(name, value)
    flags = ["--config.model.hidden_sizes=(512,)", "--config.batch_size=64"]
    result = tool.plan("configs/fashion_mnist_mlp.py", flags, chip="v5e:2x2", mesh={"data": 4})
    assert result["compiler"].startswith("libtpu")
    assert result["estimates"] == [] and result["fits"] is True  # noqa: PT018
    parameters = 4 * (784 * 512 + 512 + 512 * 10 + 10)
    assert result["state"]["parameters"] == parameters
    reduced = sum(each["payload"] for each in result["collectives"] if each["kind"] == "all-reduce")
    assert parameters / 2 <= reduced < 1.1 * parameters  # in bfloat16 where the products are
    exact = result["state"]["total"] + result["inputs"]
    assert exact <= result["memory"]["arguments"] < 1.2 * exact  # arrays are padded to tiles
