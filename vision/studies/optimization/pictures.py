"""Sections of the page with pictures: paths, losses and signals."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vision.analysis import page
from vision.analysis.charts import Line, chart, figure, grid, legend, numbers
from vision.analysis.drawing import GREY, PALETTE, drawn
from vision.studies.optimization.initialisation import ACTIVATIONS, ARCHITECTURES
from vision.studies.optimization.surfaces import SURFACES, Surface


def surfaces(result: Mapping[str, Any]) -> str:
    """Returns the paths over each surface, their heights, and a table."""
    said = (
        f"Each surface is the mean of a loss over 64 examples. {result['steps']} steps, from one start (square) to "
        f"the minimum (cross). Single-example SGD sees one example a step, mini-batch SGD {result['few']}, all others, "
        "momentum of 0.9 among them, the gradient of all. Every method has the learning rate of a grid of 20 that ends "
        "lowest, which can be luck: the first step of Adagrad is as long as its rate in both directions, and on "
        "Rosenbrock's function one of the 20 lands beside the minimum."
    )
    body = f"<p>{page.escape(said)}</p>\n"
    for name, each in result["surfaces"].items():
        surface, rows = SURFACES[name](), each["rows"]
        entries = [(row["method"], PALETTE[place], False) for place, row in enumerate(rows)]
        pictures = [
            figure(
                f"<b>paths, every tenth step</b>{legend(entries)}",
                drawn(
                    lambda axes, surface=surface, rows=rows: _contours(axes, surface, rows),
                    label=f"paths over {name}",
                    identifier=f"paths-{name}",
                    size=(4.6, 3.6),
                ),
            ),
            chart(
                "height above the minimum",
                [
                    Line(row["method"], range(len(row["height"])), row["height"], place, marked=False)
                    for place, row in enumerate(rows)
                ],
                x="step",
                identifier=f"heights-{name}",
                log_y=True,
                y_range=(1e-6, 1e3),
            ),
        ]
        table = numbers(
            ["method", "learning rate", "mean height over the last tenth"],
            [
                [
                    row["method"],
                    page.number(row["learning_rate"]),
                    page.number(row["final"]) if row["final"] > 1e-7 else "below 1e-7",
                ]
                for row in rows
            ],
        )
        body += f"<h3>{page.escape(name)}</h3><p>{page.escape(each['about'])}</p>\n{grid(pictures)}{table}"
    return body


def _contours(axes: Any, surface: Surface, rows: Sequence[Mapping[str, Any]]) -> None:
    (left, right), (low, high) = surface.window
    x, y = np.meshgrid(np.linspace(left, right, 81), np.linspace(low, high, 81))
    heights = np.asarray(jax.jit(surface.value)(jnp.stack([x, y], axis=-1).astype(jnp.float32)))
    levels = np.geomspace(max(heights.max() * 1e-4, 1e-3), heights.max(), 12)
    axes.contour(x, y, heights, levels=levels, colors=GREY, linewidths=0.6, alpha=0.6)
    for place, row in enumerate(rows):
        path = np.asarray(row["path"])[::10]
        axes.plot(path[:, 0], path[:, 1], color=PALETTE[place], linewidth=1.2, marker=".", markersize=3)
    axes.plot(*surface.start, marker="s", color=GREY, markersize=5)
    axes.plot(*surface.minimum, marker="x", color=GREY, markersize=7)
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)


def network(result: Mapping[str, Any]) -> str:
    """Returns the losses over steps and over images seen, and a table."""
    rows = result["rows"]
    said = (
        f"A network with a hidden layer of {result['hidden_sizes'][0]} on {result['examples']:,} images of "
        f"{result['dataset']}; the loss is that over all training images. By steps the full batch is the best teacher, "
        "by images seen it is the dearest."
    )
    seen = [[step * row["batch"] or 1 for step in row["steps"]] for row in rows]
    pictures = [
        chart(
            "training loss over steps",
            [Line(row["method"], row["steps"], row["loss"], place, marked=False) for place, row in enumerate(rows)],
            x="step",
            identifier="network-steps",
            log_y=True,
        ),
        chart(
            "training loss over images seen",
            [Line(row["method"], seen[place], row["loss"], place, marked=False) for place, row in enumerate(rows)],
            x="images seen",
            identifier="network-images",
            log_x=True,
            log_y=True,
        ),
    ]
    table = numbers(
        ["method", "batch", "learning rate", "loss at the end", "train accuracy, %", "test accuracy, %"],
        [
            [
                row["method"],
                row["batch"],
                page.number(row["learning_rate"]),
                page.number(row["loss"][-1]),
                f"{100 * row['train_accuracy']:.1f}",
                f"{100 * row['test_accuracy']:.1f}",
            ]
            for row in rows
        ],
    )
    return f"<p>{page.escape(said)}</p>\n{grid(pictures)}{table}"


def initialisation(result: Mapping[str, Any]) -> str:
    """Returns the signals per layer, by activation and by architecture."""
    layers, rows = range(1, result["depth"] + 1), result["rows"]
    said = (
        f"Fresh networks of {result['depth']} hidden layers of {result['width']} units, one pass forward and backward: "
        "root mean squares of each layer's output and of the gradient that reaches it. Where lines fall, signals "
        "vanish; where they rise towards the left, gradients explode. Zeros lie below every axis. With layers of one "
        "width LeCun's and Xavier's draws differ in the first and the last layer only."
    )
    body = f"<p>{page.escape(said)}</p>\n"
    groups = [
        (
            activation,
            "initialisation",
            [r for r in rows if (r["activation"], r["architecture"]) == (activation, "plain")],
        )
        for activation in ACTIVATIONS
    ]
    groups += [
        (
            f"{activation}, He's draws, by architecture",
            "architecture",
            [
                row
                for name in ARCHITECTURES
                for row in rows
                if (row["initialisation"], row["activation"], row["architecture"]) == ("He", activation, name)
            ],
        )
        for activation in ("relu", "tanh")
    ]
    for number, (title, key, chosen) in enumerate(groups):
        pictures = [
            chart(
                f"{title}: {what}",
                [
                    Line(
                        row[key],
                        layers,
                        [value if value > 0 else float("nan") for value in row[values]],
                        place,
                        marked=False,
                    )
                    for place, row in enumerate(chosen)
                ],
                x="layer",
                identifier=f"{values}-{number}",
                log_y=True,
                y_range=(1e-8, 1e8),
            )
            for what, values in (("outputs", "activations"), ("gradients", "gradients"))
        ]
        body += grid(pictures)
    return body
