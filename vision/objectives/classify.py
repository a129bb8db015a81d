"""Classification: softmax and sigmoid cross-entropy with hard, soft and smoothed targets."""

from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from vision.models.interface import Model
from vision.objectives.base import Objective
from vision.objectives.supervised import supervised

Labels = Int[Array, " batch"] | Float[Array, "batch classes"]


def classify(
    model: Model, *, loss: Literal["softmax", "sigmoid"] = "softmax", label_smoothing: float = 0.0, l2: float = 0.0
) -> Objective:
    """Returns the objective of classification.

    Batches bring ``image`` and ``label``, either class indices ``[batch]`` or a distribution over classes
    ``[batch, classes]`` (soft targets; mixtures of images bring mixtures of targets; several labels at once
    are several ones for the sigmoid).

    Args:
      model: maps images to logits ``[batch, classes]``.
      loss: ``softmax`` for one of many, ``sigmoid`` for each class on its own (the sum over classes).
      label_smoothing: share of every target spread evenly over all classes, in [0, 1)
        (Szegedy et al. 2016, section 7).
      l2: weight of the squared norm of the kernels.

    Raises:
      ValueError: ``label_smoothing`` or ``l2`` out of range.
    """
    if not 0.0 <= label_smoothing < 1.0:
        raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
    cross_entropy = {"softmax": softmax_cross_entropy, "sigmoid": sigmoid_cross_entropy}[loss]

    def per_example(logits, batch):
        losses = cross_entropy(logits, targets(batch["label"], logits.shape[-1], label_smoothing=label_smoothing))
        correct = is_hit(jnp.argmax(logits, axis=-1), batch["label"])
        return losses, {"accuracy": correct.astype(jnp.float32)}

    return supervised(model, per_example, l2=l2)


def targets(label: Labels, num_classes: int, *, label_smoothing: float = 0.0) -> Float[Array, "batch classes"]:
    """Returns the target of each class: one-hot or given, mixed with the uniform distribution."""
    given = jax.nn.one_hot(label, num_classes) if label.ndim == 1 else label.astype(jnp.float32)
    return optax.losses.smooth_labels(given, label_smoothing) if label_smoothing else given


def class_index(label: Labels) -> Int[Array, " batch"]:
    """Returns the (most probable) class of each label."""
    return label if label.ndim == 1 else jnp.argmax(label, axis=-1)


def is_hit(predicted: Int[Array, " batch"], label: Labels) -> Bool[Array, " batch"]:
    """Returns whether a class is that of the label, or (one of) its most probable: with several, any of them."""
    if label.ndim == 1:
        return predicted == label
    return jnp.take_along_axis(label, predicted[:, None], axis=-1)[:, 0] == jnp.max(label, axis=-1)


def softmax_cross_entropy(
    logits: Float[Array, "batch classes"], target: Float[Array, "batch classes"]
) -> Float[Array, " batch"]:
    """Returns ``-sum_c t_c log softmax(logits)_c`` per example, in float32."""
    return optax.losses.softmax_cross_entropy(logits, target)


def sigmoid_cross_entropy(
    logits: Float[Array, "batch classes"], target: Float[Array, "batch classes"]
) -> Float[Array, " batch"]:
    """Returns ``-sum_c [t_c log s(l_c) + (1 - t_c) log(1 - s(l_c))]`` per example, with the logistic function s."""
    return jnp.sum(optax.losses.sigmoid_binary_cross_entropy(logits, target), axis=-1)
