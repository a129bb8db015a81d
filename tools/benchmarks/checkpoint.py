"""How long a save holds training up, how long until it is on disk, its size, and how long a restore takes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from tools.benchmarks.rows import QUICKSTART, ROOT, Row, Settings, say, seconds_of
from vision.config.loading import load
from vision.training.assemble import Experiment, assemble
from vision.training.checkpoint import Checkpoints
from vision.training.schema import resolve
from vision.training.workdir import as_json

BLOCKING_AIM = 50.0
_STEPS_BETWEEN = 20


def run(settings: Settings) -> list[Row]:
    """Measures the quickstart's state and one of about 100 MB."""
    hidden = (512, 512) if settings.quick else (2048, 2048, 2048)
    large = {"model": {"name": "mlp/512-512", "hidden_sizes": hidden}, "batch_size": 32}
    quickstart = _measure("quickstart", {}, settings, aim=BLOCKING_AIM)
    return quickstart + _measure(f"mlp {'-'.join(map(str, hidden))}", large, settings, aim=None)


def _measure(name: str, options: Mapping[str, Any], settings: Settings, aim: float | None) -> list[Row]:
    experiment = assemble(resolve(load(str(ROOT / QUICKSTART)) | dict(options)))
    megabytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(experiment.abstract_state)) / 1e6
    repeats = settings.times(12)
    directory = settings.scratch / "checkpoint" / name.replace(" ", "-") / "checkpoints"
    directory.parent.mkdir(parents=True)
    label = f"{name}, {megabytes:.0f} MB" if megabytes >= 10 else f"{name}, {megabytes:.1f} MB"
    say(f"checkpoint: {label}: {repeats} saves and restores")
    blocking, on_disk = _save(experiment, directory, repeats + 1)
    newest = max(int(path.name) for path in directory.iterdir() if path.name.isdigit())
    size = sum(path.stat().st_size for path in (directory / str(newest)).rglob("*") if path.is_file())

    def restore() -> None:
        checkpoints = _open(directory)
        jax.block_until_ready(checkpoints.restore_newest(experiment.abstract_state))
        checkpoints.close()

    restored = [seconds_of(restore) for _ in range(repeats)]

    def row(what: str, seconds: list[float], aim: float | None = None) -> Row:
        return Row("checkpoint", f"{label}: {what}", tuple(1e3 * each for each in seconds), "ms", aim)

    return [
        row("first save, blocking", blocking[:1]),
        row("later saves, blocking", blocking[1:], aim),
        row("later saves, until on disk", on_disk[1:]),
        Row("checkpoint", f"{label}: on disk", (size / 1e6,), "MB"),
        row("open and restore, digests checked", restored),
    ]


def _save(experiment: Experiment, directory: Path, saves: int) -> tuple[list[float], list[float]]:
    """Trains and saves in turn; returns the seconds that each save blocked, and until it was on disk.

    Each save finds a state just computed and nothing still being written, as it does in a training whose saves
    are seconds apart.
    """
    checkpoints = _open(directory)
    metadata = {"config": as_json(experiment.config), "window": {}}
    state, step = experiment.init(experiment.constants.keys.init), 0
    checkpoints.warm_up(state)
    blocking, on_disk = [], []
    for _ in range(saves):
        for _ in range(_STEPS_BETWEEN):
            state, _metrics = experiment.step(state, experiment.pipeline.batch(step), experiment.constants)
            step += 1
        jax.block_until_ready(state)
        blocked = seconds_of(lambda: checkpoints.save(step, state, {**metadata, "step": step}))  # noqa: B023
        blocking.append(blocked)
        on_disk.append(blocked + seconds_of(checkpoints.wait))
    checkpoints.close()
    return blocking, on_disk


def _open(directory: Path) -> Checkpoints:
    return Checkpoints(directory, keep=2)
