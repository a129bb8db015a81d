"""One training of the study: an ordinary run in a folder of its own, done once."""

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from vision.config.loading import plain
from vision.errors import TrainingFailed
from vision.studies import parts
from vision.studies.ladder.measure import add_time
from vision.training.loop import train
from vision.training.workdir import read_json

Note = Callable[[str], None]
_MEASURED = {"test": "test_accuracy", "training": "train_accuracy"}


def trained(config: Mapping[str, Any], workdir: Path, word: str, weights: str, *, note: Note) -> dict[str, Any]:
    """Trains, or reads what an earlier start of the study measured.

    Args:
      config: with the evals ``test`` and, or, ``training``.
      workdir: of the study.
      word: that names the run.
      weights: digest of those that the study starts from.
      note: told what happens.

    Returns:
      ``test_accuracy`` and, or, ``train_accuracy``, ``seconds`` of the whole run with compilation and evaluations, and
      ``step_seconds`` without.

    Raises:
      TrainingFailed: the loss was not finite.
      Stopped: a signal came; the state is saved.
    """
    folder = workdir / "runs" / word

    def measured() -> dict[str, Any]:
        began = time.monotonic()
        try:
            with logged(folder):
                outcome = train(config, folder)
        finally:
            add_time(folder, time.monotonic() - began)
        accuracies = {_MEASURED[name]: outcome[name]["accuracy"] for name in config["evals"]}
        seconds = read_json(folder / "spent.json")["seconds"]
        return {**accuracies, "seconds": seconds, "step_seconds": step_seconds(folder, config["batch_size"])}

    return parts.done_or_new(
        workdir / "parts", word, {"config": plain(config), "weights": weights}, measured, note=note
    )


def choose_rate(
    rates: Sequence[float], attempt: Callable[[float], Mapping[str, Any]]
) -> tuple[float, dict[str, float | None]]:
    """Returns the learning rate of the highest accuracy, of equal ones the first, and the accuracy of each.

    Args:
      rates: to choose from, the most usual first.
      attempt: trains with one, and returns what was measured on held-out labels as ``test_accuracy``.

    Raises:
      TrainingFailed: the loss was not finite with any of them.
    """
    found: dict[float, float | None] = {}
    for rate in rates:
        try:
            found[rate] = attempt(rate)["test_accuracy"]
        except TrainingFailed:  # a rate too high is none to choose
            found[rate] = None
            if set(found.values()) == {None} and rate == rates[-1]:
                raise
    best = max(rates, key=lambda rate: found[rate] or 0.0)
    return best, {f"{rate:g}": accuracy for rate, accuracy in found.items()}


@contextmanager
def logged(folder: Path) -> Iterator[None]:
    """Sends what a part of the study says to the file ``log.txt`` of its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "log.txt", "a", encoding="utf-8") as log, redirect_stderr(log):
        yield


def step_seconds(folder: Path, batch_size: int) -> float | None:
    """Returns the median time of a step, compilation and evaluations left out; None where the log does not say."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    speeds = [each.get("speed/examples_per_second") for each in map(json.loads, lines)]
    known = [each for each in speeds if each]
    return batch_size / statistics.median(known) if known else None
