"""The README's commands run as written, in order, in a copy of the repository (installing and testing is CI's)."""

import re
import shutil
import subprocess
import sys
import time

import pytest
from conftest import REPOSITORY, child_environment


def commands():
    blocks = re.findall(r"```sh\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    return [line for block in blocks for line in block.strip().splitlines()]


def test_the_two_commands_that_set_everything_up_are_there():
    assert commands()[:2] == [
        "pip install -e . && python -m experiments.train --config configs/quickstart.py",
        'pip install -e ".[test]" && pytest',
    ]


@pytest.mark.slow
def test_every_other_command_runs_as_written(tmp_path):
    copy = tmp_path / "copy"
    for name in ("vision", "configs", "experiments", "tools"):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    environment = child_environment() | {"PYTHONPATH": str(copy), "PATH": f"{sys.exec_prefix}/bin:/usr/bin:/bin"}
    outputs, seconds = {}, {}
    for command in commands():
        if command.endswith("pytest"):
            continue
        line = command.removeprefix("pip install -e . && ")
        began = time.monotonic()
        done = subprocess.run(line, shell=True, cwd=copy, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        outputs.setdefault(line.split("#")[0].strip(), []).append(done.stdout + done.stderr)
        seconds[line] = time.monotonic() - began
    first, second = outputs["python -m experiments.train --config configs/quickstart.py"]
    assert float(re.search(r"done: .*test accuracy ([\d.]+)", first).group(1)) >= 0.98
    assert seconds["python -m experiments.train --config configs/quickstart.py"] < 60
    assert "complete" in second, "the second time the same command says so"
    (proof,) = next(texts for line, texts in outputs.items() if "reproduce" in line)
    assert "bitwise equal" in proof
    assert (copy / "runs" / "comparison.html").exists()
