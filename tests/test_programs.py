"""Programs answer as a person would wish: help at once, one line for a mistake, the right exit code."""

import json
import subprocess
import sys
import time

import pytest
from conftest import REPOSITORY, child_environment

PROGRAMS = sorted(
    f"{folder}.{path.stem}" for folder in ("experiments", "tools") for path in (REPOSITORY / folder).glob("[a-z]*.py")
)


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_comes_within_a_second(program, name):
    times = []
    for _ in range(3):
        began = time.perf_counter()
        done = program(name, "--help")
        times.append(time.perf_counter() - began)
        assert "usage:" in done.stdout
        if times[-1] < 1:
            break
    assert min(times) < 1, times


@pytest.mark.parametrize("name", PROGRAMS)
def test_wrong_flag_is_one_line_and_exit_code_2(program, name):
    (line,) = program(name, "--no_such_flag", check=2).stderr.splitlines()
    assert line.startswith("error: ")
    assert f"python -m {name} --help" in line


WRONG = [
    (["experiments.train", "--config", "configs/quickstrat.py"], ["configs/quickstart.py"]),
    (
        ["experiments.train", "--config", "configs/quickstart.py", "--config.optimizer.learningrate=0.1"],
        ["learning_rate"],
    ),
    (
        ["experiments.train", "--config", "configs/quickstart.py", "--config.batch_size=lots"],
        ["config.batch_size", "int"],
    ),
    (
        ["experiments.train", "--config", "configs/quickstart.py", "--config.data.name=digit"],
        ["digits", "TFDS_DATA_DIR"],
    ),
    (
        ["experiments.train", "--config", "configs/quickstart.py", "--config.data.image_size=big"],
        ["config.data.image_size", "int or tuple[int, int]"],
    ),
    (["experiments.train", "--config", "configs/quickstart.py", "--config.mesh.data=3"], ["config.mesh", "devices"]),
    (["experiments.train", "--config", "configs/quickstart.py", "--config.duration.steps=0.5"], ["whole number"]),
    (["experiments.train", "--config", "configs/quickstart.py", "--workdir", "/proc/nothing"], ["--workdir"]),
    (["experiments.train", "--config", "configs/quickstart.py", "--workdir", "README.md"], ["a file, not a folder"]),
    (
        ["experiments.train", "--config", "configs/quickstart.py", "--config.model.dropout=1.5"],
        ["config.model", "dropout"],
    ),
    (["experiments.evaluate", "--workdir", "runs/none"], ["is no run"]),
    (
        ["experiments.reproduce", "--config", "configs/quickstart.py", "--steps", "5", "--interrupt", "9"],
        ["--interrupt"],
    ),
    (["tools.compare_checkpoints", "runs/none", "runs/none"], ["is no run"]),
    (["tools.report", "runs/none"], ["runs/none"]),
]


@pytest.mark.parametrize(("arguments", "parts"), WRONG, ids=[" ".join(words[0][-2:]) for words in WRONG])
def test_a_mistake_is_one_readable_line_and_exit_code_2(program, tmp_path, arguments, parts):
    if arguments[0] == "experiments.train" and "--workdir" not in arguments:
        arguments = [*arguments, "--workdir", tmp_path / "run"]
    done = program(*arguments, check=2)
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    for part in parts:
        assert part in line


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """The quickstart, shortened, in a process of its own, with its output."""
    folder = tmp_path_factory.mktemp("quickstart") / "run"
    command = [sys.executable, "-m", "experiments.train", "--config", "configs/quickstart.py", "--workdir", str(folder)]
    done = subprocess.run(
        [*command, "--config.duration.steps=60", "--json"],
        cwd=REPOSITORY,
        env=child_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder, done


def test_last_line_of_output_is_the_result_and_all_else_goes_to_standard_error(quickstart):
    folder, done = quickstart
    (line,) = done.stdout.splitlines()
    result = json.loads(line)
    assert result["workdir"] == str(folder)
    assert result["step"] == 60
    assert 0.5 < result["test"]["accuracy"] <= 1
    for part in ("60 steps", "report.html", "experiments.evaluate", "the same command", "examples/s"):
        assert part in done.stderr
    assert "\r" not in done.stderr, "no bar where there is no terminal"


def test_evaluate_gives_the_numbers_of_the_run(quickstart, program):
    folder, done = quickstart
    result = json.loads(done.stdout.splitlines()[-1])
    again = json.loads(program("experiments.evaluate", "--workdir", folder, "--json").stdout.splitlines()[-1])
    assert again["test"] == pytest.approx(result["test"], rel=1e-6)
    other = json.loads(program("experiments.evaluate", "--workdir", folder, "--split", "train[:20%]", "--json").stdout)
    assert other["test"] != again["test"]
    assert "its splits" in program("experiments.evaluate", "--workdir", folder, "--split", "val", check=2).stderr
    assert "it has" in program("experiments.evaluate", "--workdir", folder, "--step", "7", check=2).stderr


@pytest.mark.slow
def test_quickstart_on_eight_devices_is_as_good_as_on_one(program, tmp_path):
    accuracy = []
    for devices in (1, 8):
        command = ["experiments.train", "--config", "configs/quickstart.py", "--workdir", tmp_path / str(devices)]
        accuracy.append(json.loads(program(*command, "--json", devices=devices).stdout)["test"]["accuracy"])
    assert min(accuracy) >= 0.98
    assert abs(accuracy[0] - accuracy[1]) <= 0.005


def test_a_device_that_is_not_there_is_named(program, tmp_path):
    command = ["experiments.train", "--config", "configs/quickstart.py", "--workdir", tmp_path]
    done = program(*command, check=2, environment={"JAX_PLATFORMS": "cuda"})
    assert done.stderr.strip().splitlines()[-1].startswith("error: JAX does not start with JAX_PLATFORMS='cuda'")


@pytest.mark.slow
def test_a_run_of_eight_devices_is_evaluated_on_one(program, tmp_path):
    sharded = ["--config.mesh.data=2", "--config.mesh.fsdp=4", "--config.sharding=[('params/.*kernel','fsdp(fsdp)')]"]
    command = ["experiments.train", "--config", "configs/quickstart.py", "--workdir", tmp_path, "--json"]
    result = json.loads(program(*command, *sharded, "--config.duration.steps=20", devices=8).stdout)
    done = program("experiments.evaluate", "--workdir", tmp_path, "--json")
    assert "do not fit 1 devices; data parallel instead" in done.stderr
    assert json.loads(done.stdout)["test"] == pytest.approx(result["test"], rel=1e-5)


def test_comparing_a_run_with_itself_and_with_another_of_its_steps(quickstart, program):
    folder, _ = quickstart
    assert "bitwise equal" in program("tools.compare_checkpoints", folder, folder).stdout
    assert "has no step 1" in program("tools.compare_checkpoints", folder, folder, "--step", "1", check=2).stderr


def test_a_bar_on_a_terminal(tmp_path):
    """Under a pseudo-terminal the bar shows loss, accuracy, rate and remaining time."""
    import os
    import pty
    import termios

    command = [
        sys.executable,
        "-m",
        "experiments.train",
        "--config",
        "configs/quickstart.py",
        "--workdir",
        str(tmp_path),
    ]
    parent, child = pty.openpty()
    termios.tcsetwinsize(child, (40, 160))
    process = subprocess.Popen(
        [*command, "--config.duration.steps=60"],
        cwd=REPOSITORY,
        env=child_environment(),
        stdout=subprocess.DEVNULL,
        stderr=child,
    )
    os.close(child)
    output = b""
    while True:
        try:
            chunk = os.read(parent, 65536)
        except OSError:
            break
        if not chunk:
            break
        output += chunk
    os.close(parent)
    assert process.wait() == 0
    text = output.decode()
    for part in ("\r", "60/60", "loss=", "accuracy=", "examples/s=", "step/s"):
        assert part in text


@pytest.mark.slow
def test_reproduce_proves_equality_and_finds_a_difference(program):
    arguments = ["experiments.reproduce", "--config", "configs/quickstart.py", "--steps", "30", "--interrupt", "13"]
    done = program(*arguments, "--json")
    assert "bitwise equal" in done.stdout
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["equal"]
    assert result["resumed_from"] >= 6, "a run that began anew would prove nothing"
    other = program(*arguments, "--perturb_seed", check=1)
    assert "not reproduced" in other.stdout
    assert "the first is opt_state" in other.stdout
