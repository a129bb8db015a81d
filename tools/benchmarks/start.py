"""How long until something happens: imports, and the first train step of the quickstart, in fresh processes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from tools.benchmarks.rows import QUICKSTART, ROOT, Row, Settings, say, seconds_of
from vision.errors import UserError

IMPORT_AIM, HELP_AIM, WARM_AIM = 1.5, 1.0, 4.0


def run(settings: Settings) -> list[Row]:
    """Times imports and first steps, alternating what is compared."""
    repeats = settings.times(5)
    say(f"start: {repeats} x (imports, --help, first step with an empty and a filled cache)")
    scratch = settings.scratch / "start"
    _first_step(scratch / "before", None)  # prepares the data set, compiles Python's bytecode
    bare, plain, loop, shown, cold, warm = [], [], [], [], [], []
    for index in range(repeats):
        bare.append(seconds_of(lambda: _python("-c", "import jax")))
        plain.append(seconds_of(lambda: _python("-c", "import vision")))
        shown.append(seconds_of(lambda: _python("-m", "experiments.train", "--help")))
        loop.append(seconds_of(lambda: _python("-c", "import vision.training.loop")))
        here = scratch / str(index)
        cold.append(_first_step(here / "cold", here / "xla"))
        warm.append(_first_step(here / "warm", here / "xla"))

    def row(name: str, values: list[float], aim: float | None = None) -> Row:
        return Row("start", name, tuple(values), "s", aim)

    return [
        row("import jax", bare),
        row("import vision", plain, IMPORT_AIM),
        row("experiments.train --help", shown, HELP_AIM),
        row("import vision.training.loop", loop),
        row("quickstart, empty cache: first step", [each["first_step"] for each in cold]),
        row("quickstart, filled cache: first step", [each["first_step"] for each in warm], WARM_AIM),
        row("quickstart, filled cache: imports done", [each["imported"] for each in warm]),
    ]


def _first_step(workdir: Path, cache: Path | None) -> dict[str, float]:
    """Returns the seconds from the launch of a training to its imports and to the end of its first dispatch."""
    arguments = ("--config", QUICKSTART, "--workdir", str(workdir))
    output = _python("-m", "tools.benchmarks.first_step", str(time.time()), *arguments, cache=cache)
    return json.loads(output.splitlines()[-1])


def _python(*arguments: str, cache: Path | None = None) -> str:
    """Runs Python in the repository and returns its output."""
    environment = {**os.environ, **({"JAX_COMPILATION_CACHE_DIR": str(cache)} if cache else {})}
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"python {' '.join(arguments)} ended with code {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout
