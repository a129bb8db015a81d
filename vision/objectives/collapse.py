"""Meters of collapse: what tells a representation that says less and less while its loss looks well.

A self-supervised network collapses to a constant, to few directions, or, with prototypes, to one of them or to all
at once. Each number is of the global batch of one step.
"""

import math
from collections.abc import Mapping

import jax.numpy as jnp
from jax.scipy.special import entr
from jaxtyping import Array, Float

from vision.models.projection import unit
from vision.objectives.base import Metrics

_NEAR = 1e-3
_ONE_DIRECTION = 1.5  # effective rank below which features differ along a line
_TOLD_APART = 1e-2  # share of ln K below which images are not told apart


def feature_meters(features: Float[Array, "rows width"]) -> Metrics:
    """Returns how much features of length 1 differ between images.

    - ``feature_std``: standard deviation of an entry, averaged over the width and times the root of the width:
      about 1 for directions all over the sphere, 0 for one point (Chen and He 2021, SimSiam, section 4.1).
    - ``effective_rank``: ``(tr C)^2 / tr(C^2)`` of their covariance C, the exponential of its spectrum's entropy of
      order 2: the number of directions in use, from 1 to the width (as the entropy of order 1 in Roy and Vetterli
      2007; this one needs no eigenvalues).
    """
    x = unit(features, axis=-1)
    x = x - jnp.mean(x, axis=0)
    std = jnp.mean(jnp.sqrt(jnp.mean(jnp.square(x), axis=0))) * math.sqrt(x.shape[1])
    # The squares of all entries of x^T x and of x x^T have the same sum.
    product = x @ x.T if x.shape[0] < x.shape[1] else x.T @ x
    rank = jnp.square(jnp.sum(jnp.square(x))) / jnp.maximum(jnp.sum(jnp.square(product)), 1e-30)
    return {"feature_std": _value(std), "effective_rank": _value(rank)}


def prototype_meters(target: Float[Array, "*rows prototypes"], cross_entropy: Float[Array, ""]) -> Metrics:
    """Returns what the teacher's distributions over prototypes say.

    - ``teacher_entropy``: their mean entropy, in nats: 0 where each image is one prototype, ln K where none is
      preferred.
    - ``teacher_student_kl``: mean KL divergence from teacher to student, what the student has yet to learn.
    - ``prototype_usage``: ``exp(entropy of the mean distribution) / K``, the share of prototypes that the batch
      spreads over: 1 / K where all images are given the same.

    Args:
      target: distributions of the teacher.
      cross_entropy: the mean over the same rows of the cross-entropy with the student.
    """
    rows = target.reshape(-1, target.shape[-1])
    entropy = jnp.mean(jnp.sum(entr(rows), axis=-1))
    usage = jnp.exp(jnp.sum(entr(jnp.mean(rows, axis=0)))) / rows.shape[-1]
    meters = {"teacher_entropy": entropy, "teacher_student_kl": cross_entropy - entropy, "prototype_usage": usage}
    return {name: _value(value) for name, value in meters.items()}


def prototype_warning(values: Mapping[str, float], *, num_prototypes: int) -> str | None:
    """Returns what is wrong where the meters of self-distillation show a collapse, None where they do not.

    ``ln(K usage) - teacher_entropy`` is the mutual information of images and prototypes: 0 where the teacher says the
    same of every image, be it one prototype, all of them, or any one distribution in between. An effective rank near 1
    is the collapse that comes before: features differ along one direction only.

    Args:
      values: means of the metrics, with ``distillation_loss``, ``effective_rank`` and those of
        :func:`prototype_meters`.
      num_prototypes: K.
    """
    uniform = math.log(num_prototypes)
    loss, entropy, usage = (values[name] for name in ("distillation_loss", "teacher_entropy", "prototype_usage"))
    if abs(loss - uniform) < _NEAR * uniform:
        return (
            f"collapse: the loss sits at ln K = {uniform:.6f}, the student prefers no prototype; "
            "sharpen the teacher (a lower temperature)"
        )
    if math.log(num_prototypes * usage) - entropy < _TOLD_APART * uniform:
        return (
            "collapse: the teacher says the same of all images; centre and sharpen it (a temperature well below the "
            "student's), or take Sinkhorn-Knopp"
        )
    if values["effective_rank"] < _ONE_DIRECTION:
        return (
            "collapse: the features have an effective rank near 1, images differ along one direction only; centre the "
            "teacher, or take Sinkhorn-Knopp and KoLeo"
        )
    return None


def _value(value: Array) -> tuple[Array, Array]:
    return value.astype(jnp.float32), jnp.ones((), jnp.float32)
