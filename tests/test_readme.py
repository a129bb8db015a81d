"""The README's commands run as written, in order, in a copy of the repository (installing and testing is CI's)."""

import re
import shutil
import subprocess
import sys

from conftest import REPOSITORY, child_environment


def commands():
    blocks = re.findall(r"```sh\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    return [line for block in blocks for line in block.strip().splitlines()]


def test_the_two_commands_that_set_everything_up_are_there():
    assert commands()[:2] == [
        "pip install -e . && python -m experiments.train --config configs/quickstart.py",
        'pip install -e ".[test]" && pytest',
    ]


def test_every_other_command_runs_as_written(tmp_path):
    copy = tmp_path / "copy"
    for name in ("vision", "configs", "experiments", "tools"):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    environment = child_environment() | {"PYTHONPATH": str(copy), "PATH": f"{sys.exec_prefix}/bin:/usr/bin:/bin"}
    outputs = {}
    for command in commands():
        if command.endswith("pytest"):
            continue
        line = command.removeprefix("pip install -e . && ")
        done = subprocess.run(line, shell=True, cwd=copy, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        outputs[line.split("#")[0].strip()] = done.stdout + done.stderr
    first = outputs["python -m experiments.train --config configs/quickstart.py"]
    assert "complete" in first, "the second time the same command says so"
    straight = next(text for line, text in outputs.items() if "reproduce" in line)
    assert "bitwise equal" in straight
    assert (copy / "runs" / "comparison.html").exists()
