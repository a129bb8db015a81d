"""Classification metrics over a split: top-1, top-5, loss, confusion matrix, calibration error."""

from collections.abc import Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from vision.data.source import has_several_labels
from vision.evaluation.base import EvalSet, Evaluator, State, Value, summed
from vision.evaluation.views import Views, with_views
from vision.objectives.base import Objective
from vision.objectives.classify import class_index, sigmoid_cross_entropy, softmax_cross_entropy, targets


def classification(
    eval_set: EvalSet,
    objective: Objective,
    *,
    loss: Literal["softmax", "sigmoid"] = "softmax",
    calibration_bins: int = 15,
    views: Views = "none",
) -> Evaluator:
    """Returns an evaluator that yields ``accuracy``, ``top5_accuracy``, ``loss``, ``calibration_error``, ``confusion``.

    ``confusion[t, p]`` counts the examples of true class t predicted as p. With fewer than five classes
    ``top5_accuracy`` is left out. The loss has plain targets, whatever smoothing training uses. A class is a
    hit among the five when fewer than five logits are larger, or NaN.

    Args:
      eval_set: what to pass over.
      objective: whose ``encode`` gives logits.
      loss: the probabilities' form; the confidence of a prediction is its softmax or logistic value.
      calibration_bins: equal bins of confidence for the expected calibration error (Guo et al. 2017, equation 5).
      views: of each image, whose outputs are averaged; see :func:`vision.evaluation.views.with_views`.

    Raises:
      ValueError: no bins, or images with several labels at once.
    """
    if calibration_bins < 1:
        raise ValueError(f"calibration_bins must be >= 1, got {calibration_bins}")
    if has_several_labels(eval_set.pipeline.source):
        raise ValueError("classification needs one label for each image; use multilabel")

    def statistics(logits: jax.Array, examples: dict[str, jax.Array], mask: jax.Array) -> dict[str, jax.Array]:
        return batch_statistics(logits, examples["label"], mask, loss=loss, calibration_bins=calibration_bins)

    pass_over = summed(eval_set, with_views(objective, views), statistics)

    def run(state: State) -> Iterator[tuple[str, Value]]:
        yield from metrics(pass_over(state))

    names = ("accuracy", "top5_accuracy", "loss", "calibration_error")
    source = eval_set.pipeline.source
    return Evaluator(run, names if source.num_classes >= 5 else names[:1] + names[2:], source.class_names)


def batch_statistics(
    logits: jax.Array, label: jax.Array, mask: jax.Array, *, loss: str, calibration_bins: int
) -> dict[str, jax.Array]:
    """Returns the sums of one batch that :func:`metrics` reads."""
    num_classes = logits.shape[-1]
    true, predicted = class_index(label), jnp.argmax(logits, axis=-1)
    correct = (predicted == true) * mask
    true_logit = jnp.take_along_axis(logits, true[:, None], axis=-1)
    cross_entropy = softmax_cross_entropy if loss == "softmax" else sigmoid_cross_entropy
    probability = jax.nn.softmax(logits) if loss == "softmax" else jax.nn.sigmoid(logits)
    confidence = jnp.max(probability, axis=-1)
    chosen = jnp.minimum((confidence * calibration_bins).astype(jnp.int32), calibration_bins - 1)
    in_bin = jax.nn.one_hot(chosen, calibration_bins) * mask[:, None]
    return {
        "count": jnp.sum(mask),
        "correct": jnp.sum(correct),
        "correct_top5": jnp.sum((jnp.sum(~(logits <= true_logit), axis=-1) < 5) * mask),
        "loss": jnp.sum(cross_entropy(logits, targets(label, num_classes)) * mask),
        "confusion": (jax.nn.one_hot(true, num_classes) * mask[:, None]).T @ jax.nn.one_hot(predicted, num_classes),
        "bin_correct": correct @ in_bin,
        "bin_confidence": confidence @ in_bin,
    }


def metrics(sums: dict[str, Any]) -> Iterator[tuple[str, Value]]:
    """Yields the metrics of summed statistics."""
    count = float(sums["count"])
    yield "accuracy", float(sums["correct"]) / count
    if len(sums["confusion"]) >= 5:
        yield "top5_accuracy", float(sums["correct_top5"]) / count
    yield "loss", float(sums["loss"]) / count
    yield "calibration_error", float(np.sum(np.abs(sums["bin_correct"] - sums["bin_confidence"]))) / count
    yield "confusion", np.asarray(sums["confusion"]).astype(np.int64)
