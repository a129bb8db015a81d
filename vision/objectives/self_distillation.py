"""The loss of self-distillation and what keeps it from collapsing: centring and Sinkhorn-Knopp. All in float32."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Scalar = Float[Array, ""]


def view_loss(
    student: Float[Array, "batch views prototypes"],
    target: Float[Array, "batch targets prototypes"],
    *,
    temperature: float,
) -> Scalar:
    """Returns the mean cross-entropy between each target and every view of the student but the same view.

    ``1 / (T (V - 1)) sum_t sum_{v != t} mean_i H(target_it, softmax(student_iv / temperature))`` with T targets, of
    the first T of the V views (Caron et al. 2021, equation 3; divided by the number of terms, as in their code).

    Args:
      student: logits.
      target: distributions over prototypes.
      temperature: of the student.
    """
    views, targets = student.shape[1], target.shape[1]
    log_student = jax.nn.log_softmax(student.astype(jnp.float32) / temperature, axis=-1)
    # For each target, the other views' log-probabilities as a sum: one pass over the prototypes instead of V - 1.
    others = jnp.sum(log_student, axis=1, keepdims=True) - log_student[:, :targets]
    terms = targets * (views - 1)
    return -jnp.sum(target * others) / (terms * len(student))


def patch_loss(
    student: Float[Array, "batch patches prototypes"],
    target: Float[Array, "batch patches prototypes"],
    valid: Float[Array, "batch patches"],
    *,
    temperature: float,
    crops: int,
) -> Scalar:
    """Returns the cross-entropy at masked patches, averaged within each image (Zhou et al. 2022, iBOT, equation 2).

    ``sum_i mean_{valid p} H(target_ip, softmax(student_ip / temperature)) / (crops batch)``: as in DINOv2, crops
    without a mask count in the denominator.

    Args:
      student: logits at the masked patches of one crop of each image.
      target: distributions of the teacher, which has seen all patches.
      valid: 1 for patches, 0 for what fills the array up.
      temperature: of the student.
      crops: crops of each image, masked or not.
    """
    log_student = jax.nn.log_softmax(student.astype(jnp.float32) / temperature, axis=-1)
    losses = -jnp.sum(target * log_student, axis=-1)
    of_image = jnp.sum(losses * valid, axis=1) / jnp.maximum(jnp.sum(valid, axis=1), 1.0)
    return jnp.sum(of_image) / (crops * len(student))


def centred(
    logits: Float[Array, "*rows prototypes"], centre: Float[Array, " prototypes"], *, temperature: Scalar | float
) -> Float[Array, "*rows prototypes"]:
    """Returns ``softmax((logits - centre) / temperature)``: centring, against one prototype winning all, and
    sharpening, against all being equal (Caron et al. 2021, section 3.1)."""
    return jax.nn.softmax((logits.astype(jnp.float32) - centre) / temperature, axis=-1)


def moved_centre(
    centre: Float[Array, " prototypes"],
    logits: Float[Array, "rows prototypes"],
    valid: Float[Array, " rows"],
    *,
    momentum: float,
) -> Float[Array, " prototypes"]:
    """Returns ``momentum centre + (1 - momentum) mean(logits)`` over the valid rows of the global batch (equation 4).

    Without a valid row the centre stays.
    """
    count = jnp.sum(valid)
    mean = jnp.sum(logits.astype(jnp.float32) * valid[:, None], axis=0) / jnp.maximum(count, 1.0)
    return jnp.where(count > 0, momentum * centre + (1.0 - momentum) * mean, centre)


def sinkhorn_knopp(
    logits: Float[Array, "rows prototypes"],
    valid: Float[Array, " rows"],
    *,
    temperature: Scalar | float,
    iterations: int = 3,
) -> Float[Array, "rows prototypes"]:
    """Returns assignments whose rows sum to 1 and that use all prototypes about equally.

    ``exp(logits / temperature)`` with its columns and rows normalised in turn, the rows last (Cuturi 2013; Caron et
    al. 2020, SwAV, section 3.1; DINOv2 takes three iterations). Rows that are not valid are all zeros. Computed on
    logarithms, so that no row vanishes beside one of much larger logits.

    Args:
      logits: of the global batch.
      valid: 1 for rows that count, 0 for what fills the array up.
      temperature: of the teacher.
      iterations: how often.
    """
    rows, prototypes = jnp.maximum(jnp.sum(valid), 1.0), logits.shape[1]
    log_q = jnp.where(valid[:, None] > 0, logits.astype(jnp.float32) / temperature, -jnp.inf)
    for _ in range(iterations):
        log_q = log_q - _log_sum(log_q, axis=0) - math.log(prototypes)
        log_q = log_q - _log_sum(log_q, axis=1) - jnp.log(rows)
    return jnp.exp(log_q + jnp.log(rows))


def _log_sum(x: Float[Array, "rows prototypes"], *, axis: int) -> Float[Array, "..."]:
    """The logarithm of the sum of exponentials; 0 for a row that does not count."""
    total = jax.nn.logsumexp(x, axis=axis, keepdims=True)
    return jnp.where(jnp.isfinite(total), total, 0.0)
