"""Accuracy on corrupted images, by corruption and strength."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from vision.data import corrupt
from vision.data.pipeline import Pipeline, place
from vision.data.source import has_several_labels
from vision.evaluation.base import EvalSet, Evaluator, State, Value
from vision.objectives.base import Objective
from vision.objectives.classify import class_index

Corruption = Literal[
    "translation", "rotation", "viewpoint", "brightness", "contrast", "shade", "blur", "occlusion", "clutter", "noise"
]
ALL: tuple[Corruption, ...] = tuple(corrupt.CORRUPTIONS)  # type: ignore[arg-type]


def robustness(
    eval_set: EvalSet,
    objective: Objective,
    *,
    corruptions: tuple[Corruption, ...] = ALL,
    strengths: tuple[int, ...] = (1, 3, 5),
) -> Evaluator:
    """Returns an evaluator that yields ``accuracy``, ``<corruption>_<strength>`` and ``mean_accuracy``.

    ``accuracy`` is that of the images as they are, ``mean_accuracy`` the mean over all corruptions and strengths,
    which Hendrycks and Dietterich 2019 report as one minus the mean corruption error, here not weighted
    by another network's. Images are corrupted before they are normalised, every one always in the same way. Each
    corruption is compiled once for all strengths, the network once for all of them.

    Args:
      eval_set: what to pass over.
      objective: whose ``encode`` gives logits.
      corruptions: see :data:`vision.data.corrupt.CORRUPTIONS`.
      strengths: of 1 to 5.

    Raises:
      ValueError: no corruption, no strength or one that there is not; or images with several labels at once.
    """
    corrupt.check(corruptions, strengths)
    if has_several_labels(eval_set.pipeline.source):
        raise ValueError("robustness needs one label for each image")
    pipeline = eval_set.pipeline
    everywhere = NamedSharding(pipeline.sharding.mesh, PartitionSpec())

    @jax.jit
    def gathered(batch, resident):
        return dict(batch) | {name: array[batch["index"]] for name, array in resident.items()}

    @partial(jax.jit, static_argnames="name")
    def changed(examples, others, strength, *, name):
        images = corrupt.corrupt(
            name, examples["image"], strength, jax.random.key(0), index=examples["index"], others=others
        )
        return {**examples, "image": images}

    @partial(jax.jit, out_shardings=everywhere)
    def right(params, extra, examples, mask):
        prepared = eval_set.prepare(examples, {}, jax.random.key(0), 0)
        predicted = jnp.argmax(objective.encode(params, extra, prepared)["output"], axis=-1)
        return jnp.sum((predicted == class_index(prepared["label"])) * mask)

    cases = [(name, strength) for name in corruptions for strength in strengths]

    def run(state: State) -> Iterator[tuple[str, Value]]:
        others = _others(pipeline, eval_set.masks, gathered)
        counts: list[Any] = []
        for step, mask in enumerate(eval_set.masks):
            weight = place(mask, pipeline.sharding)
            examples = gathered(pipeline.batch(step), pipeline.resident)
            of_step = [right(state.params, state.extra, examples, weight)]
            for name, strength in cases:
                shown = changed(examples, others, jnp.int32(strength), name=name)
                of_step.append(right(state.params, state.extra, shown, weight))
            counts.append(jax.device_get(of_step))
        pipeline.close()
        clean, *others_right = np.sum(np.asarray(counts, np.float64), axis=0) / sum(map(np.sum, eval_set.masks))
        yield "accuracy", float(clean)
        for (name, strength), value in zip(cases, others_right, strict=True):
            yield f"{name}_{strength}", float(value)
        yield "mean_accuracy", float(np.mean(others_right))

    names = ("accuracy", *(f"{name}_{strength}" for name, strength in cases), "mean_accuracy")
    return Evaluator(run, names, pipeline.source.class_names)


def _others(pipeline: Pipeline, masks: tuple[np.ndarray, ...], gathered: Any) -> jax.Array:
    """The first images of the split, whatever the batch size; on every device."""
    everywhere = NamedSharding(pipeline.sharding.mesh, PartitionSpec())
    steps = range(min(len(masks), -(-corrupt.OTHERS // pipeline.order.batch_size)))
    images = [gathered(pipeline.batch(step), pipeline.resident)["image"] for step in steps]
    count = min(corrupt.OTHERS, int(sum(mask.sum() for mask in masks[: len(images)])))
    return jax.jit(lambda parts: jnp.concatenate(parts)[:count], out_shardings=everywhere)(images)
