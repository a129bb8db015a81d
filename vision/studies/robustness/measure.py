"""Accuracy of runs on corrupted images, run by run, each remembered."""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vision.data import corrupt
from vision.data.source import ArraySource
from vision.errors import UserError
from vision.studies import parts
from vision.studies.ladder.climb import Table, climb
from vision.studies.ladder.climb import chosen as chosen_rungs
from vision.studies.ladder.rungs import rungs
from vision.studies.robustness.images import Run, framed, test_images
from vision.training.predictor import open_predictor

RUNGS = ("hog_svm", "sift_bow_forest", "mlp", "lenet", "vit")


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
      workdir: folder of the study.
      corruptions: names of :data:`vision.data.corrupt.CORRUPTIONS`.
      strengths: of 1 to 5.
      examples: test images, at most.
      split: where they are taken from; None for the held-out split.
    """

    workdir: Path
    corruptions: tuple[str, ...] = tuple(corrupt.CORRUPTIONS)
    strengths: tuple[int, ...] = corrupt.STRENGTHS
    examples: int = 1000
    split: str | None = None


def check(options: Options) -> None:
    """Raises a UserError for options that cannot be."""
    try:
        corrupt.check(options.corruptions, options.strengths)
    except ValueError as error:
        raise UserError(str(error)) from error
    if options.examples < 1:
        raise UserError(f"--examples must be at least 1, got {options.examples}")


def climbed(dataset: str, size: str, workdir: Path, *, data_dir: str | None) -> list[str]:
    """Trains or fits five rungs of the ladder, one for each way to see, and returns the folders of their runs.

    Raises:
      UserError: there is no such data set or size.
    """
    wanted = chosen_rungs(rungs(dataset, size), RUNGS)
    for _ in climb(wanted, workdir, seeds=1, data_dir=data_dir, deadline=None, tell=Table()):
        pass
    return [str(workdir / "rungs" / rung.name / "0" / "run") for rung in wanted]


def opened(workdirs: Sequence[str]) -> list[Run]:
    """Returns the runs of these folders, named by what tells their paths apart.

    Raises:
      UserError: a folder is no run, or stands there twice.
    """
    folders = [Path(each) for each in workdirs]
    resolved = [folder.resolve() for folder in folders]
    for place, folder in enumerate(resolved):
        if folder in resolved[:place]:
            raise UserError(f"--workdirs: {workdirs[place]} stands there twice")
    names = _names(resolved)
    return [
        Run(name, str(folder), open_predictor(folder, note=say)) for name, folder in zip(names, folders, strict=True)
    ]


def _names(folders: Sequence[Path]) -> list[str]:
    """The parts of the paths that differ between them, the last one where there is a single path."""
    if len(folders) == 1:
        return [folders[0].name]
    columns = [folder.parts for folder in folders]
    shared = 0
    while all(len(each) > shared for each in columns) and len({each[shared] for each in columns}) == 1:
        shared += 1
    rest = [each[shared:] or each[-1:] for each in columns]
    while all(len(each) > 1 for each in rest) and len({each[-1] for each in rest}) == 1:
        rest = [each[:-1] for each in rest]
    return ["/".join(each) for each in rest]


def measured(runs: Sequence[Run], options: Options) -> tuple[dict[str, Any], ArraySource]:
    """Measures every run, and returns what ``robustness.json`` holds, and the images.

    Raises:
      UserError: the runs are of different data, or a result cannot be written.
    """
    images = test_images(runs, options.split, options.examples, note=say)
    say(f"{len(images):,} images, {len(options.corruptions)} corruptions at strengths {options.strengths}")
    settings = {
        "images": images.fingerprint,
        "corruptions": options.corruptions,
        "strengths": options.strengths,
    }
    results = []
    for run in runs:

        def of_run(run: Run = run) -> dict[str, Any]:
            return accuracies(run, images, options.corruptions, options.strengths)

        name, identity = run.name.replace("/", "-"), _identity(Path(run.workdir))
        results.append(
            parts.done_or_new(options.workdir / "parts", name, {**settings, "run": identity}, of_run, note=say)
        )
    whole = {
        "workdir": str(options.workdir),
        "data": runs[0].predictor.config["data"]["name"],
        "examples": len(images),
        "chance": 1 / images.num_classes,
        "strengths": list(options.strengths),
        "runs": [{"name": run.name, "run": run.workdir, **result} for run, result in zip(runs, results, strict=True)],
    }
    return whole, images


def accuracies(run: Run, images: ArraySource, names: Sequence[str], strengths: Sequence[int]) -> dict[str, Any]:
    """Returns ``accuracy``, ``corruptions`` (name -> an accuracy for each strength), ``mean_accuracy`` and others."""
    pixels, labels = images.arrays["image"], images.arrays["label"]

    def accuracy(shown: np.ndarray) -> float:
        scores = run.predictor.scores(framed(shown, run.predictor.part))
        return float(np.mean(scores.argmax(axis=1) == labels))

    clean = accuracy(pixels)
    found = {name: [accuracy(corrupt.corrupted(name, pixels, strength)) for strength in strengths] for name in names}
    mean = float(np.mean(list(found.values())))
    return {
        "model": run.predictor.name,
        "parameters": run.predictor.parameters,
        "accuracy": clean,
        "corruptions": found,
        "mean_accuracy": mean,
        "kept": mean / clean if clean else 0.0,
    }


def _identity(workdir: Path) -> str:
    """Changes when a run is trained further or made anew."""
    digest = hashlib.sha256()
    for name in ("config.json", "summary.json"):
        path = workdir / name
        digest.update(path.read_bytes() if path.is_file() else b"none")
    checkpoints = workdir / "checkpoints"
    digest.update(" ".join(sorted(each.name for each in checkpoints.glob("*"))).encode())
    return digest.hexdigest()[:16]


def say(text: str) -> None:
    """Tells people."""
    print(text, file=sys.stderr, flush=True)
