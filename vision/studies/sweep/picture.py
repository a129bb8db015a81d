"""Parallel coordinates: an upright axis for each key and for the metric, a line for each trial."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vision.analysis import page
from vision.analysis.charts import figure
from vision.analysis.drawing import GREY, INK, PALETTE, drawn
from vision.studies.sweep.plan import Plan
from vision.studies.sweep.space import Parameter, labels

_MOST_TICKS = 8
Trial = Mapping[str, Any]


@dataclass(frozen=True)
class Axis:
    """An upright axis.

    Attributes:
      label: what it is.
      place: value -> height in [0, 1].
      ticks: ``(height, text)``.
    """

    label: str
    place: Callable[[Any], float]
    ticks: Sequence[tuple[float, str]]


def parallel_coordinates(trials: Sequence[Trial], plan: Plan) -> str:
    """Returns the figure of the trials that have a result, the best one marked; empty without any."""
    ranked = sorted(
        (trial for trial in trials if "mean" in trial), key=lambda trial: trial["mean"], reverse=plan.mode == "max"
    )
    if not ranked:
        return ""
    metric = plan.section["metric"]
    axes_of = [_of_parameter(each, label) for each, label in zip(plan.space, labels(plan.space), strict=True)]
    axes_of.append(_of_numbers(metric, [trial["mean"] for trial in ranked], logarithmic=False))
    lines = [
        [
            *(axis.place(trial["params"][each.key]) for axis, each in zip(axes_of, plan.space, strict=False)),
            axes_of[-1].place(trial["mean"]),
        ]
        for trial in ranked
    ]

    def draw(axes: Any) -> None:
        places = range(len(axes_of))
        for rank in reversed(range(len(lines))):
            color, width, strength = (PALETTE[1], 2.2, 1.0) if rank == 0 else (PALETTE[0], 1.1, _strength(rank, lines))
            axes.plot(places, lines[rank], color=color, linewidth=width, alpha=strength)
        for place, axis in enumerate(axes_of):
            axes.axvline(place, color=GREY, linewidth=1.0)
            for height, text in axis.ticks:
                axes.annotate(
                    text, (place, height), xytext=(4, 0), textcoords="offset points", color=INK, va="center", fontsize=8
                )
        axes.grid(False)
        axes.set_xticks(list(places), [axis.label for axis in axes_of])
        axes.set_yticks([])
        axes.set_xlim(-0.1, len(axes_of) - 0.6)
        axes.set_ylim(-0.06, 1.06)
        for spine in axes.spines.values():
            spine.set_visible(False)

    title = f"{len(ranked)} settings and their {metric}"
    caption = (
        f"<b>{page.escape(title)}</b><span><i style='color: {PALETTE[1]}'></i>the best, trial {ranked[0]['number']}"
        f"</span><span><i style='color: {PALETTE[0]}'></i>the others, fainter the worse</span>"
    )
    size = (max(4.6, 1.8 * len(axes_of)), 3.2)
    return figure(caption, drawn(draw, label=title, identifier="parallel", size=size))


def _strength(rank: int, lines: Sequence[Any]) -> float:
    return 0.85 - 0.65 * rank / len(lines)


def _of_parameter(each: Parameter, label: str) -> Axis:
    numbers = [v for v in each.options if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) == len(each.options) > 1 and len({*numbers}) > 1:
        spans = min(numbers) > 0 and max(numbers) >= 20 * min(numbers)
        return _of_numbers(label, numbers, logarithmic=each.kind == "log_uniform" or spans)
    texts = [page.readable(value) for value in each.options]
    heights = [(place + 0.5) / len(texts) for place in range(len(texts))]
    return Axis(
        label,
        lambda value: heights[texts.index(page.readable(value))],
        [(height, _short(text)) for height, text in zip(heights, texts, strict=True)],
    )


def _of_numbers(label: str, numbers: Sequence[float], *, logarithmic: bool) -> Axis:
    low, high = min(numbers), max(numbers)
    scale: Callable[[float], float] = math.log if logarithmic else float
    span = (scale(high) - scale(low)) or 1.0

    def place(value: float) -> float:
        return (scale(value) - scale(low)) / span

    shown = sorted({*numbers}) if len({*numbers}) <= _MOST_TICKS else [low, high]
    return Axis(label, place, [(place(value), page.number(value)) for value in shown])


def _short(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:21]}..."
