"""The page of a sweep: the winner and its command, the picture, every trial."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vision.analysis import page
from vision.studies.sweep.picture import parallel_coordinates
from vision.studies.sweep.plan import EVAL, Plan
from vision.studies.sweep.text import ABSENT, cells, head, ranked

FILE = "sweep.html"


def write(content: Mapping[str, Any], plan: Plan, workdir: Path) -> Path:
    """Writes ``sweep.html`` into the folder of a sweep and returns its path.

    Args:
      content: what ``sweep.json`` holds.
      plan: of the sweep.
      workdir: its folder.

    Raises:
      UserError: it cannot be written.
    """
    trials = ranked(content, plan)
    left = sum(trial["state"] == "under way" for trial in trials)
    state, said = ("complete", "complete") if content["complete"] else ("stopped", f"{left} trials are not finished")
    parts = [
        f"<h1>{page.escape(workdir.resolve().name)}</h1>\n<p class='soft'>{page.escape(_what(plan))}</p>\n",
        f"<p><span class='state {state}'>{page.escape(said)}</span></p>\n",
        page.section("Best", _best(content, plan)),
        page.section("Picture", parallel_coordinates(trials, plan)),
        page.section("Trials", _table(trials, plan)),
        page.section("Runs", page.folded("Every run of every trial", _runs(content, plan))),
    ]
    return page.save(workdir / FILE, page.document(f"sweep of {plan.spec}", "".join(parts)))


def _what(plan: Plan) -> str:
    compared = "; ".join(f"trained on {fold.train}, compared on {fold.validation}" for fold in plan.folds)
    seeds = f"{len(plan.seeds)} seed{'s' if len(plan.seeds) > 1 else ''}"
    return f"{plan.spec}: {plan.section['search']['name']} search, {seeds}; {compared}"


def _table(trials: Sequence[Mapping[str, Any]], plan: Plan) -> str:
    """Lines that do not wrap: the table scrolls by itself."""
    rows = page.table(head(plan), [cells(trial, plan) for trial in trials], kind="numbers")
    return f"<div style='white-space: nowrap'>{rows}</div>\n"


def _best(content: Mapping[str, Any], plan: Plan) -> str:
    if content["best"] is None:
        return "<p>No trial has a result yet.</p>\n"
    best = content["trials"][content["best"]]
    body = _table([best], plan)
    if "command" in content:
        body += f"<p>On the whole training split:</p><pre>{page.escape(content['command'])}</pre>\n"
    tested = content.get("test") or {}
    if tested.get("metrics"):
        body += "<p>Trained on the whole training split, after it was chosen:</p>\n"
        rows = [
            (name, page.number(value["mean"]), ABSENT if value["spread"] is None else page.number(value["spread"]))
            for name, value in tested["metrics"].items()
        ]
        body += page.table(("", "mean", "spread"), rows, kind="numbers")
    chosen_of = sum("mean" in trial for trial in content["trials"])
    return body + (
        f"<p class='note'>The value of the best of {chosen_of} settings is a little too good, as it was chosen for it; "
        "what --evaluate_test tells is not.</p>\n"
    )


def _runs(content: Mapping[str, Any], plan: Plan) -> str:
    metric = plan.section["metric"]
    rows = [
        (trial["number"], row["fold"], row["seed"], row["how"], row.get("error") or page.number(row[EVAL][metric]))
        for trial in content["trials"]
        for row in trial["runs"]
    ]
    return page.table(("trial", "fold", "seed", "how", metric), rows)
