"""The page: the table, the pictures, and how it was made fair."""

from collections.abc import Mapping
from typing import Any

from vision.analysis import page
from vision.studies.transfer.picture import TITLES, accuracy, gap

Result = Mapping[str, Any]
_HEAD = ("labels", "method", "test accuracy", "over from scratch", "training accuracy", "gap", "time, s", "step, ms")


def render(result: Result, *, command: str) -> str:
    """Returns the whole page.

    Args:
      result: of :func:`vision.studies.transfer.study.study`.
      command: that was typed.
    """
    title = f"Transfer to {result['dataset']}"
    classes = result["classes"]
    told = ", ".join(classes) if isinstance(classes, list) else f"{classes} classes"
    intro = (
        f"{result['model']} from {result['init_from']}, on {result['test_images']:,} test images of {told}. "
        f"Chance is {result['chance']:.3f}, the dotted line."
    )
    body = [f"<h1>{page.escape(title)}</h1>\n<p class='soft'>{page.escape(intro)}</p>\n"]
    if result["missing"]:
        body.append(f"<p>Not measured yet: {page.escape('; '.join(result['missing']))}.</p>\n")
    if result["rows"]:
        body.append(page.section("Accuracy against labels", accuracy(result)))
        body.append(page.section("What is learned by heart", gap(result)))
        body.append(page.section("Numbers", _table(result)))
        body.append(page.section("What was chosen", _settings(result)))
    body.append(
        page.section("How it was made", f"<ul>{''.join(f'<li>{each}</li>' for each in _fairness(result))}</ul>")
    )
    body.append(page.section("Command", f"<pre>{page.escape(command)}</pre>\n"))
    return page.document(title, "".join(body))


def sentence(row: Mapping[str, Any], margin: Mapping[str, Any] | None) -> str:
    """Returns a row as a line of text, for a terminal."""
    share = f"{row['percent']:g}%"
    return (
        f"{share:>5} {row['labels']:8,} labels  {TITLES[row['method']]:25} {_mean(row, 'test_accuracy'):15} "
        f"{over(margin):>9}  training {row['train_accuracy']:.4f}  {row['seconds']:6.1f} s  {_chosen(row)}"
    )


def over(margin: Mapping[str, Any] | None) -> str:
    """Returns a margin with its sign, and a star where it is outside the spread."""
    if margin is None:
        return ""
    return f"{margin['difference']:+.4f}{'*' if margin['outside'] else ''}"


def _mean(row: Mapping[str, Any], name: str) -> str:
    spread = row.get(f"{name}_sd")
    return f"{row[name]:.4f}" + (f" ± {spread:.4f}" if spread is not None else "")


def _chosen(row: Mapping[str, Any]) -> str:
    settings = row["settings"]
    if "learning_rate" in settings:
        return f"learning rate {settings['learning_rate']:g}"
    strengths = ", ".join(f"{each:g}" for each in dict.fromkeys(settings["c"]))
    return f"{', '.join(dict.fromkeys(settings['output']))}, C {strengths}"


def _table(result: Result) -> str:
    known = {(each["method"], each["percent"]): each for each in result["margins"]}
    cells = []
    for row in result["rows"]:
        margin = known.get((row["method"], row["percent"]))
        step = "" if row["step_seconds"] is None else f"{1000 * row['step_seconds']:.1f}"
        numbers = [f"{row['train_accuracy']:.4f}", f"{row['gap']:+.4f}", f"{row['seconds']:.1f}", step]
        labels = f"{row['labels']:,} ({row['percent']:g}%)"
        cells.append([labels, TITLES[row["method"]], _mean(row, "test_accuracy"), over(margin), *numbers])
    note = (
        f"Means of {result['seeds']} seeds ± their standard deviation. A star: the difference of the means is more "
        "than twice the pooled standard deviation. Time is that of one cell, compilation and evaluations included; a "
        "step's is without."
    )
    return page.table(_HEAD, cells, kind="numbers") + f"<p class='note'>{page.escape(note)}</p>\n"


def _settings(result: Result) -> str:
    cells = []
    for row in result["rows"]:
        tried = row["settings"].get("held_out_accuracy", {})
        words = "; ".join(
            f"{rate}: " + ("not finite" if found is None else f"{found:.4f}") for rate, found in tried.items()
        )
        cells.append([f"{row['labels']:,}", TITLES[row["method"]], _chosen(row), words])
    return page.table(("labels", "method", "chosen", "accuracy on held-out labels"), cells)


def _fairness(result: Result) -> list[str]:
    shares = "; ".join(
        f"{each['percent']:g}%: {each['labels']:,} labels, {each['steps']:,} steps" for each in result["shares"]
    )
    parts = "; ".join(f"{each['percent']:g}%: {', '.join(dict.fromkeys(each['parts']))}" for each in result["shares"])
    augment = ", ".join(result["augment"]) or "none"
    decay = result["layerwise_decay"]
    rates = [f"{TITLES[name]}: {', '.join(f'{rate:g}' for rate in each)}" for name, each in result["rates"].items()]
    said = [
        f"Every trained method takes the same steps of {result['batch_size']} images at one share of the labels "
        f"({shares}), with the same augmentation ({augment}), AdamW, a cosine and a warm-up of a tenth.",
        f"The parts, seed by seed: {parts}. The labels of the rest are not used.",
        "The learning rate is chosen on the labels of the first seed alone: trained on four fifths of them, tried on "
        "the rest, then trained anew on all; output and penalty of the linear probe by cross-validation over the "
        "labels of each seed. Test images choose nothing.",
        f"Rates to choose from: {'; '.join(rates)}.",
        "Training accuracy is over the part's own images, without augmentation, at most 10,000 of them.",
    ]
    if decay is not None:
        said.append(f"Where all is fine-tuned, the learning rate falls by {decay:g} from each block to the one before.")
    return said
