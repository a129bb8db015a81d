"""The surfaces of several runs: measured, written as data, drawn beside each other."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vision.analysis import page
from vision.errors import UserError
from vision.studies import parts
from vision.studies.look_data import RunData, Sample, config_of_run, host_part_of
from vision.studies.loss_surface import picture
from vision.studies.loss_surface.measure import Grid, examples_used, surface
from vision.studies.loss_surface.page import render
from vision.training.pretrained import Pretrained, load_pretrained

Note = Callable[[str], None]


def study(
    workdirs: Mapping[str, str],
    grid: Grid,
    out: Path,
    *,
    split: str,
    examples: int,
    step: int | None = None,
    command: str,
    note: Note,
) -> dict[str, Any]:
    """Measures and draws, and returns what the last line of ``--json`` says.

    Args:
      workdirs: folder of each run by its name.
      grid: where the loss is measured.
      out: folder for all files.
      split: ``train`` or ``test``, of each run's own data.
      examples: at most how many of it.
      step: which checkpoint; None for the newest of each.
      command: that was typed.
      note: told what happens.

    Raises:
      UserError: a run is no classifier, has no labels, or a file cannot be written.
    """
    opened = {name: _open(workdir, split, examples, step, note) for name, workdir in workdirs.items()}
    found, runs = [], []
    for name, (pretrained, sample) in opened.items():
        note(f"{name}: {pretrained.name}, {sample.where}")
        each = surface(pretrained, sample, grid, out / "rows", name=name, note=note)
        found.append(each)
        summary = picture.summary(grid.distances, each)
        runs.append({"name": name, "workdir": workdirs[name], "model": pretrained.name, "summary": summary})
    used = examples_used(min(len(sample.images) for _, sample in opened.values()))
    files = {kind: str(out / f"loss_surface.{kind}") for kind in ("npz", "json", "png", "html")}
    result = {"split": split, "examples": used, "grid": grid._asdict(), "runs": runs, "files": files}
    losses, errors = (np.stack([each[key] for each in found]) for key in ("loss", "error"))
    names = list(opened)
    try:
        np.savez(files["npz"], distances=grid.distances, loss=losses, error=errors, runs=np.array(names))
    except OSError as error:
        raise UserError(f"cannot write {files['npz']}: {error.strerror or error}") from error
    parts.write(Path(files["json"]), {**result, "distances": grid.distances.tolist(), "command": command})
    title = f"Loss over {used:,} examples ({split})"
    picture.save(Path(files["png"]), names, grid.distances, list(losses), title=title)
    page.save(Path(files["html"]), render(result, grid.distances, found, command=command))
    note(f"look at {files['html']}")
    return result


def _open(workdir: str, split: str, examples: int, step: int | None, note: Note) -> tuple[Pretrained, Sample]:
    config = config_of_run(workdir)
    if config is None:
        raise UserError(f"{workdir} is no run: it has no config.json")
    pretrained = load_pretrained(workdir, step=step, note=note)
    _ = pretrained.loss  # says so where the run tells no classes apart
    data = RunData(config, host_part_of(pretrained), note)
    sample = (data.training if split == "train" else data.held_out)(examples)
    if sample.labels is None:
        raise UserError(f"{workdir}: {sample.where} have no single class each, which a loss of classes needs")
    return pretrained, sample
