"""Supervised learning with a trained teacher beside the labels."""

from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from vision.models.interface import Model
from vision.objectives.base import Objective, mean_metric, squared_norm
from vision.objectives.classify import class_index, classify, is_hit, softmax_cross_entropy, targets

Form = Literal["hard", "soft"]


def knowledge_distillation(
    model: Model,
    *,
    teacher: Model,
    form: Form = "hard",
    weight: float = 0.5,
    temperature: float = 3.0,
    label_smoothing: float = 0.0,
    l2: float = 0.0,
) -> Objective:
    """Returns the objective of a student that learns from labels and from a frozen teacher's predictions.

    ``(1 - weight) CE(student, label) + weight D``, where D is, with student logits s and teacher logits t,

    - ``hard``: the cross-entropy with the teacher's most probable class (Touvron et al. 2021, DeiT, equation 3);
    - ``soft``: ``temperature**2 KL(softmax(t / temperature) || softmax(s / temperature))`` (Hinton et al. 2015,
      section 2; DeiT's equation 2).

    A network with a distillation token is taught by the teacher through that token's head and by the labels through
    the class token's; its prediction is the mean of both. Any other is taught twice through its one head. The teacher
    sees the student's images, augmented and mixed as they are (Beyer et al. 2022), runs as in evaluation, and is kept
    in ``extra["teacher"]``, so that a checkpoint can be resumed without its file.

    Args:
      model: the student, logits ``[batch, classes]``.
      teacher: likewise; its weights are given where training starts.
      form: of the teacher's lesson.
      weight: of the teacher against the labels.
      temperature: of the soft lesson.
      label_smoothing: of the labels' share, see :func:`vision.objectives.classify.classify`.
      l2: weight of the squared norm of the student's kernels.

    Raises:
      ValueError: ``weight`` outside [0, 1], a temperature that is not positive, smoothing outside [0, 1), a negative
        ``l2``.
    """
    if not 0.0 <= weight <= 1.0:
        raise ValueError(f"weight must be in [0, 1], got {weight}")
    if not 0.0 < temperature < float("inf"):
        raise ValueError(f"temperature must be positive, got {temperature}")
    alone = classify(model, label_smoothing=label_smoothing, l2=l2)

    def init(key, batch_spec):
        params, extra = alone.init(key, batch_spec)
        shapes = jax.eval_shape(lambda key: teacher.init(key, batch_spec["image"]), jax.random.key(0))
        empty = jax.tree.map(lambda spec: jnp.zeros(spec.shape, spec.dtype), shapes)
        return params, {**extra, "teacher": {"params": empty[0], "collections": empty[1]}}

    def forward(params, extra, batch, keys, train):
        known = jax.lax.stop_gradient(extra["teacher"])
        lesson, _, _ = teacher.apply(known["params"], known["collections"], batch["image"], keys=None, train=False)
        output, features, collections = model.apply(
            params, extra["collections"], batch["image"], keys=keys, train=train
        )
        outputs = {
            "output": output,
            "class_logits": features.get("class_logits", output),
            "distillation_logits": features.get("distillation_logits", output),
            "teacher": lesson,
        }
        return jax.tree.map(lambda x: x.astype(jnp.float32), outputs), {**extra, "collections": collections}

    def per_example(outputs, batch):
        label, lesson = batch["label"], outputs["teacher"]
        wanted = targets(label, lesson.shape[-1], label_smoothing=label_smoothing)
        from_labels = softmax_cross_entropy(outputs["class_logits"], wanted)
        taught = hard(outputs["distillation_logits"], lesson)
        if form == "soft":
            taught = soft(outputs["distillation_logits"], lesson, temperature=temperature)
        predicted, told = jnp.argmax(outputs["output"], axis=-1), jnp.argmax(lesson, axis=-1)
        values = {
            "accuracy": is_hit(predicted, label),
            "teacher_accuracy": is_hit(told, label),
            "agreement": predicted == told,
        }
        metrics = {name: value.astype(jnp.float32) for name, value in values.items()}
        return (1.0 - weight) * from_labels + weight * taught, metrics

    def loss(params, outputs, extra, batch, step):
        losses, values = per_example(outputs, batch)
        penalty = l2 * squared_norm(params) if l2 else 0.0
        return jnp.mean(losses) + penalty, (extra, {name: mean_metric(value) for name, value in values.items()})

    return alone._replace(init=init, forward=forward, loss=loss)


def hard(logits: Float[Array, "batch classes"], teacher: Float[Array, "batch classes"]) -> Float[Array, " batch"]:
    """Returns the cross-entropy with the teacher's most probable class."""
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, class_index(teacher))


def soft(
    logits: Float[Array, "batch classes"], teacher: Float[Array, "batch classes"], *, temperature: float
) -> Float[Array, " batch"]:
    """Returns ``temperature**2`` times the divergence of the student's softened prediction from the teacher's."""
    log_target = jax.nn.log_softmax(teacher / temperature)
    log_prediction = jax.nn.log_softmax(logits / temperature)
    return temperature**2 * optax.losses.kl_divergence_with_log_targets(log_prediction, log_target)
