"""The page of the study: a section for each part that was computed."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vision.analysis import page
from vision.analysis.charts import numbers
from vision.studies.optimization import pictures


def render(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the whole page of the results by part; parts that are not there are left out."""
    sections: dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
        "surfaces": ("Paths over two surfaces", pictures.surfaces),
        "network": ("The same on a small network", pictures.network),
        "initialisation": ("Initialisation, activation and depth", pictures.initialisation),
        "depth_width": ("Depth against width", _depth_width),
        "regularisation": ("What narrows the generalisation gap", _regularisation),
    }
    body = ["<h1>The art of training</h1>\n"]
    body += [page.section(title, show(parts[name])) for name, (title, show) in sections.items() if name in parts]
    return page.document("The art of training", "".join(body))


def mean_and_deviation(values: Sequence[float]) -> str:
    """Returns accuracies in percent, such as ``95.3 ± 0.4`` (the deviation of a sample), or one value alone."""
    mean = 100 * statistics.fmean(values)
    return f"{mean:.1f} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else f"{mean:.1f}"


def _depth_width(result: Mapping[str, Any]) -> str:
    rows = result["rows"]
    said = (
        f"Networks with as near to {result['parameters']:,} parameters as whole widths allow, {result['steps']} steps "
        f"of Adam at the best of three learning rates (chosen on held-out training images), {result['seeds']} seeds: "
        "mean ± standard deviation, in percent."
    )
    table = numbers(
        ["hidden layers", "width", "parameters", "learning rate", "train accuracy", "test accuracy"],
        [
            [
                row["depth"],
                row["width"],
                f"{row['parameters']:,}",
                page.number(row["learning_rate"]),
                mean_and_deviation(row["train_accuracy"]),
                mean_and_deviation(row["test_accuracy"]),
            ]
            for row in rows
        ],
    )
    return f"<p>{page.escape(said)}</p>\n{table}"


def _regularisation(result: Mapping[str, Any]) -> str:
    said = (
        f"An over-sized network (two hidden layers of 512) on {result['examples']} images of {result['dataset']}, at "
        f"most {result['steps']} steps of AdamW, {result['seeds']} seeds: mean ± standard deviation of the accuracy in "
        f"percent. Early stopping looks at {result['held_out']} further images, which the other rows do not see. The "
        "gap is what a cure may narrow; the test accuracy is what counts. The deviation is that over seeds; which "
        "images the test has adds sqrt(accuracy (1 - accuracy) / images) to every row alike."
    )
    gaps = [
        [train - test for train, test in zip(row["train_accuracy"], row["test_accuracy"], strict=True)]
        for row in result["rows"]
    ]
    table = numbers(
        ["with", "train accuracy", "test accuracy", "gap", "steps"],
        [
            [
                row["name"],
                mean_and_deviation(row["train_accuracy"]),
                mean_and_deviation(row["test_accuracy"]),
                mean_and_deviation(gap),
                f"{statistics.fmean(row['steps']):.0f}",
            ]
            for row, gap in zip(result["rows"], gaps, strict=True)
        ],
    )
    return f"<p>{page.escape(said)}</p>\n{table}"
