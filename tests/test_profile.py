"""A run says what it runs on, how well it uses it, and where the trace of some of its steps is."""

import gzip
import json
from pathlib import Path

import jax
import pytest
from conftest import Killed, killed, tiny

from vision.config.loading import plain
from vision.errors import UserError
from vision.training import banner, gauges, loop
from vision.training.assemble import assemble
from vision.training.chips import CHIPS, chip_of
from vision.training.loop import train
from vision.training.profile import Tracer, Window, window
from vision.training.schema import resolve

PATH = Path("runs/x")


def assembled(**more):
    return assemble(resolve(plain(tiny()) | {"ema": None} | more))


@pytest.mark.slow
def test_a_window_traces_exactly_its_steps_and_says_where(tmp_path, tiny_config, capfd):
    """Dispatches of several steps end at the window's edges; the trace holds one execution for each of its steps."""
    tiny_config.steps_per_dispatch = 4
    tiny_config.evals = {}
    train(tiny_config, tmp_path, profile=Window(5, 7))
    (trace,) = (tmp_path / "profile").rglob("*.trace.json.gz")
    assert f"traced from step 5 on: open {trace}" in capfd.readouterr().err
    names = [event.get("name", "") for event in json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]]
    executed = [name for name in names if name.startswith("[0]") and "jit_" in name]
    assert len(executed) == 2
    assert all("jit_train_step" in name for name in executed), "not the program of several steps"


@pytest.mark.parametrize("text", ["5", "a:b", "7:5", "5:5", "-1:3", "5:7:9", ""])
def test_what_is_no_window_is_refused(text):
    with pytest.raises(UserError, match="--profile: write A:B"):
        window(text)


def test_windows_that_are_too_long_or_end_after_the_training_are_refused(tmp_path, tiny_config):
    assert window("10:15") == Window(10, 15)
    with pytest.raises(UserError, match="more than 1000 steps"):
        window("0:1001")
    with pytest.raises(UserError, match="--profile 5:13: the training has 12 steps"):
        train(tiny_config, tmp_path, profile=Window(5, 13))


def test_a_run_that_goes_on_behind_the_window_is_not_refused(tmp_path):
    """The same command has to resume a run that was stopped, and it still has the option."""
    said = []
    Tracer(Window(5, 7), tmp_path, said.append).check(6, 12, said.append)
    assert said == ["nothing is traced: this run goes on at step 6, --profile 5:7 begins before it"]


def test_the_banner_says_how_the_run_is_divided():
    """16 x 10 weights of the head over two: the numbers of a person with a pencil."""
    mesh = {"data": 2, "fsdp": 2, "tensor": 2}
    model = {"name": "linear"}
    experiment = assembled(mesh=mesh, model=model, optimizer={"name": "sgd", "learning_rate": 0.1})
    lines = banner.greeting(experiment, reason="from scratch", path=PATH, step=0, per_dispatch=1)
    assert "650 parameters" in lines[0]
    assert "8 x cpu (cpu)" in lines[0]
    # 64 x 10 weights and 10 biases are split over tensor; the optimizer's step and the state's stay whole.
    whole, share = (banner.bytes_of(experiment.abstract_state, of_a_device=each) for each in (False, True))
    assert whole - share == 4 * 650 // 2
    said = f"data=2 fsdp=2 tensor=2, sharding auto: 16 examples and {share / 1024:.1f} KiB of state a device"
    assert lines[1].startswith(f"{said} (of {whole / 1024:.1f} KiB); ")


def test_what_a_step_takes_is_told_after_the_first_and_not_compiled_for(tmp_path, monkeypatch, capfd):
    """On a large network a second compilation would be minutes, at the start and at every resumption."""
    compiled: list[str] = []
    within: list[bool] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, seconds, **_: compiled.append(name) if within and "backend_compile" in name else None
    )

    def told(*arguments):
        within.append(True)
        try:
            return banner.memory_of(*arguments)
        finally:
            within.clear()

    monkeypatch.setattr(loop, "memory_of", told)
    config = plain(tiny()) | {"model": {"name": "linear"}, "mesh": {"data": 2, "fsdp": 2, "tensor": 2}, "evals": {}}
    for end in (5, 6):
        with pytest.raises(Killed):
            loop.train(config, tmp_path, at_step={end: killed})
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("a step takes ")]
    assert len(lines) == 2, "at the start and on going on from step 4"
    assert compiled == []


def test_an_axis_that_divides_nothing_is_told():
    experiment = assembled(mesh={"data": 4, "tensor": 2}, sharding="fsdp")
    lines = banner.greeting(experiment, reason="from scratch", path=PATH, step=0, per_dispatch=1)
    assert "warning: nothing is divided over tensor: its 2 devices all compute the same" in lines
    assert not any(
        "warning" in line
        for line in banner.greeting(
            assembled(mesh={"data": 4, "tensor": 2}), reason="", path=PATH, step=0, per_dispatch=1
        )
    )


def test_a_cpu_beside_an_accelerator_is_told_loudly_unless_it_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS")
    assert banner.forgotten_accelerator(tmp_path) is None
    (tmp_path / "nvidiactl").touch()
    assert banner.forgotten_accelerator(tmp_path) is None, "the driver alone is no card"
    (tmp_path / "nvidia0").touch()
    line = banner.forgotten_accelerator(tmp_path)
    assert line.startswith(f"WARNING: ON THE CPU, although there is {tmp_path / 'nvidia0'}")
    assert ".[cuda]" in line
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert banner.forgotten_accelerator(tmp_path) is None


def test_the_share_of_the_peak_is_that_of_the_products(monkeypatch):
    """A linear model on 8 x 8 pixels: 64 x 10 products forwards and for the weights, none for the images."""
    experiment = assembled(model={"name": "linear"}, data={"name": "digits"})
    read = gauges.Gauges(experiment)
    assert read.of(1, {"speed/examples_per_second": 100.0}) == {}, (
        "a CPU has no peak here, and its memory is the host's"
    )
    monkeypatch.setattr(gauges, "chip_of", lambda kind: CHIPS["v5e"])
    found = read.of(1, {"speed/examples_per_second": 1e9})
    assert found == {"speed/mfu": pytest.approx(1e9 * 2 * 2 * 64 * 10 / (jax.device_count() * 197e12))}


def test_chips_are_known_by_the_names_that_jax_gives_them():
    names = {"TPU v5 lite": "v5e", "TPU v5": "v5p", "TPU v6 lite": "v6e", "NVIDIA H200": "h200"}
    assert {kind: chip_of(kind).name for kind in names} == names
    assert chip_of("NVIDIA H100 PCIe") is None, "another card, with other peaks"
    assert chip_of("cpu") is None
