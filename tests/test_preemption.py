"""Several processes that are stopped, warned, out of time or killed: they end together, and go on as if nothing was."""

import json
import os
import signal
import stat
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import REPOSITORY, child_environment
from test_distributed import free_address

from vision.training.checkpoint import load_arrays
from vision.training.logging import read_metrics

STEPS = 400
OPTIONS = [
    *("--config", "configs/quickstart.py", f"--config.duration.steps={STEPS}", "--config.steps_per_dispatch=1"),
    *("--config.evals={}", "--config.logging.every.steps=20", "--config.checkpoint.every.steps=60"),
]
TRAIN = [sys.executable, "-m", "experiments.train", *OPTIONS]
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": REPOSITORY}


def start(folder, count, *options, devices=1):
    """Starts a training in processes that are told of each other by the three options."""
    command = [*TRAIN, "--workdir", str(folder), *options]
    command += ["--coordinator_address", free_address(), "--num_processes", str(count), "--process_id"]
    return [subprocess.Popen([*command, str(n)], env=child_environment(devices), **PIPES) for n in range(count)]


def ends(processes, timeout=600):
    """Returns the exit codes and what was said."""
    try:
        said = [process.communicate(timeout=timeout)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], said


def wait_for_lines(folder, count, processes, timeout=600):
    end = time.monotonic() + timeout
    while len(read_metrics(folder / "metrics.jsonl")) < count:
        assert processes[0].poll() is None, processes[0].communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def same_bits(one, other):
    (step, arrays, _), (other_step, others, _) = (load_arrays(folder) for folder in (one, other))
    assert step == other_step == STEPS
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, others[name], err_msg=name)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Runs of so many processes with so many devices each, from beginning to end."""
    folders = {}

    def run(count, devices):
        if (count, devices) not in folders:
            folder = tmp_path_factory.mktemp("undisturbed") / "run"
            codes, said = ends(start(folder, count, devices=devices))
            assert codes == [0] * count, said
            folders[count, devices] = folder
        return folders[count, devices]

    return run


@pytest.mark.slow
@pytest.mark.parametrize(("count", "victim"), [(2, 0), (2, 1), (4, 0), (4, 2)])
def test_one_process_is_killed_and_the_others_end_and_all_go_on(tmp_path, undisturbed, count, victim):
    processes = start(tmp_path / "run", count, devices=2)
    wait_for_lines(tmp_path / "run", 5, processes)
    processes[victim].kill()
    killed = time.monotonic()
    codes, said = ends(processes, timeout=100)
    assert time.monotonic() - killed < 60, "seconds, and JAX alone takes 100 on a machine that does nothing else"
    for number in range(count):
        if number != victim:
            assert codes[number] == 75, said[number]
            assert f"process {victim} of this run has ended" in said[number]
            assert "Traceback" not in said[number]
    step = load_arrays(tmp_path / "run")[0]
    assert 0 < step < STEPS
    codes, said = ends(start(tmp_path / "run", count, devices=2))
    assert codes == [0] * count, said
    assert f"resumed at step {step}" in said[0]
    same_bits(tmp_path / "run", undisturbed(count, 2))


@pytest.mark.slow
def test_a_signal_between_two_lines_stops_both_at_the_same_step(tmp_path, undisturbed):
    """Lines of metrics may be an hour apart; a scheduler waits for seconds."""
    processes = start(tmp_path / "run", 2, "--config.logging.every.steps=5")
    wait_for_lines(tmp_path / "run", 2, processes)
    processes[1].send_signal(signal.SIGUSR2)
    codes, said = ends(processes)
    assert codes == [75, 75], said
    step = load_arrays(tmp_path / "run")[0]
    assert all(f"stopped at step {step} of {STEPS}" in each for each in said)


@pytest.mark.slow
def test_time_that_is_over_stops_both_and_the_same_command_goes_on(tmp_path):
    options = ["--config.duration.steps=1000000", "--max_time", "1.5"]
    began = time.time()  # which is a while before the program's own clock starts, on a busy machine
    codes, said = ends(start(tmp_path / "run", 2, *options), timeout=400)
    assert codes == [75, 75], said
    step = load_arrays(tmp_path / "run")[0]
    saved = (tmp_path / "run" / "checkpoints" / str(step)).stat().st_mtime
    assert 0 < saved - max(began, (tmp_path / "run" / "config.json").stat().st_mtime) < 90
    assert all(f"stopped by --max_time at step {step} of 1000000" in each for each in said)


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False])
def test_a_process_that_never_comes_is_named_in_one_line(tmp_path, first):
    command = [*TRAIN, "--workdir", str(tmp_path), "--coordinator_address", free_address(), "--join_timeout", "2"]
    command += ["--num_processes", "3", "--process_id", "0" if first else "1"]
    codes, (said,) = ends([subprocess.Popen(command, env=child_environment(1), **PIPES)])
    assert codes == [2]
    assert ("missing: 1, 2" if first else "process 0 is not to be found") in said.strip().splitlines()[-1]
    assert "Traceback" not in said


# What srun, sbatch and scontrol do as far as a job's script can tell, on one machine.
SRUN = """
import os, signal, subprocess, sys
words = sys.argv[1:]
while words[0].startswith("--"):
    words.pop(0)
count = int(os.environ["SLURM_NTASKS"])
step = {"SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_NUM_TASKS": str(count),
        "SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_TASKS_PER_NODE": str(count), "SLURM_NODEID": "0"}
tasks = [subprocess.Popen(words, env={**os.environ, **step, "SLURM_PROCID": str(n), "SLURM_LOCALID": str(n)})
         for n in range(count)]
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, lambda number, _: [task.send_signal(number) for task in tasks])
codes = [task.wait() for task in tasks]
sys.exit(max(code if code >= 0 else 128 - code for code in codes))
"""
SCONTROL = "import pathlib, sys; assert sys.argv[1:] == ['requeue', '4321']; pathlib.Path('requeue').touch()"
SBATCH = """
import os, pathlib, signal, subprocess, sys, time
script, requeue = sys.stdin.read(), pathlib.Path("requeue")
(tasks,) = [line.split("=")[1] for line in script.splitlines() if line.startswith("#SBATCH --ntasks-per-node")]
shell = {"SLURM_JOB_ID": "4321", "SLURM_NTASKS": tasks, "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
assert "#SBATCH --signal=B:USR1@" in script and "#SBATCH --requeue" in script
for restarts in range(3):
    count = {"SLURM_RESTART_COUNT": str(restarts)} if restarts else {}
    job = subprocess.Popen(["bash", "-c", script], env={**os.environ, **shell, **count})
    metrics = pathlib.Path(os.environ["METRICS"])
    while not restarts and job.poll() is None and not (metrics.exists() and metrics.read_text().count("train/") >= 3):
        time.sleep(0.05)
    if not restarts:
        job.send_signal(signal.SIGUSR1)  # to the batch shell alone
    code = job.wait()
    print(f"job ended with {code}", file=sys.stderr)
    if not requeue.exists():
        break
    requeue.unlink()
sys.exit(code)
"""


@pytest.mark.slow
def test_a_job_of_slurm_is_preempted_requeued_and_ends_with_the_bits_of_one_that_was_not(tmp_path, undisturbed):
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, code in {"srun": SRUN, "scontrol": SCONTROL, "sbatch": SBATCH}.items():
        path = commands / name
        path.write_text(f"#!{sys.executable}\n{code}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    environment = child_environment(1)
    environment |= {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"METRICS": str(tmp_path / "run" / "metrics.jsonl")}
    launch = [sys.executable, "-m", "tools.launch.slurm", "--tasks_per_node", "2", "--submit"]
    launch += ["--directory", str(tmp_path), "--setup", f"ln -sfn '{REPOSITORY / 'configs'}' configs"]
    done = subprocess.run(
        [*launch, "--", *TRAIN, "--workdir", str(tmp_path / "run")],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert "process 1 of 2 by SLURM" in done.stderr
    assert "warned by the scheduler: stopped at step" in done.stderr
    assert "exit code 75: requeued, 1 of 100 times" in done.stderr
    assert "resumed at step" in done.stderr
    same_bits(tmp_path / "run", undisturbed(2, 1))


@pytest.mark.slow
def test_the_local_launcher_trains_in_two_processes_and_starts_again_after_75(tmp_path):
    launch = [sys.executable, "-m", "tools.launch.local", "--devices", "2", "--restarts", "1", "--json", "--"]
    process = subprocess.Popen([*launch, *TRAIN, "--workdir", str(tmp_path)], env=child_environment(1), **PIPES)
    wait_for_lines(tmp_path, 3, [process])
    process.send_signal(signal.SIGUSR1)
    out, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "started again, 1 of 1 times" in said
    assert json.loads(out.splitlines()[-1]) == {"exit_code": 0}
    assert load_arrays(tmp_path)[0] == STEPS
