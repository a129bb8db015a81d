"""The report of a run and the comparison of several: pages that open offline, from what the runs left behind."""

import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from vision.analysis import confusion, page
from vision.analysis.figures import Curve, curves
from vision.analysis.runs import Evaluation, Run, read
from vision.config.loading import flatten

# What people look for comes first; any other metric follows by name.
_FIRST = ("loss", "accuracy", "top5_accuracy", "calibration_error")
_LAST = ("gradient_norm", "learning_rate", "examples_per_second")
_ABSENT = "–"
_TITLES = {
    "top5_accuracy": "top-5 accuracy",
    "calibration_error": "expected calibration error",
    "examples_per_second": "speed, examples per second",
}


def write(workdir: Path) -> Path:
    """Writes ``report.html`` into a run's folder, whole or not at all.

    Args:
      workdir: the folder of a run, complete or not.

    Returns:
      The path of the page.

    Raises:
      UserError: the folder is no run, one of its files is broken, or the page cannot be written.
    """
    return page.save(Path(workdir) / "report.html", render(read(workdir)))


def compare(workdirs: Sequence[Path], path: Path) -> Path:
    """Writes a page with several runs side by side, whole or not at all.

    Args:
      workdirs: the folders of the runs.
      path: of the page.

    Returns:
      The path of the page.

    Raises:
      UserError: a folder is no run, one of its files is broken, or the page cannot be written.
    """
    return page.save(Path(path), render_comparison([read(workdir) for workdir in workdirs]))


def render(run: Run) -> str:
    """Returns the report of a run as a page."""
    parts = [
        f"<h1>{page.escape(run.name)}</h1>\n<p class='soft'>{page.escape(str(run.workdir))}</p>\n",
        f"<p><span class='state {run.state.split()[0]}'>{page.escape(run.headline)}</span></p>\n",
        *(f"<p><b>Warning</b> {page.escape(text)}</p>\n" for text in run.summary.get("warnings", ())),
        page.section("Results", _results(run)),
        "" if run.fitted else page.section("Curves", _curves(run)),
        *(
            page.section(f"Mistakes: {name} at step {evaluation.step}", _mistakes(evaluation))
            for name, evaluation in run.evaluations.items()
            if evaluation.confusion
        ),
        page.section("How to go on", _how_to_go_on(run)),
        page.section(
            "Config", page.folded("Every key of the resolved config", page.table((), flatten(run.config).items()))
        ),
        page.section("Environment", _environment(run)),
    ]
    return page.document(f"{run.name}: {run.headline}", "".join(parts))


def render_comparison(runs: Sequence[Run]) -> str:
    """Returns several runs side by side as a page."""
    labels = _labels(runs)
    names = sorted({name for run in runs for name in run.series}, key=_order)
    figures = []
    for index, name in enumerate(names):
        lines = [
            Curve(label, run.series[name], place)
            for place, (label, run) in enumerate(zip(labels, runs, strict=True))
            if name in run.series
        ]
        figures.append(curves(_title(name), lines, identifier=f"curves{index}"))
    head, *rows = side_by_side(runs)
    table = page.table(head, rows, kind="numbers")
    body = (
        f"<h1>{len(runs)} runs side by side</h1>\n"
        + page.section("Results, and where the configs differ", table)
        + page.section("Curves", _grid(figures))
    )
    return page.document(f"{len(runs)} runs side by side: {', '.join(labels)}", body)


def side_by_side(runs: Sequence[Run]) -> list[list[str]]:
    """Returns a table, head first, a column per run: state, steps, newest metrics, and the config keys that differ."""
    finals = [run.final() for run in runs]
    steps = [f"{run.step} of {run.steps or 'an unknown number'}" for run in runs]
    rows = [["", *_labels(runs)], ["state", *(run.state for run in runs)], ["steps", *steps]]
    for name in sorted({name for final in finals for name in final}, key=_order):
        values = [page.number(final[name].value) if name in final else _ABSENT for final in finals]
        rows.append([f"{page.readable(name)}{' (median)' if name.startswith('speed/') else ''}", *values])
    configs = [flatten(run.config) for run in runs]
    for key in sorted({key for config in configs for key in config}):
        if len({json.dumps(config[key], sort_keys=True) if key in config else None for config in configs}) > 1:
            values = [page.readable(config[key]) if key in config else _ABSENT for config in configs]
            rows.append([page.readable(f"config.{key}"), *values])
    return rows


def _labels(runs: Sequence[Run]) -> list[str]:
    """Returns the folders' names, or their paths where two have the same name."""
    names = [run.name for run in runs]
    return [
        page.readable(label)
        for label in (names if len(set(names)) == len(names) else [str(run.workdir) for run in runs])
    ]


def _split(name: str) -> tuple[str, str]:
    """Returns ``("test", "loss")`` of ``"test/loss"``; a name without an evaluation belongs to training."""
    part, slash, metric = name.partition("/")
    return (part, metric) if slash else ("train", name)


def _order(name: str) -> tuple[int, str, bool, str]:
    """Sorts metrics: what people look for, the rest by name, what the optimizer and the machine do; training first."""
    part, metric = _split(name)
    place = _FIRST.index(metric) if metric in _FIRST else len(_FIRST)
    return (place + 1 + _LAST.index(metric) if metric in _LAST else place, metric, part != "train", part)


def _title(name: str) -> str:
    return _TITLES.get(name, name.replace("_", " "))


def _grid(figures: Iterable[str]) -> str:
    return f"<div class='curves'>{''.join(figures) or '<p>No metrics have been written yet.</p>'}</div>\n"


def _results(run: Run) -> str:
    """A row per metric, a column per evaluation; speed and calibration in words."""
    final = run.final()
    shown = {_split(name): each for name, each in sorted(final.items()) if not name.startswith("speed/")}
    if not shown:
        return "<p>No metrics have been written yet.</p>\n"
    parts = sorted({part for part, _ in shown}, key=lambda part: (part == "train", part))
    newest = {part: max(each.step for (of, _), each in shown.items() if of == part) for part in parts}
    rows = []
    for metric in sorted({metric for _, metric in shown}, key=_order):
        cells = [shown.get((part, metric)) for part in parts]
        rows.append([_title(metric), *(page.number(cell.value) if cell else _ABSENT for cell in cells)])
    head = ["", *(f"{part} at step {newest[part]}" for part in parts)]
    sentences = [
        f"Calibration: the confidence of a prediction on {part} is off its accuracy by "
        f"{100 * each.value:.2g} percentage points on average (expected calibration error {page.number(each.value)})."
        for (part, metric), each in shown.items()
        if metric == "calibration_error"
    ]
    if speed := final.get("speed/examples_per_second"):
        sentences.append(f"Speed: {page.number(speed.value)} examples per second (median).")
    if run.unreadable_lines:
        sentences.append(f"{run.unreadable_lines} lines of metrics.jsonl cannot be read and are left out.")
    return page.table(head, rows, kind="numbers") + "".join(
        f"<p>{page.escape(sentence)}</p>\n" for sentence in sentences
    )


def _curves(run: Run) -> str:
    """A figure per metric with training and every evaluation in it."""
    by_metric: dict[str, list[str]] = {}
    for name in sorted(run.series, key=_order):
        by_metric.setdefault(_split(name)[1], []).append(name)
    parts = sorted({_split(name)[0] for name in run.series}, key=lambda part: (part != "train", part == "speed", part))
    return _grid(
        curves(
            _title(metric),
            [Curve(_split(name)[0], run.series[name], parts.index(_split(name)[0])) for name in names],
            identifier=f"curves{index}",
        )
        for index, (metric, names) in enumerate(by_metric.items())
    )


def _mistakes(evaluation: Evaluation) -> str:
    return confusion.confused_pairs(evaluation) + confusion.picture(evaluation)


def _environment(run: Run) -> str:
    if not run.environment:
        return "<p>The folder has no environment.json.</p>\n"
    flat = flatten({key: value for key, value in run.environment.items() if key != "command"})
    return page.folded("Versions, devices, data", page.table((), flat.items()))


def _how_to_go_on(run: Run) -> str:
    """Commands to copy, with this run's own paths in them."""
    folder = shlex.quote(str(run.workdir))
    command = [str(word) for word in run.environment.get("command") or ()]
    config = _config_flags(command) or "--config CONFIG"
    if run.fitted and run.state != "complete":
        resume = "Fit it"
    elif run.state == "complete":
        resume = "Run it again (this run is complete, and the command says so; another --workdir trains anew)"
    elif run.checkpoints:
        resume = f"Resume, from the checkpoint of step {run.checkpoints[-1]}"
    else:
        resume = "Resume (there is no checkpoint yet: it starts from the beginning)"
    evaluate = "Evaluate it" if run.fitted else "Evaluate the newest checkpoint"
    commands = {
        resume: f"python -m experiments.train {config} --workdir {folder}",
        evaluate: f"python -m experiments.evaluate --workdir {folder} --split test",
        "Look at two runs side by side": f"python -m tools.report {folder} OTHER_RUN",
        "Write this report again": f"python -m tools.report {folder}",
    }
    if not run.fitted:
        compare = "Compare its checkpoints with those of another run"
        commands[compare] = f"python -m tools.compare_checkpoints {folder} OTHER_RUN"
    said = "".join(f"<p>{page.escape(title)}:</p><pre>{page.escape(text)}</pre>\n" for title, text in commands.items())
    ran = f"<p class='soft'>What was run: <code>{page.escape(shlex.join(command))}</code></p>\n" if command else ""
    return said + ran


def _config_flags(command: Sequence[str]) -> str:
    """Returns the words of a command that choose its config, ready for a shell; an empty string where none does."""
    words: list[str] = []
    for index, word in enumerate(command):
        if word == "--config":
            words += command[index : index + 2]
        elif word.startswith(("--config=", "--config.")):
            words.append(word)
    return shlex.join(words)
