"""The whole of it: choose, climb, write the numbers and the page."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision.data.host import HostPart
from vision.data.materialize import materialize
from vision.data.sources import Opener
from vision.errors import UserError
from vision.studies.ladder import book
from vision.studies.ladder.climb import Table, chosen, climb
from vision.studies.ladder.datasets import ground
from vision.studies.ladder.rungs import rungs
from vision.training.processes import start_jax
from vision.training.workdir import environment, locked, write_json


@dataclass(frozen=True)
class Options:
    """What a person asked for.

    Attributes:
      dataset: name of the data set.
      size: ``small``, ``medium`` or ``full``.
      workdir: folder of the ladder.
      only: names of rungs; empty for all.
      seeds: of each rung.
      minutes: after which to stop, or None.
      data_dir: folder of prepared data sets.
      verbose: whether rungs speak for themselves.
      rung_minutes: what one fit may take, by its estimate.
      memory_gib: likewise.
      command: that was typed.
    """

    dataset: str
    size: str
    workdir: Path
    only: tuple[str, ...] = ()
    seeds: int = 1
    minutes: float | None = None
    data_dir: str | None = None
    verbose: bool = False
    rung_minutes: float = 240.0
    memory_gib: float = 8.0
    command: str = ""


def study(options: Options) -> tuple[dict[str, Any], bool]:
    """Climbs, and writes ``ladder.json`` and ``ladder.html``.

    Returns:
      What ``ladder.json`` holds, and whether every rung has all its seeds.

    Raises:
      UserError: what was asked for cannot be done.
      Stopped: a signal came; what is finished stays finished.
    """
    if options.seeds < 1:
        raise UserError(f"--seeds must be at least 1, got {options.seeds}")
    if options.minutes is not None and not options.minutes > 0:
        raise UserError(f"--max_time must be more than 0 minutes, got {options.minutes:g}")
    deadline = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    on = ground(options.dataset, options.size)
    every = rungs(options.dataset, options.size, rung_minutes=options.rung_minutes, memory_gib=options.memory_gib)
    ladder = chosen(every, options.only)
    start_jax()
    with locked(options.workdir):
        opener = Opener(options.dataset, options.data_dir)
        part = HostPart((on.native, on.native), on.channels)
        train, test = (materialize(opener(split), part) for split in (on.train, on.test))
        write_json(options.workdir / "environment.json", environment({}, train.fingerprint))
        results: list[dict[str, Any]] = []
        missing: dict[str, str] = {}
        climbing = climb(
            ladder,
            options.workdir,
            seeds=options.seeds,
            data_dir=options.data_dir,
            deadline=deadline,
            tell=Table(),
            verbose=options.verbose,
        )
        for rung, result in climbing:
            if isinstance(result, str):
                missing[rung.title] = result
            else:
                results.append(result)
            whole = {"dataset": options.dataset, "size": options.size, "seeds": options.seeds, "rungs": results}
            write_json(options.workdir / "ladder.json", whole | {"missing": missing})
        for title, why in missing.items():
            _say(f"{title}: {why}")
        page = book.write(
            options.workdir / "ladder.html",
            results,
            missing,
            title=f"The ladder of learning on {options.dataset}, {options.size}",
            command=options.command,
            workdir=options.workdir,
            train=train,
            test=test,
        )
        _say(f"page: {page}")
    complete = not missing and all(each["seeds"] == options.seeds for each in results)
    return {"workdir": str(options.workdir), **whole, "missing": missing}, complete


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
