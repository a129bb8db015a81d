"""Launchers write what schedulers and shells take, and a process reads off its environment where it stands."""

import json
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from tools.launch import kubernetes, local, slurm, tpu_pod
from vision.errors import UserError
from vision.training.clusters import Place, find, first_host
from vision.training.interrupt import Interrupt
from vision.training.stopping import Stopping, TimeBudget

SHELLCHECK = Path(sys.executable).parent / "shellcheck"
TRAIN = ["--", "python", "-m", "experiments.train", "--config", "configs/it's mine.py"]
STEP = {  # what srun gives a task, by its manual: four tasks on two hosts
    "SLURM_JOB_ID": "5000",
    "SLURM_STEP_ID": "1",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_NTASKS": "4",
    "SLURM_NODEID": "1",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
}


def printed(main, arguments, capsys):
    assert main([str(argument) for argument in arguments]) in (0, None)
    return capsys.readouterr().out


def shell_checked(text, tmp_path):
    path = tmp_path / "script.sh"
    path.write_text(text)
    done = subprocess.run([SHELLCHECK, "--shell=bash", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_task_of_slurm_knows_its_place():
    port = 61440 + 5001 % 4096
    assert find("auto", STEP)[0] == Place("SLURM", 4, 3, f"gpu07:{port}", 1)
    alone_on_its_host = STEP | {"SLURM_STEP_TASKS_PER_NODE": "1(x4)", "SLURM_LOCALID": "0"}
    assert find("slurm", alone_on_its_host)[0].device is None, "it would see the first of its GPUs only"


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("node001", "node001"),
        ("node001,host2", "node001"),
        ("node[001-0015],host2", "node001"),
        ("node[001,007-015]", "node001"),
        ("a-[3-4]-ib", "a-3-ib"),
    ],
)
def test_the_first_host_of_a_list_in_slurms_notation(nodes, host):
    assert first_host(nodes) == host


def test_shells_and_single_tasks_of_slurm_wait_for_nobody():
    """JAX's own detection takes the shell of an interactive job for one of its tasks, and hangs."""
    shell = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    place, note = find("auto", shell)
    assert place is None
    assert "srun" in note
    interactive = STEP | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_STEP_TASKS_PER_NODE": "1"}
    assert find("auto", interactive)[0].count == 1
    assert find("off", STEP) == (None, "")
    assert find("auto", {}) == (None, "")


def test_ranks_of_open_mpi_know_their_place():
    given = {
        "OMPI_COMM_WORLD_SIZE": "4",
        "OMPI_COMM_WORLD_RANK": "2",
        "OMPI_COMM_WORLD_LOCAL_RANK": "0",
        "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
        "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
    }
    # JAX's rule for the port: the job's number without its last 12 bits, modulo 4,096.
    assert find("auto", given)[0] == Place("Open MPI", 4, 2, f"10.96.0.1:{61440 + (1531576320 // 4096) % 4096}", 0)
    with pytest.raises(UserError, match="--coordinator_address"):
        find("auto", {key: value for key, value in given.items() if "hnp" not in key})


@pytest.mark.parametrize(
    ("way", "given", "said"),
    [
        ("slrum", {}, "did you mean 'slurm'"),
        ("slurm", {}, "none of its variables"),
        ("auto", STEP | {"SLURM_PROCID": "x"}, "SLURM_PROCID"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(way, given, said):
    with pytest.raises(UserError, match=said):
        find(way, given)


def test_a_time_budget_leaves_enough_for_another_turn_and_the_save():
    now = [0.0]
    budget = TimeBudget(100.0, clock=lambda: now[0])
    budget.saw(50.0, 0.0)  # compiles, and does not come again
    budget.saw(5.0, 20.0)
    budget.saw_save(10.0)
    now[0] = 70.0  # 5 for a step, 20 for two saves, 3 to leave: 28 of 30
    assert not budget.over(event_due=False)
    assert budget.over(event_due=True)
    now[0] = 73.0
    assert budget.over(event_due=False)
    assert not TimeBudget(None).over()


def test_a_warning_is_no_first_signal_and_ends_with_the_code_that_requeues():
    with Interrupt(warnings=True) as interrupt:
        stopping = Stopping(interrupt, TimeBudget(None), alone=True)
        assert stopping.asked(3, 9, "run", next_event=9) is None
        for _ in range(2):
            signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGTERM)  # the scheduler means it; the save goes on
        assert stopping.asked(4, 9, "run", next_event=9).exit_code == 75
    with Interrupt(warnings=True) as interrupt:
        signal.raise_signal(signal.SIGTERM)
        assert Stopping(interrupt, TimeBudget(None), alone=True).asked(4, 9, "run", next_event=9).exit_code == 143


def test_processes_ask_each_other_every_few_seconds_not_at_every_step(monkeypatch):
    """All from what all were told: the slowest one's pace, in float32."""
    from vision.training import stopping as module

    now, asked = [0.0], []
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module, "_largest", lambda values: [*values[:3], 2 * values[3]])
    stopping = Stopping(Interrupt(), TimeBudget(None), alone=False)
    for step in range(1, 3000):
        now[0] += 0.01
        if stopping.due(step):
            asked.append(step)
            stopping.asked(step, 9999, "run", next_event=9999)
    gaps = [later - sooner for sooner, later in pairwise(asked)]
    assert gaps[:4] == [1, 2, 4, 8]
    assert set(gaps[-3:]) <= {199, 200}  # 4 s at 20 ms


def test_a_batch_script_passes_the_shells_check_and_keeps_the_words(capsys, tmp_path):
    options = ["--nodes", 2, "--gpus_per_node", 4, "--time", "1-00:30:00", "--sbatch=--qos=long", "--directory", "/a b"]
    text = printed(slurm.main, [*options, *TRAIN], capsys)
    shell_checked(text, tmp_path)
    assert "#SBATCH --signal=B:USR1@120" in text
    assert "--config 'configs/it'\"'\"'s mine.py' --max_time 1468 &" in text
    assert "cd '/a b' ||" in text
    kept = printed(slurm.main, [*TRAIN, "--max_time", "9"], capsys)
    assert kept.count("--max_time") == 1
    assert "--max_time" not in printed(slurm.main, ["--", "hostname"], capsys)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("90:30", 90.5), ("1:30:00", 90), ("1-6", 1800), ("1-6:30", 1830), ("2-00:00:30", 2880.5)],
)
def test_time_limits_are_read_as_sbatch_reads_them(text, minutes):
    assert slurm.limit_minutes(text) == minutes


def test_what_a_pod_runs_keeps_its_words_and_starts_again_after_75_or_a_kill(capsys, tmp_path):
    """The killed process ends with 137, those that JAX ends after it with 134; an error ends them for good."""
    code = "import os, sys; assert os.environ['A'] == 'b c'; open('n', 'a').write('x')\n"
    code += "done = len(open('n').read())\n"
    code += "os.kill(os.getpid(), {1: 9, 2: 6}[done]) if done < 3 else sys.exit({3: 75, 4: 2}[done])"
    options = ["--name", "pod", "--zone", "z", "--json", "--directory", tmp_path, "--env", "A=b c"]
    out = printed(tpu_pod.main, [*options, "--", "python", "-c", code], capsys)
    command = json.loads(out.splitlines()[-1])["command"]
    assert command[:6] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "pod"]
    on_host = command[-1].removeprefix("--command=")
    shell_checked("#!/bin/bash\n" + on_host + "\n", tmp_path)
    faster = on_host.replace("sleep 5", "sleep 0").replace("python -c", f"{sys.executable} -c")
    assert subprocess.run(["bash", "-c", faster], timeout=60).returncode == 2
    assert (tmp_path / "n").read_text() == "xxxx"


# The fields that JobSet's and Kubernetes' published schemas require, and the only values that they allow.
REQUIRED = {
    (): ("apiVersion", "kind", "metadata", "spec"),
    ("spec", "replicatedJobs", 0): ("name", "template"),
    ("spec", "replicatedJobs", 0, "template", "spec"): ("template",),
    ("spec", "failurePolicy", "rules", 0): ("action", "name"),
    ("spec", "replicatedJobs", 0, "template", "spec", "podFailurePolicy", "rules", 0): ("action",),
    ("spec", "replicatedJobs", 0, "template", "spec", "podFailurePolicy", "rules", 0, "onExitCodes"): (
        "operator",
        "values",
    ),
    ("spec", "replicatedJobs", 0, "template", "spec", "template", "spec"): ("containers",),
    ("spec", "replicatedJobs", 0, "template", "spec", "template", "spec", "containers", 0): ("name", "image"),
}


def test_a_job_set_has_the_fields_of_its_schema(capsys):
    common = ["--image", "registry.example/vision", "--hosts", 4, "--claim", "runs"]
    whole = yaml.safe_load(printed(kubernetes.main, [*common, "--gpu", "nvidia-l4", *TRAIN, "$(HOME)"], capsys))
    assert (whole["apiVersion"], whole["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    for path, names in REQUIRED.items():
        value = whole
        for part in path:
            value = value[part]
        assert set(names) <= set(value), path
    job = whole["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] == "Never", "what a podFailurePolicy requires"
    assert job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [1, 2], "75 starts the set again"
    command = pod["containers"][0]["command"]
    assert command[4:6] == ["configs/it's mine.py", "$$(HOME)"], "Kubernetes expands what the user's shell did not"
    assert command[-1] == "$(PROCESS_ID)"
    tpu = yaml.safe_load(
        printed(kubernetes.main, [*common, "--tpu", "tpu-v5-lite-podslice", "--topology", "4x4", *TRAIN], capsys)
    )
    pod = tpu["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "4x4"
    assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": 4}
    assert "--process_id" not in pod["containers"][0]["command"]


@pytest.mark.parametrize(
    ("main", "arguments", "said"),
    [
        (slurm.main, ["--time", "soon", *TRAIN], "--time"),
        (slurm.main, ["--time", "3", *TRAIN], "--warn"),
        (slurm.main, ["--name", "My job", *TRAIN], "--name"),
        (kubernetes.main, ["--image", "i", "--tpu", "x", *TRAIN], "--topology"),
        (tpu_pod.main, ["--name", "p", "--zone", "z", "--env", "A", *TRAIN], "--env"),
        (local.main, ["--processes", "0", *TRAIN], "--processes"),
    ],
)
def test_mistakes_are_named(main, arguments, said):
    with pytest.raises(UserError, match=said):
        main(arguments)


def test_without_a_command_one_line_says_how(capsys):
    with pytest.raises(SystemExit) as ended:
        slurm.main(["--nodes", "2"])
    assert ended.value.code == 2
    assert "after --" in capsys.readouterr().err


def test_local_processes_hear_signals_and_the_first_failure_counts(tmp_path):
    """One ends with 3, the other, which is never told, has ended on its own: the launcher ends with 3."""
    code = "import sys; sys.exit(3 if '0' == sys.argv[-1] else 75)"
    done = subprocess.run([sys.executable, "-m", "tools.launch.local", "--", sys.executable, "-c", code], timeout=60)
    assert done.returncode == 3
