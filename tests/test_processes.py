"""A run goes on with other processes, devices and strategies; several processes write and count everything once."""

import json
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import Killed, child_environment, killed, tiny
from test_distributed import free_address
from test_preemption import PIPES, ends, wait_for_lines

from experiments import evaluate
from vision.data.sources import Opener
from vision.errors import UserError
from vision.training.checkpoint import load_arrays
from vision.training.logging import read_metrics
from vision.training.loop import train
from vision.training.processes import check_alone

STEPS = 200
# Every evaluation is over 101 images in batches of 24, of which the last has 5.
TRAIN = [
    *(sys.executable, "-m", "experiments.train", "--config", "configs/quickstart.py"),
    *(f"--config.duration.steps={STEPS}", "--config.steps_per_dispatch=1", "--config.batch_size=48"),
    *("--config.evals.test.split=test[:101]", "--config.evals.test.batch_size=24", "--config.evals.test.every=None"),
    *("--config.logging.every.steps=10", "--config.checkpoint.every.steps=50"),
]
FSDP = ("--config.mesh.data=1", "--config.mesh.fsdp=8")
PRODUCT = ("--config.mesh.data=2", "--config.mesh.fsdp=2", "--config.mesh.tensor=2")
OTHERS = {
    "1 process of 1 device": (1, 1, ()),
    "1 process of 8 devices, fsdp": (1, 8, FSDP),
    "2 processes of 3 devices": (2, 3, ()),
    "2 processes of 4 devices, a product": (2, 4, PRODUCT),
}


def start(folder, count, devices, options):
    command = [*TRAIN, "--workdir", str(folder), *options, "--coordinator_address", free_address()]
    command += ["--num_processes", str(count), "--process_id"]
    return [subprocess.Popen([*command, str(n)], env=child_environment(devices), **PIPES) for n in range(count)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    codes, said = ends(start(folder, 1, 1, ()))
    assert codes == [0], said
    return folder


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run of four processes with two devices each that was told to stop somewhere; and what each of them said."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    processes = start(folder, 4, 2, ())
    wait_for_lines(folder, 4, processes)
    processes[3].send_signal(signal.SIGUSR1)
    codes, said = ends(processes)
    assert codes == [75] * 4, said
    return folder, said


@pytest.mark.slow
@pytest.mark.parametrize("other", OTHERS)
def test_a_checkpoint_of_four_processes_goes_on_elsewhere(tmp_path, alone, stopped, other):
    """To the rounding of sums in another order: the batches are the same, so losses stay together to the end."""
    count, devices, options = OTHERS[other]
    folder = tmp_path / "run"
    shutil.copytree(stopped[0], folder)
    step = load_arrays(folder)[0]
    assert 0 < step < STEPS
    codes, said = ends(start(folder, count, devices, options))
    assert codes == [0] * count, said
    assert f"resumed at step {step}" in said[0]
    lines, wanted = (
        [line for line in read_metrics(each / "metrics.jsonl") if "train/loss" in line] for each in (folder, alone)
    )
    assert [line["step"] for line in lines] == [line["step"] for line in wanted] == list(range(10, STEPS + 1, 10))
    losses, expected = ([line["train/loss"] for line in each] for each in (lines, wanted))
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    (_, arrays, _), (_, others, _) = load_arrays(folder), load_arrays(alone)
    assert arrays.keys() == others.keys()
    for name in arrays:
        if name.startswith("params"):
            np.testing.assert_allclose(arrays[name], others[name], atol=2e-3, err_msg=name)
    check_evaluation(folder)


def check_evaluation(folder):
    """Every one of the 101 examples is counted once, whichever process saw it."""
    found = json.loads((folder / "evaluations" / "test.json").read_text())
    labels = Opener("digits")("test[:101]").labels()
    np.testing.assert_array_equal(np.sum(found["arrays"]["confusion"], axis=1), np.bincount(labels, minlength=10))
    assert found["scalars"]["accuracy"] == pytest.approx(np.trace(found["arrays"]["confusion"]) / 101)


@pytest.mark.slow
def test_four_processes_write_everything_once(stopped):
    folder, said = stopped
    log = (folder / "log.txt").read_text()
    for once in ("parameters, 1,437 examples", "of state a device"):
        assert log.count(once) == said[0].count(once) == 1
        assert not any(once in each for each in said[1:])
    assert "data=8, sharding auto: 6 examples" in log
    steps = [line["step"] for line in read_metrics(folder / "metrics.jsonl")]
    assert steps == sorted(set(steps))
    assert len(list(folder.glob("events.*"))) == 1
    assert len(list(folder.glob("report.html"))) == 1


def test_an_evaluation_that_is_started_several_times_is_refused(monkeypatch):
    """Each would evaluate everything, and write the same files; within a training all processes evaluate together."""
    for name, value in {"SIZE": "2", "RANK": "1", "LOCAL_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(f"OMPI_COMM_WORLD_{name}", value)
    with pytest.raises(UserError, match="evaluate works in one process.* Open MPI started 2: start it once"):
        evaluate.main(["--workdir", "runs/none"])
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "1")
    check_alone("a single task of a launcher")


@pytest.mark.slow
def test_a_run_goes_on_under_other_strategies(tmp_path):
    """fsdp=8, then data=8, then a product of axes, in one folder; against the same training undisturbed."""
    config = tiny()
    config.model.hidden_sizes = (128,)  # large enough to be split
    train(config, tmp_path / "undisturbed")
    for mesh, stop in (({"fsdp": 8, "data": 1}, 4), ({"data": 8}, 8), ({"data": 2, "fsdp": 2, "tensor": 2}, None)):
        config.mesh = mesh
        if stop is None:
            train(config, tmp_path / "changed")
            break
        with pytest.raises(Killed):
            train(config, tmp_path / "changed", at_step={stop + 1: killed})
    lines, wanted = (
        [line for line in read_metrics(tmp_path / each / "metrics.jsonl") if "train/loss" in line]
        for each in ("changed", "undisturbed")
    )
    assert [line["step"] for line in lines] == [line["step"] for line in wanted] == [5, 10, 12]
    for one, other in zip(lines, wanted, strict=True):
        assert one["train/loss"] == pytest.approx(other["train/loss"], rel=2e-5)
    ends_of = [load_arrays(tmp_path / each)[1] for each in ("changed", "undisturbed")]
    for name, array in ends_of[0].items():
        np.testing.assert_allclose(array, ends_of[1][name], atol=1e-4, err_msg=name)
