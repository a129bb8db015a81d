"""Stages of a training: from one to the next, other parameters are frozen or images have another size.

Within a stage everything is fixed when the step is compiled, so that no work is done for what is frozen; between
stages the state goes on as it is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from vision.data.prepare import Prepare
from vision.errors import ConfigError
from vision.training.freezing import Until

Steps = Callable[[Any, str], int]


@dataclass(frozen=True)
class Stage:
    """A part of a training.

    Attributes:
      first: its first step, counted from 0.
      frozen: paths of the parameters that are not trained.
      image_size: side of the images, None for what they have.
      step: one train step, jitted, donating the state; None until it is made.
      steps: several in one dispatch, likewise.
    """

    first: int
    frozen: frozenset[str]
    image_size: int | None
    step: Any = None
    steps: Any = None


def plan(until: Until, progressive: Sequence[tuple[int, Any]], *, steps: Steps, total: int) -> tuple[Stage, ...]:
    """Returns the stages of a training, without their steps.

    Args:
      until: the step from which each frozen parameter is trained.
      progressive: image size and duration of each of the first stages.
      steps: ``(duration, place)`` in steps.
      total: steps of the training.

    Raises:
      ConfigError: the smaller images would last longer than the training, or not at all.
    """
    sizes: dict[int, int | None] = {0: None}
    at = 0
    for position, (size, duration) in enumerate(progressive):
        here = f"config.data.progressive[{position}]"
        sizes[at] = size
        lasts = steps(duration, here)
        if lasts < 1:
            raise ConfigError(f"{here}: must last more than 0 steps")
        at += lasts
        sizes[at] = None
    if progressive and at > total:
        raise ConfigError(f"config.data.progressive: {at} steps are more than the {total} of the training")
    starts = sorted({0, *(step for step in (*until.values(), *sizes) if step < total)})
    made = []
    for first in starts:
        frozen = frozenset(path for path, step in until.items() if step > first)
        made.append(Stage(first, frozen, sizes[max(start for start in sizes if start <= first)]))
    return tuple(made)


def resized(prepare: Prepare, size: int | None) -> Prepare:
    """Returns the device's part with images of another size at its end, antialiased; None leaves them."""
    if size is None:
        return prepare

    def smaller(batch, resident, key, step):
        examples = prepare(batch, resident, key, step)
        batch_size, _, _, channels = examples["image"].shape
        image = jax.image.resize(examples["image"], (batch_size, size, size, channels), "linear", antialias=True)
        return {**examples, "image": image}

    return smaller


def describe(stage: Stage, sizes: Mapping[str, int]) -> str:
    """Returns what is special about a stage, for people; empty where nothing is.

    Args:
      stage: any.
      sizes: number of elements of each parameter.
    """
    told = []
    if stage.frozen:
        told.append(f"{sum(sizes[path] for path in stage.frozen):,} of {sum(sizes.values()):,} parameters are frozen")
    if stage.image_size is not None:
        told.append(f"images of {stage.image_size}x{stage.image_size}")
    return ", ".join(told)
