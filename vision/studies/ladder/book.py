"""The ladder's page: the table, the pictures, and what each rung gets wrong."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vision.analysis import confusion, page, runs
from vision.classic import persist
from vision.data.source import ArraySource
from vision.studies import without_learning
from vision.studies.ladder import examples, pictures
from vision.studies.ladder.measure import answers
from vision.training.fit import FITTED

Result = Mapping[str, Any]
_TEMPLATES_OF = ("linear_regression", "softmax_regression")


def write(
    path: Path,
    results: Sequence[Result],
    missing: Mapping[str, str],
    *,
    title: str,
    command: str,
    workdir: Path,
    train: ArraySource,
    test: ArraySource,
) -> Path:
    """Writes the page and returns its path.

    Args:
      path: of the HTML file.
      results: of the rungs that were measured, the lowest first.
      missing: title of each other rung -> why it has no result.
      title: of the page.
      command: that made it.
      workdir: folder of the ladder.
      train: the training images at their own size.
      test: likewise.

    Raises:
      UserError: it cannot be written.
    """
    names = test.class_names or tuple(map(str, range(test.num_classes)))
    chance = f"Chance is 1 / {test.num_classes} = {1 / test.num_classes:.3f}."
    amounts = f"{len(train):,} training and {len(test):,} test images. {chance}"
    parts = [
        examples.STYLE,
        f"<h1>{page.escape(title)}</h1>\n<p class='soft'>{page.escape(amounts)}</p>\n",
        f"<pre>{page.escape(command)}</pre>\n",
        page.section("The rungs", table(results) + _missing(missing) + _order(results)),
    ]
    if results:
        parts.append(page.section("Accuracy against cost", _costs(results)))
        parts.append(page.section("What is learned by heart", _gap(results)))
    templates = [_templates(result, workdir, test, names) for result in results if result["name"] in _TEMPLATES_OF]
    if templates:
        parts.append(page.section("Class templates of the linear models", "".join(templates)))
    columns = tuple((each.arrays["image"], each.arrays["label"]) for each in (test, train))
    shown = examples.neighbours(columns[0], columns[1], names, rows=12, k=6)
    parts.append(page.section("Nearest neighbours of test images", shown))
    parts.append(
        page.section("Mistakes, rung by rung", "".join(_mistakes(each, workdir, test, names) for each in results))
    )
    parts.append(page.section("Below learning", without_learning.section(0)))
    return page.save(path, page.document(title, "".join(parts)))


def table(results: Sequence[Result]) -> str:
    """Returns the table of the page."""
    head = ["rung", "test accuracy", "train accuracy", "gap", "parameters", "fit, s", "predict, images/s"]
    rows = []
    for each in results:
        test, train, spread = each["test_accuracy"], each["train_accuracy"], each["test_accuracy_sd"]
        said = f"{test:.4f}" + (f" ± {spread:.4f} ({each['seeds']} seeds)" if spread is not None else "")
        seconds = f"{each['fit_seconds']:,.2f}"
        numbers = [f"{each['parameters']:,}", seconds, page.number(float(each["images_per_second"]))]
        rows.append([each["title"], said, f"{train:.4f}", f"{train - test:+.4f}", *numbers])
    note = (
        "Parameters are the numbers that a rung predicts with: weights, stored training images, support vectors, nodes "
        "of trees. Gap is training minus test accuracy. Fit is the time of the whole run: for estimators features (or "
        "reading what an earlier run kept of them) and fit, for networks compilation, training and its evaluations."
    )
    return page.table(head, rows, kind="numbers") + f"<p class='note'>{note}</p>\n"


def _missing(missing: Mapping[str, str]) -> str:
    return "".join(f"<p>{page.escape(title)}: {page.escape(why)}.</p>\n" for title, why in missing.items())


def _order(results: Sequence[Result]) -> str:
    """Says who wins, and where a rung is below one that stands under it."""
    if len(results) < 2:
        return ""
    best = max(results, key=lambda each: each["test_accuracy"])
    said = [f"Highest: {best['title']}, {best['test_accuracy']:.4f}."]
    for place, each in enumerate(results):
        below = [other for other in results[:place] if other["test_accuracy"] > each["test_accuracy"]]
        if each["family"] == "network" and below:
            top = max(below, key=lambda other: other["test_accuracy"])
            here, there = (f"{one['title']} ({one['test_accuracy']:.4f})" for one in (each, top))
            said.append(f"{here} stays below {there}.")
        if "accuracy_on_new_classes" in each:
            said.append(
                f"{each['title']}: {each['accuracy_on_new_classes']:.4f} of the test images whose classes the network "
                "had never seen, with all classes to choose from."
            )
    return f"<ul>{''.join(f'<li>{page.escape(sentence)}</li>' for sentence in said)}</ul>\n"


def _costs(results: Sequence[Result]) -> str:
    kinds = (("fit_seconds", "seconds to fit"), ("parameters", "parameters"))
    drawn = "".join(pictures.cost(results, name, axis, identifier=name.replace("_", "")) for name, axis in kinds)
    return pictures.legend([each["family"] for each in results]) + drawn


def _gap(results: Sequence[Result]) -> str:
    families = [each["family"] for each in results]
    return pictures.legend(families) + pictures.gap(results, identifier="gap")


def _folder(result: Result, workdir: Path) -> Path:
    return workdir / "rungs" / result["name"] / "0"


def _templates(result: Result, workdir: Path, test: ArraySource, names: Sequence[str]) -> str:
    _, estimator = persist.load(_folder(result, workdir) / "run" / FITTED)
    weights = np.asarray(estimator.coef_).T
    shape = test.arrays["image"].shape[1:]
    if weights.shape != (len(names), int(np.prod(shape))):
        return ""
    return f"<p>{page.escape(result['title'])}:</p>" + examples.templates(weights, shape, names)


def _mistakes(result: Result, workdir: Path, test: ArraySource, names: Sequence[str]) -> str:
    folder = _folder(result, workdir)
    evaluation = runs.read(folder / "run").evaluations["test"]
    wrong = examples.mistakes(test.arrays["image"], test.arrays["label"], answers(folder), names, most=12)
    body = confusion.confused_pairs(evaluation) + confusion.picture(evaluation) + wrong
    return page.folded(f"{result['title']}: {result['test_accuracy']:.4f}", body)
