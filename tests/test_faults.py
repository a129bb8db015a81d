"""Whatever ends the process, the run goes on from where it was: signals, kills, full disks, two jobs at once."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY, child_environment

from vision.training.checkpoint import load_arrays
from vision.training.compare import compare, compare_metrics
from vision.training.logging import read_metrics

STEPS = 400
TRAIN = ["-m", "experiments.train", "--config", "configs/quickstart.py", f"--config.duration.steps={STEPS}"]
# Small steps one at a time, so that a signal falls anywhere; saves often, so that some are under way.
OPTIONS = [
    "--config.steps_per_dispatch=1",
    "--config.checkpoint.every.steps=20",
    "--config.logging.tensorboard=false",
    "--json",
]


def start(workdir, *options) -> subprocess.Popen:
    command = [sys.executable, *TRAIN, "--workdir", str(workdir), *OPTIONS, *options]
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=child_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process, expected=0):
    out, err = process.communicate(timeout=120)
    assert process.returncode == expected, err
    return out, err


def wait_for_step(workdir: Path, step: int, process) -> None:
    while process.poll() is None:
        lines = read_metrics(workdir / "metrics.jsonl")
        if lines and lines[-1]["step"] >= step:
            return
        time.sleep(0.002)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight") / "run"
    out, _ = finish(start(folder))
    return folder, json.loads(out.splitlines()[-1])


def assert_same_run(straight, workdir, result):
    assert [row.path for row in compare(straight[0], workdir) if not row.equal] == []
    assert compare_metrics(straight[0], workdir) == []
    assert result["test"] == straight[1]["test"], "to the last digit"


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_saves_says_how_to_resume_and_resumes_to_the_same_bits(straight, tmp_path, number):
    process = start(tmp_path)
    wait_for_step(tmp_path, 60, process)
    process.send_signal(number)
    _, err = finish(process, expected=128 + number)
    last = err.strip().splitlines()[-1]
    assert "stopped at step" in last
    assert "the same command resumes" in last
    step, _, _ = load_arrays(tmp_path)
    assert f"stopped at step {step} of {STEPS}" in last
    assert step < STEPS
    assert f"stopped at step {step}" in (tmp_path / "report.html").read_text()
    out, err = finish(start(tmp_path))
    assert f"resumed at step {step}" in err
    assert_same_run(straight, tmp_path, json.loads(out.splitlines()[-1]))


def kill_at(workdir, step):
    process = start(workdir)
    wait_for_step(workdir, step, process)
    process.kill()
    process.communicate()


def test_killed_once_and_started_again_it_is_the_undisturbed_run(straight, tmp_path):
    kill_at(tmp_path, 120)
    out, err = finish(start(tmp_path))
    assert "resumed at step" in err
    assert_same_run(straight, tmp_path, json.loads(out.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_killed_at_random_moments_again_and_again(straight, tmp_path, seed):
    """Three kills a run at random steps after random waits of milliseconds, so that some fall into a save."""
    generator = random.Random(seed)
    for step in sorted(generator.sample(range(20, STEPS - 40), 3)):
        process = start(tmp_path)
        wait_for_step(tmp_path, step, process)
        time.sleep(generator.random() * 0.05)
        process.kill()
        process.communicate()
    out, err = finish(start(tmp_path))
    assert "resumed at step" in err
    assert_same_run(straight, tmp_path, json.loads(out.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(4))
def test_killed_while_a_checkpoint_is_being_written(straight, tmp_path, attempt):
    """The kill waits for the temporary folder of a save that is not finished."""
    process = start(tmp_path, "--config.checkpoint.every.steps=5", "--config.checkpoint.keep=100")
    checkpoints, caught = tmp_path / "checkpoints", False
    while process.poll() is None and not caught:
        if checkpoints.is_dir():
            names = os.listdir(checkpoints)
            caught = any("tmp" in name for name in names) and sum(name.isdigit() for name in names) > 3 * attempt
    process.kill()
    process.communicate()
    assert caught, "no save was ever seen under way"
    out, err = finish(start(tmp_path))
    assert "resumed at step" in err
    assert_same_run(straight, tmp_path, json.loads(out.splitlines()[-1]))


def test_second_job_on_the_same_folder_is_refused_and_the_first_goes_on(straight, tmp_path):
    first = start(tmp_path)
    wait_for_step(tmp_path, 20, first)
    first.send_signal(signal.SIGSTOP)
    _, err = finish(start(tmp_path), expected=2)
    first.send_signal(signal.SIGCONT)
    assert f"in use by process {first.pid}" in err
    assert "Traceback" not in err
    out, _ = finish(first)
    assert_same_run(straight, tmp_path, json.loads(out.splitlines()[-1]))


def test_full_disk_is_one_line_and_the_last_checkpoint_survives(straight, tmp_path):
    """A limit on the size of files stands in for the disk that fills up in the middle of a write."""
    code = (
        "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000)); sys.argv[0] = 'train';"
        "runpy.run_module('experiments.train', run_name='__main__', alter_sys=True)"
    )
    kill_at(tmp_path, 120)
    arguments = [*TRAIN[2:], "--workdir", str(tmp_path), *OPTIONS, "--config.logging.every.steps=1"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=REPOSITORY,
        env=child_environment() | {"JAX_ENABLE_COMPILATION_CACHE": "false"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert "error: cannot " in done.stderr.strip().splitlines()[-1], "the last word is ours"
    _, err = finish(start(tmp_path))
    assert "resumed at step" in err
    assert [row.path for row in compare(straight[0], tmp_path) if not row.equal] == []


def test_disk_without_room_for_the_next_checkpoint(tmp_path):
    """A file system of 3 MiB: room for two checkpoints of the quickstart, not for three."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        _, err = finish(start(disk / "run", "--config.checkpoint.keep=9"), expected=2)
        last = err.strip().splitlines()[-1]
        assert last.startswith("error: cannot save the checkpoint of step ")
        assert "the disk is full" in last
        assert f"the checkpoint of step {load_arrays(disk / 'run')[0]} is safe" in last
        assert "Traceback" not in err
    finally:
        subprocess.run(["umount", str(disk)], check=True)
