"""What was asked for, and one row of the table: a method at one share of the labels, with every seed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision.data.source import Source
from vision.data.sources import Opener
from vision.studies import parts
from vision.studies.transfer import cells
from vision.studies.transfer.methods import SIZES, Method, config_of
from vision.studies.transfer.probe import STRENGTHS, probed
from vision.studies.transfer.shares import Part, Share
from vision.studies.transfer.start import Start
from vision.studies.transfer.summary import Row, row

Note = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What a person asked for.

    Attributes:
      init_from: folder of the run, or of converted weights.
      dataset: as ``config.data.name``.
      workdir: folder of the study.
      data_dir: folder of prepared data sets.
      classes: the only ones, by number or name; None for all.
      split: whose labels are shared out.
      test: split to evaluate on; None for the held-out one.
      percents: shares of the labels.
      seeds: of each cell.
      only: names of methods; empty for all.
      minutes: after which to stop, or None.
      size: ``small`` or ``full``.
      steps: of every training; None for those of the size.
      layerwise_decay: of learning rates where all is fine-tuned, or None.
    """

    init_from: str
    dataset: str
    workdir: Path
    data_dir: str | None = None
    classes: tuple[int | str, ...] | None = None
    split: str = "train"
    test: str | None = None
    percents: tuple[float, ...] = (1.0, 10.0, 100.0)
    seeds: int = 3
    only: tuple[str, ...] = ()
    minutes: float | None = None
    size: str = "small"
    steps: int | None = None
    layerwise_decay: float | None = None


@dataclass(frozen=True)
class Ground:
    """What all cells share.

    Attributes:
      options: what was asked for.
      data: the keys of ``config.data`` that say which data.
      start: the network.
      whole: the split whose labels are shared out.
      shares: of it.
      note: told what happens.
    """

    options: Options
    data: Mapping[str, Any]
    start: Start
    whole: Source
    shares: tuple[Share, ...]
    note: Note

    def open(self, split: str | None) -> Source:
        """Returns a split of the data; None for the held-out one."""
        return Opener.of(self.data, note=self.note)(split)


def measured(ground: Ground, method: Method, share: Share, place: Mapping[str, Any]) -> Row:
    """Returns a row, whose parts are read where an earlier start of the study has measured them.

    The learning rate is chosen on the labels of the first seed: trained on four fifths of them, tried on the rest.
    Then the network is trained anew on all labels of each seed.

    Args:
      ground: what all cells share.
      method: the way to learn.
      share: of the labels.
      place: ``percent``, ``labels`` and ``steps`` of that share.
    """
    seeds = range(ground.options.seeds)
    if not method.rates:
        found = [_probe(ground, share.part(seed), seed) for seed in seeds]
        chosen = {name: [each[name] for each in found] for name in ("c", "output")}
        return row(method.name, place, found, chosen)
    rates = method.rates[: SIZES[ground.options.size].rates]
    settings: dict[str, Any] = {"learning_rate": rates[0]}
    if len(rates) > 1:
        kept, held = share.part(0).divided()

        def attempt(rate: float) -> dict[str, Any]:
            word = f"{method.name}_{share.percent:g}_rate_{rate:g}"
            return _trained(ground, method, word, rate, place["steps"], 0, kept, {"test": held.text})

        rate, tried = cells.choose_rate(rates, attempt)
        settings = {"learning_rate": rate, "held_out_accuracy": tried}
    found = []
    for seed in seeds:
        part = share.part(seed)
        word = f"{method.name}_{share.percent:g}_{seed}"
        evals = {"test": ground.options.test, "training": part.shown().text}
        rate = settings["learning_rate"]
        found.append(_trained(ground, method, word, rate, place["steps"], seed, part, evals))
    return row(method.name, place, found, settings)


def _trained(
    ground: Ground,
    method: Method,
    word: str,
    rate: float,
    steps: int,
    seed: int,
    part: Part,
    evals: Mapping[str, str | None],
) -> dict[str, Any]:
    config = config_of(
        method,
        ground.start,
        {**ground.data, "split": part.text},
        rate=rate,
        steps=steps,
        seed=seed,
        evals=evals,
        layerwise_decay=ground.options.layerwise_decay,
    )
    return cells.trained(config, ground.options.workdir, word, ground.start.weights, note=ground.note)


def _probe(ground: Ground, part: Part, seed: int) -> dict[str, Any]:
    workdir, start = ground.options.workdir, ground.start

    def measured() -> dict[str, Any]:
        with cells.logged(workdir / "runs" / "probe"):
            return probed(start.folder, ground.data, part, ground.options.test, seed=seed, note=ground.note)

    # The features of one part are the same for every seed, and so is what is fitted to them.
    word = f"probe_{part.start}_{part.stop}"
    options: dict[str, Any] = {"data": ground.data, "part": part.text, "test": ground.options.test}
    options |= {"weights": start.weights, "strengths": STRENGTHS, "outputs": "chosen"}
    return parts.done_or_new(workdir / "parts", word, options, measured, note=ground.note)
