"""Accuracy where an image may have several right answers, or where only some classes compete."""

from collections.abc import Iterator
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from vision.data.source import has_several_labels
from vision.evaluation.base import EvalSet, Evaluator, State, Value, summed
from vision.objectives.base import Objective


def any_label(eval_set: EvalSet, objective: Objective, *, among: Literal["all", "present"] = "all") -> Evaluator:
    """Returns an evaluator that yields ``accuracy``, ``top5_accuracy``, ``images``, ``classes``.

    A prediction is right where it is one of the image's labels, and images without a label are left out: the
    protocol of ImageNet-ReaL (Beyer et al. 2020, section 3). ``top5_accuracy`` asks whether one of the labels is
    among the five largest logits; ``images`` is how many were counted, ``classes`` how many classes competed.

    Args:
      eval_set: what to pass over; labels are class indices, or zeros and ones ``[batch, classes]``.
      objective: whose ``encode`` gives logits.
      among: ``present`` lets only those classes compete that occur in the split, as ImageNet-A and -R do with their
        200 of 1000 (Hendrycks et al. 2021).

    Raises:
      ValueError: no image has a label.
    """
    source = eval_set.pipeline.source
    several, labels = has_several_labels(source), source.labels()
    present = labels.any(axis=0) if several else np.isin(np.arange(source.num_classes), labels)
    if not present.any():
        raise ValueError("no image has a label")
    competing = jnp.asarray(present if among == "present" else np.ones_like(present))

    def statistics(logits: jax.Array, examples: dict[str, jax.Array], mask: jax.Array) -> dict[str, jax.Array]:
        label = examples["label"]
        right = label > 0 if several else jax.nn.one_hot(label, source.num_classes) > 0
        logits = jnp.where(competing, logits, -jnp.inf)
        counted = mask * jnp.any(right, axis=-1)
        first = jnp.take_along_axis(right, jnp.argmax(logits, axis=-1)[:, None], axis=-1)[:, 0]
        largest = jax.lax.top_k(logits, min(5, logits.shape[-1]))[1]
        among_five = jnp.any(jnp.take_along_axis(right, largest, axis=-1), axis=-1)
        return {
            "images": jnp.sum(counted),
            "accuracy": jnp.sum(first * counted),
            "top5_accuracy": jnp.sum(among_five * counted),
        }

    pass_over = summed(eval_set, objective, statistics)

    def run(state: State) -> Iterator[tuple[str, Value]]:
        sums = pass_over(state)
        for name in ("accuracy", "top5_accuracy"):
            yield name, float(sums[name] / sums["images"])
        yield "images", float(sums["images"])
        yield "classes", float(np.sum(competing))

    return Evaluator(run, ("accuracy", "top5_accuracy", "images", "classes"), source.class_names)
