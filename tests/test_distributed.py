"""Real processes see the batches, augmentations, masks and results of one."""

import json
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import REPOSITORY, child_environment

from vision.training import workdir
from vision.training.checkpoint import load_arrays
from vision.training.logging import read_metrics


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def run_together(commands, devices):
    """Starts all commands at once and returns their outputs."""
    options = {"cwd": REPOSITORY, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, env=child_environment(devices), **options) for command in commands]
    try:
        outputs = [process.communicate(timeout=200) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, err) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, err
    return outputs


def child(out, count, devices):
    address = free_address()
    script = [sys.executable, "tests/distributed_child.py", str(out), address, str(count)]
    run_together([[*script, str(number)] for number in range(count)], devices)
    return np.load(out)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    return folder, {
        "1 process, 1 device": child(folder / "one.npz", 1, 1),
        "1 process, 4 devices": child(folder / "four.npz", 1, 4),
        "2 processes, 2 devices each": child(folder / "two.npz", 2, 2),
    }


@pytest.mark.parametrize("other", ["1 process, 4 devices", "2 processes, 2 devices each"])
def test_batches_augmentations_and_masks_are_the_same_bits(seen, other):
    check_same_bits(seen[1]["1 process, 1 device"], seen[1][other])


def check_same_bits(one, two):
    for name in one.files:
        if name.split("/")[-1].isdigit() or name == "mask":
            np.testing.assert_array_equal(one[name], two[name], err_msg=name)
    assert len(np.unique(one["mask"])) > 5
    np.testing.assert_array_equal(one["device/image/13"], one["host/image/13"])


@pytest.mark.parametrize("other", ["1 process, 4 devices", "2 processes, 2 devices each"])
def test_losses_differ_by_rounding_only(seen, other):
    check_losses(seen[1]["1 process, 1 device"], seen[1][other])


def check_losses(one, two):
    for name in ("device/losses", "host/losses"):
        np.testing.assert_allclose(one[name], two[name], rtol=1e-5)
    assert abs(one["accuracy"] - two["accuracy"]) <= 1 / 360
    assert np.sum(two["confusion"]) == 360


@pytest.mark.slow
def test_four_processes_of_two_devices_see_and_learn_the_same(seen, tmp_path):
    together = child(tmp_path / "out.npz", 4, 2)
    check_same_bits(seen[1]["1 process, 1 device"], together)
    check_losses(seen[1]["1 process, 1 device"], together)


def test_each_process_holds_its_own_rows_only(seen):
    rows = [set(np.load(seen[0] / f"two.npz.{number}.npz")["local"].tolist()) for number in range(2)]
    assert rows[0].isdisjoint(rows[1])
    assert rows[0] | rows[1] == {0, 32, 64, 96}


@pytest.mark.slow
def test_training_with_two_processes_saves_and_resumes(tmp_path):
    """The program itself: one folder, one log, one result; stopped half-way by its length and gone on with."""
    results = {}
    for count in (1, 2):
        workdir, outputs = tmp_path / str(count), []
        for steps in (20, 40):
            address = free_address()
            command = [sys.executable, "-m", "experiments.train", "--config", "configs/quickstart.py", "--json"]
            command += ["--workdir", str(workdir / str(steps)), f"--config.duration.steps={steps}"]
            command += ["--config.optimizer.schedule.name=constant", "--config.checkpoint.every.steps=10"]
            command += [f"--config.resume={workdir / '20'}"] if steps == 40 else []
            together = ["--coordinator_address", address, "--num_processes", str(count), "--process_id"]
            commands = [[*command, *together, str(n)] if count > 1 else command for n in range(count)]
            outputs = run_together(commands, devices=2 // count)
        results[count] = json.loads(outputs[0][0].splitlines()[-1])
        assert results[count]["step"] == 40
        assert "started from step 20" in outputs[0][1]
    lines = [read_metrics(tmp_path / str(count) / "40" / "metrics.jsonl") for count in (1, 2)]
    assert [line["step"] for line in lines[0]] == [line["step"] for line in lines[1]]
    np.testing.assert_allclose(lines[0][0]["train/loss"], lines[1][0]["train/loss"], rtol=1e-4)
    assert abs(results[1]["test"]["accuracy"] - results[2]["test"]["accuracy"]) <= 2 / 360


def train_with_two(folder, *options):
    """Starts the quickstart in two processes and returns both, running."""
    command = [sys.executable, "-m", "experiments.train", "--config", "configs/quickstart.py", "--workdir", str(folder)]
    together = ["--coordinator_address", free_address(), "--num_processes", "2", "--process_id"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return [
        subprocess.Popen([*command, *options, *together, str(n)], cwd=REPOSITORY, env=child_environment(1), **pipes)
        for n in range(2)
    ]


def test_a_folder_in_use_stops_both_processes_with_one_line_each(tmp_path):
    with workdir.locked(tmp_path):
        processes = train_with_two(tmp_path)
        outputs = [process.communicate(timeout=100) for process in processes]
    assert [process.returncode for process in processes] == [2, 2]
    assert "in use by process" in outputs[0][1].splitlines()[-1]
    assert "another process of this run stopped" in outputs[1][1].splitlines()[-1]
    assert "Traceback" not in outputs[0][1] + outputs[1][1]


@pytest.mark.slow
def test_a_signal_to_one_process_saves_and_stops_both(tmp_path):
    options = ["--config.duration.steps=100000", "--config.steps_per_dispatch=1", "--config.evals.test.every=None"]
    processes = train_with_two(tmp_path, *options)
    while len(read_metrics(tmp_path / "metrics.jsonl")) < 2 and processes[0].poll() is None:
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGTERM)
    outputs = [process.communicate(timeout=100) for process in processes]
    assert [process.returncode for process in processes] == [143, 143], outputs
    assert "the same command resumes" in outputs[0][1]
    step, _, _ = load_arrays(tmp_path)
    assert f"stopped at step {step} of 100000" in outputs[0][1]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--num_processes", "2"], "--coordinator_address"),
        (["--process_id", "1"], "--process_id"),
        (["--num_processes", "2", "--process_id", "7", "--coordinator_address", "127.0.0.1:1"], "--process_id"),
    ],
)
def test_numbers_of_processes_that_do_not_fit_are_refused(program, tmp_path, options, part):
    command = ["experiments.train", "--config", "configs/quickstart.py", "--workdir", tmp_path]
    (line,) = program(*command, *options, check=2).stderr.strip().splitlines()
    assert part in line


def folder_of_images(root):
    from PIL import Image

    for number in range(40):
        path = root / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 9), number, np.uint8)).save(path)
    return root


def two_over(folder, data, *, environments=({}, {})):
    """Ends of the two processes of a training on a data set that the host decodes."""
    command = [sys.executable, "-m", "experiments.train", "--config", "configs/folder.py", f"--config.data.name={data}"]
    command += ["--config.data.residency=host", "--config.batch_size=8", "--config.duration.steps=60", "--workdir"]
    command += [str(folder), "--config.logging.every.steps=5", "--coordinator_address", free_address()]
    processes = [
        subprocess.Popen(
            [*command, "--config.evals={}", "--num_processes", "2", "--process_id", str(n)],
            cwd=REPOSITORY,
            env=child_environment(1) | environments[n],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=150)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], outputs


@pytest.mark.slow
def test_an_image_that_one_process_cannot_decode_stops_both(tmp_path):
    root = folder_of_images(tmp_path / "data")
    for path in sorted((root / "a").glob("*.png"))[:5]:  # two of the class are held out
        path.write_bytes(path.read_bytes()[:40])
    codes, outputs = two_over(tmp_path / "run", f"folder:{root}")
    assert codes == [2, 2], outputs
    lines = [output.strip().splitlines()[-1] for output in outputs]
    named = [line for line in lines if ".png: the image does not decode" in line]
    assert named, lines
    assert all(line in named or "another process of this run stopped" in line for line in lines)
    assert not list((tmp_path / "run" / "checkpoints").glob("[0-9]*")), "nothing is saved of what saw a black image"


@pytest.mark.slow
def test_data_that_one_process_does_not_have_stop_both(tmp_path):
    empty = {"TFDS_DATA_DIR": str(tmp_path)}
    codes, outputs = two_over(tmp_path / "run", "cifar10", environments=({"TFDS_DATA_DIR": str(tmp_path)}, empty))
    assert codes == [2, 2], outputs
    root = folder_of_images(tmp_path / "data")
    other = tmp_path / "home" / "data"
    folder_of_images(other)
    (other / "a" / "0.png").unlink()
    environments = ({"HOME": str(tmp_path)}, {"HOME": str(tmp_path / "home")})
    codes, outputs = two_over(tmp_path / "run", "folder:~/data", environments=environments)
    assert codes == [2, 2], outputs
    assert all("the processes of this run have different training data" in output for output in outputs)
    assert root.exists()
