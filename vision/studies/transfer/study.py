"""The whole of it: for each share of the labels every method, with every seed; what is finished stays finished."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from vision.data.source import has_several_labels
from vision.data.sources import Opener
from vision.errors import Stopped, UserError, did_you_mean
from vision.studies import parts
from vision.studies.deadline import OutOfTime, until
from vision.studies.transfer.methods import BATCH_SIZE, SIZES, Method, chosen, frozen
from vision.studies.transfer.rows import Ground, Note, Options, measured
from vision.studies.transfer.shares import shares
from vision.studies.transfer.start import prepare
from vision.studies.transfer.summary import Row, margins
from vision.training.processes import start_jax
from vision.training.workdir import environment, locked, write_json


def study(options: Options, *, note: Note, tell: Callable[[Row, Mapping[str, Any] | None], None]) -> dict[str, Any]:
    """Measures what is not measured yet, and keeps ``transfer.json`` up to date.

    Args:
      options: what is asked for.
      note: told what happens.
      tell: told each row when it is complete, and its margin over training from scratch.

    Returns:
      What ``transfer.json`` holds; ``missing`` lists what there was no time for.

    Raises:
      UserError: what was asked for cannot be done.
      Stopped: a signal came; what is finished stays finished.
    """
    _check(options)
    methods = chosen(options.only)
    deadline = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    start_jax()
    with locked(options.workdir):
        ground = _ground(options, note)
        methods = _possible(methods, ground)
        write_json(options.workdir / "environment.json", environment({}, ground.whole.fingerprint))
        result = _described(ground, methods)
        for share, place in zip(ground.shares, result["shares"], strict=True):
            for method in methods:
                made = _within(deadline, partial(measured, ground, method, share, place))
                if made is None:
                    result["missing"].append(f"{method.title}, {share.percent:g}%")
                    continue
                result["rows"].append(made)
                result["margins"] = margins(result["rows"])
                mine = [each for each in result["margins"] if each["method"] == method.name]
                tell(made, next((each for each in mine if each["percent"] == share.percent), None))
                parts.write(options.workdir / "transfer.json", result)
        parts.write(options.workdir / "transfer.json", result)
    return result


def _check(options: Options) -> None:
    if options.size not in SIZES:
        raise UserError(
            f"--size: unknown {options.size!r}{did_you_mean(options.size, SIZES)}; known: {', '.join(SIZES)}"
        )
    for flag, value in (("--seeds", options.seeds), ("--steps", options.steps)):
        if value is not None and value < 1:
            raise UserError(f"{flag} must be at least 1, got {value}")
    if options.minutes is not None and not options.minutes > 0:
        raise UserError(f"--max_time must be more than 0 minutes, got {options.minutes:g}")
    if options.layerwise_decay is not None and not 0 < options.layerwise_decay <= 1:
        raise UserError(f"--layerwise_decay must be above 0 and at most 1, got {options.layerwise_decay:g}")
    if not options.split.isidentifier():
        raise UserError(f"--split {options.split}: the name of one whole split, of which shares are taken")


def _ground(options: Options, note: Note) -> Ground:
    data = {"name": options.dataset, "data_dir": options.data_dir, "classes": options.classes}
    try:
        everything = Opener.of({**data, "classes": None}, note=note)(options.split)
        if "label" not in everything.fields or has_several_labels(everything):
            kind = "several labels for an image" if "label" in everything.fields else "no labels"
            raise UserError(f"--dataset {options.dataset} has {kind}; here one class of each image is learned")
        opener = Opener.of(data, note=note)
        shared = shares(options.percents, options.split, len(everything))
        opener(shared[0].part(0).text), opener(options.test)
    except UserError as error:
        told = str(error).replace("config.data.classes", "--classes").replace("config.data.name", "--dataset")
        raise UserError(told) from error
    start = prepare(options.init_from, options.workdir / "start", note=note)
    return Ground(options, data, start, opener(options.split), shared, note)


def _possible(methods: tuple[Method, ...], ground: Ground) -> tuple[Method, ...]:
    kept = []
    for method in methods:
        try:
            frozen(method, ground.start)
        except UserError as error:
            if method.name in ground.options.only:
                raise
            ground.note(f"left out: {error}")
            continue
        kept.append(method)
    return tuple(kept)


def _described(ground: Ground, methods: tuple[Method, ...]) -> dict[str, Any]:
    options, whole = ground.options, ground.whole
    budget = SIZES[options.size]
    places = []
    for share in ground.shares:
        labels = len(ground.open(share.part(0).text))
        steps = options.steps or budget.steps(labels, BATCH_SIZE)
        texts = [share.part(seed).text for seed in range(options.seeds)]
        places.append({"percent": share.percent, "labels": labels, "steps": steps, "parts": texts})
    return {
        "workdir": str(options.workdir),
        "init_from": options.init_from,
        "model": ground.start.name,
        "dataset": options.dataset,
        "classes": list(whole.class_names) or whole.num_classes,
        "test": options.test,
        "test_images": len(ground.open(options.test)),
        "chance": 1 / whole.num_classes,
        "size": options.size,
        "seeds": options.seeds,
        "batch_size": BATCH_SIZE,
        "layerwise_decay": options.layerwise_decay,
        "augment": [each["name"] for each in ground.start.data.get("augment", ())],
        "rates": {each.name: list(each.rates[: budget.rates]) for each in methods if each.rates},
        "shares": places,
        "rows": [],
        "margins": [],
        "missing": [],
    }


def _within(deadline: float | None, measure: Callable[[], Row]) -> Row | None:
    """What is measured; None where the time is over before."""
    if deadline is not None and time.monotonic() >= deadline:
        return None
    try:
        with until(deadline):
            return measure()
    except OutOfTime:
        return None
    except Stopped:
        if deadline is None or time.monotonic() < deadline:
            raise
        return None
