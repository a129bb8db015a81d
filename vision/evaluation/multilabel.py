"""Metrics where an image may have several classes at once."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from vision.data.source import has_several_labels
from vision.evaluation.base import EvalSet, Evaluator, State, Value, summed
from vision.objectives.base import Objective
from vision.objectives.classify import sigmoid_cross_entropy


def multilabel(eval_set: EvalSet, objective: Objective, *, threshold: float = 0.5) -> Evaluator:
    """Returns an evaluator that yields ``f1_micro``, ``f1_macro``, ``exact_match``, ``top1_hit`` and ``loss``.

    A class is predicted where its logistic probability exceeds ``threshold``. ``f1_micro`` counts true and false
    positives and negatives over all classes together, ``f1_macro`` is the mean over the classes that occur or are
    predicted (Sokolova and Lapalme 2009, table 3); ``exact_match`` asks for every class of an image, ``top1_hit``
    whether the most probable class is one of them. The loss is the sigmoid cross-entropy summed over classes.

    Args:
      eval_set: what to pass over; its labels are zeros and ones ``[batch, classes]``.
      objective: whose ``encode`` gives logits.
      threshold: in (0, 1).

    Raises:
      ValueError: ``threshold`` out of range, or the data have one label for each image.
    """
    if not 0.0 < threshold < 1.0:
        raise ValueError(f"threshold must be in (0, 1), got {threshold}")
    source = eval_set.pipeline.source
    if not has_several_labels(source):
        raise ValueError("multilabel needs labels that are several at once; use classification")

    def statistics(logits: jax.Array, examples: dict[str, jax.Array], mask: jax.Array) -> dict[str, jax.Array]:
        true = examples["label"]
        predicted = (jax.nn.sigmoid(logits) > threshold).astype(jnp.float32)
        rows = mask[:, None]
        top = jnp.take_along_axis(true, jnp.argmax(logits, axis=-1)[:, None], axis=-1)[:, 0]
        return {
            "count": jnp.sum(mask),
            "hit": jnp.sum(true * predicted * rows, axis=0),
            "predicted": jnp.sum(predicted * rows, axis=0),
            "true": jnp.sum(true * rows, axis=0),
            "exact": jnp.sum(jnp.all(true == predicted, axis=-1) * mask),
            "top1": jnp.sum(top * mask),
            "loss": jnp.sum(sigmoid_cross_entropy(logits, true) * mask),
        }

    pass_over = summed(eval_set, objective, statistics)

    def run(state: State) -> Iterator[tuple[str, Value]]:
        yield from metrics(pass_over(state))

    return Evaluator(run, ("f1_micro", "f1_macro", "exact_match", "top1_hit", "loss"), source.class_names)


def metrics(sums: dict[str, np.ndarray]) -> Iterator[tuple[str, Value]]:
    """Yields the metrics of summed statistics."""
    both = sums["predicted"] + sums["true"]
    yield "f1_micro", float(2 * sums["hit"].sum() / max(both.sum(), 1))
    yield "f1_macro", float(np.mean(2 * sums["hit"][both > 0] / both[both > 0])) if (both > 0).any() else 0.0
    for name, key in (("exact_match", "exact"), ("top1_hit", "top1"), ("loss", "loss")):
        yield name, float(sums[key] / sums["count"])
