"""Climbing: rung by rung, seed by seed, within a time; what is finished stays finished."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from vision.classic.cost import TooCostly
from vision.errors import Stopped, UserError, did_you_mean
from vision.studies.deadline import OutOfTime, until
from vision.studies.ladder.measure import add_time, finished, measure
from vision.studies.ladder.rungs import Rung

MEASURED = ("test_accuracy", "train_accuracy", "parameters", "fit_seconds", "images_per_second")


def chosen(rungs: Sequence[Rung], only: Sequence[str] | None) -> tuple[Rung, ...]:
    """Returns the rungs of these names, in their own order; all without names.

    Raises:
      UserError: a name that no rung has.
    """
    known = [rung.name for rung in rungs]
    for name in only or ():
        if name not in known:
            raise UserError(f"--only: unknown rung {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}")
    return tuple(rung for rung in rungs if not only or rung.name in only)


def climb(
    rungs: Sequence[Rung],
    workdir: Path,
    *,
    seeds: int,
    data_dir: str | None,
    deadline: float | None,
    tell: Callable[[Rung, dict[str, Any]], None],
    verbose: bool = False,
) -> Iterator[tuple[Rung, dict[str, Any] | str]]:
    """Yields each rung with its result, or with the reason why it has none.

    Args:
      rungs: from the lowest on.
      workdir: folder of the ladder; a rung is in ``rungs/NAME/SEED``.
      seeds: how many seeds of each rung, from 0 on.
      data_dir: folder of prepared data sets.
      deadline: ``time.monotonic()`` at which to stop, or None.
      tell: told each rung as soon as it is measured.
      verbose: let rungs speak for themselves; otherwise what they say is in ``log.txt`` of their folder.

    Raises:
      Stopped: a signal ended a rung, whose state is saved.
      UserError: the data are not there.
    """
    for rung in rungs:
        results: list[dict[str, Any]] = []
        reason = ""
        for seed in range(seeds):
            folder = workdir / "rungs" / rung.name / str(seed)
            if finished(folder) is None and deadline is not None and time.monotonic() >= deadline:
                reason = "not begun: the time was over"
                break
            began = time.monotonic()
            try:
                with until(deadline), _quiet(folder, rung.title, verbose):
                    results.append(measure(rung, seed, folder, data_dir=data_dir, note=_say))
            except TooCostly as error:
                reason = _of_the_ladder(str(error))
                break
            except OutOfTime:
                add_time(folder, time.monotonic() - began)
                reason = "not finished: the time was over; the same command goes on"
                break
            except Stopped:
                add_time(folder, time.monotonic() - began)
                if deadline is None or time.monotonic() < deadline:
                    raise
                reason = "not finished: the time was over; the same command goes on"
                break
        if not results:
            yield rung, reason
            continue
        result = summary(rung, results)
        tell(rung, result)
        yield rung, result


def _of_the_ladder(text: str) -> str:
    """A message with the flags of the ladder in place of those of a single run."""
    return text.replace("--config.limits.minutes", "--rung_minutes").replace(
        "--config.limits.memory_gib", "--memory_gib"
    )


def summary(rung: Rung, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the means over seeds of what was measured, and the spread of the test accuracy."""
    means = {name: statistics.fmean(result[name] for result in results) for name in MEASURED}
    means["parameters"] = round(means["parameters"])
    accuracies = [result["test_accuracy"] for result in results]
    if all("accuracy_on_new_classes" in result for result in results):
        means["accuracy_on_new_classes"] = statistics.fmean(result["accuracy_on_new_classes"] for result in results)
    return {
        "name": rung.name,
        "title": rung.title,
        "family": rung.family,
        **means,
        "test_accuracies": accuracies,
        "test_accuracy_sd": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "seeds": len(accuracies),
    }


@contextmanager
def _quiet(folder: Path, title: str, verbose: bool) -> Iterator[None]:
    """Sends what a rung says to a file, and shows on a terminal which one it is."""
    if verbose:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    terminal = sys.stderr if sys.stderr.isatty() else None
    if terminal:
        print(f"\r\x1b[K{title} ...", end="", file=terminal, flush=True)
    try:
        with open(folder / "log.txt", "a") as log, redirect_stderr(log):
            yield
    finally:
        if terminal:
            print("\r\x1b[K", end="", file=terminal, flush=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Table:
    """Prints a row as soon as its rung is measured."""

    _WIDTH = 38

    def __init__(self) -> None:
        self._begun = False

    def __call__(self, rung: Rung, result: dict[str, Any]) -> None:
        """Prints one row, before the first the head."""
        if not self._begun:
            head = f"{'rung':{self._WIDTH}} {'test':>7} {'train':>7} {'gap':>7} {'parameters':>12} {'fit s':>8}"
            print(f"{head} {'images/s':>10}", file=sys.stderr)
            self._begun = True
        test, train = result["test_accuracy"], result["train_accuracy"]
        spread = f" ±{result['test_accuracy_sd']:.4f}" if result["test_accuracy_sd"] is not None else ""
        print(
            f"{rung.title[: self._WIDTH]:{self._WIDTH}} {test:7.4f} {train:7.4f} {train - test:7.4f} "
            f"{result['parameters']:12,} {result['fit_seconds']:8.2f} {result['images_per_second']:10,.0f}{spread}",
            file=sys.stderr,
            flush=True,
        )
