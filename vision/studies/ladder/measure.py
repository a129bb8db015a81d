"""What is measured of a rung: accuracy on both sides, size, time to fit, speed, and its answers image by image."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vision.data.source import ArraySource, Subset
from vision.data.sources import Opener
from vision.errors import UserError
from vision.studies.ladder.rungs import Rung
from vision.training.fit import fit
from vision.training.fit_schema import is_fit
from vision.training.loop import train
from vision.training.predictor import open_predictor
from vision.training.workdir import as_json, write_json

Note = Callable[[str], None]
_TIMED_SECONDS = 0.5


def measure(rung: Rung, seed: int, folder: Path, *, data_dir: str | None, note: Note) -> dict[str, Any]:
    """Trains or fits a rung in a folder, or goes on with it, and measures it.

    Args:
      rung: what to measure.
      seed: of the rung.
      folder: of this rung and seed; ``run`` in it is the run's own.
      data_dir: folder of prepared data sets.
      note: told what people should know.

    Returns:
      ``test_accuracy``, ``train_accuracy``, ``parameters``, ``fit_seconds``, ``images_per_second`` and others; the
      same is in ``result.json``, and the answers to the test images are in ``answers.npz``.

    Raises:
      UserError: the data are not there, or the folder holds another rung.
    """
    config = _with(rung.config, seed, data_dir)
    done = finished(folder, config)
    if done is not None:
        return done
    began = time.monotonic()
    before = folder / "before"
    if rung.before is not None:
        train(_with(rung.before, seed, None), before, sources={"train": half_of_classes(config["data"], note)})
        config = {**config, "init_from": str(before)}
    run = folder / "run"
    outcome = (fit if is_fit(config) else train)(config, run)
    seconds = outcome.get("feature_seconds", 0.0) + outcome.get("fit_seconds", time.monotonic() - began)
    predictor = open_predictor(run, note=note)
    test = predictor.open(config["evals"]["test"]["split"], note=note)
    scores, speed = _answers(predictor.scores, test)
    right = scores.argmax(axis=1) == test.arrays["label"]
    result = {
        "seed": seed,
        "test_accuracy": float(np.mean(right)),
        "train_accuracy": outcome["training"]["accuracy"],
        "parameters": predictor.parameters,
        "fit_seconds": _spent(folder) + seconds,
        "images_per_second": speed,
        "config": as_json(config),
        "complete": True,
    }
    if rung.before is not None:
        result["accuracy_on_new_classes"] = float(np.mean(right[test.arrays["label"] >= test.num_classes // 2]))
    np.savez_compressed(folder / "answers.npz", scores=scores.astype(np.float32))
    write_json(folder / "result.json", result)
    return result


def half_of_classes(data: Mapping[str, Any], note: Note) -> Subset:
    """Returns the training examples that belong to the first half of the classes."""
    source = Opener(data["name"], data.get("data_dir"), note=note)(data["split"])
    return Subset(source, np.flatnonzero(source.labels() < source.num_classes // 2))


def finished(folder: Path, config: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """Returns what was measured in a folder, or None where it is not complete.

    Raises:
      UserError: it was measured with another config.
    """
    path = folder / "result.json"
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    if config is not None:
        there = {key: value for key, value in found["config"].items() if key != "init_from"}
        here = as_json(config)
        for each in (there, here):
            each.pop("limits", None)
            each["data"] = {key: value for key, value in each["data"].items() if key != "data_dir"}
        if there != here:
            raise UserError(f"{folder} holds another experiment's rung; choose another --workdir")
    return found


def answers(folder: Path) -> np.ndarray:
    """Returns the scores of the test images, float32 ``[n, classes]``."""
    with np.load(folder / "answers.npz") as file:
        return file["scores"]


def add_time(folder: Path, seconds: float) -> None:
    """Remembers how long an unfinished rung has run already."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "spent.json", {"seconds": _spent(folder) + seconds})


def _spent(folder: Path) -> float:
    try:
        return float(json.loads((folder / "spent.json").read_text())["seconds"])
    except (OSError, ValueError, KeyError):
        return 0.0


def _answers(scores_of: Callable[[np.ndarray], np.ndarray], test: ArraySource) -> tuple[np.ndarray, float]:
    """The scores of all images, and how many a second, compilation left out."""
    images = test.arrays["image"]
    began = time.monotonic()
    scores = scores_of(images)
    first = time.monotonic() - began
    if first > 20 * _TIMED_SECONDS:  # so slow that nothing which happens once matters
        return scores, len(images) / first
    passes, began = 0, time.monotonic()
    while time.monotonic() - began < _TIMED_SECONDS:
        scores_of(images)
        passes += 1
    return scores, passes * len(images) / (time.monotonic() - began)


def _with(config: Mapping[str, Any], seed: int, data_dir: str | None) -> dict[str, Any]:
    data = {**config["data"], "data_dir": data_dir} if data_dir else dict(config["data"])
    return {**config, "seed": seed, "data": data}
