"""Losses over all pairs of images and texts of a batch: the softmax of CLIP and the sigmoid of SigLIP."""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float

from vision.objectives.pairwise import LOG_OF_EXPONENTIALS, PLAIN, Form, Found, Rows, over_pairs

Scalar = Float[Array, ""] | float
Losses = tuple[Float[Array, " n"], dict[str, Float[Array, " n"]]]


def softmax_loss(
    image: Float[Array, "n size"],
    text: Float[Array, "n size"],
    scale: Scalar,
    *,
    form: Form = "dense",
    chunk_size: int | None = None,
    mesh: Mesh | None = None,
) -> Losses:
    """Returns the loss of CLIP (Radford et al. 2021, figure 3) of each pair, and whether the two find each other.

    With ``l = scale image text^T`` that of pair i is
    ``(log sum_j exp(l_ij - l_ii) + log sum_j exp(l_ji - l_ii)) / 2``, and the batch's is their mean. Where all
    embeddings are equal it is ``ln n``. A text that stands in the batch twice is wrong for all pairs but its own.

    Everything is computed in float32.

    Args:
      image: embeddings of unit length.
      text: likewise; row i belongs to image i.
      scale: what cosines are multiplied by, the inverse of the temperature.
      form: see :func:`vision.objectives.pairwise.over_pairs`.
      chunk_size: likewise.
      mesh: likewise.

    Returns:
      The losses, and ``image_to_text_accuracy`` and ``text_to_image_accuracy``: 1 where the right one is the nearest
      of the batch, of equally near ones the first, so that equal embeddings have a chance of 1 / n.

    Raises:
      ValueError: the form is unknown, or the batch does not divide.
    """

    def block(scale: Array, images: Rows, texts: Rows) -> tuple[Found, Found]:
        logits = _logits(scale, images, texts)
        return _found(jax.nn.logsumexp(logits, axis=1), logits, texts), _found(
            jax.nn.logsumexp(logits, axis=0), logits.T, images
        )

    image, text, scale = (jnp.asarray(each, jnp.float32) for each in (image, text, scale))
    rows, columns = over_pairs(
        block, LOG_OF_EXPONENTIALS, scale, image, text, form=form, chunk_size=chunk_size, mesh=mesh
    )
    matched = scale * jnp.sum(image * text, axis=1)
    return (rows.total + columns.total) / 2 - matched, _accuracies(rows, columns)


def sigmoid_loss(
    image: Float[Array, "n size"],
    text: Float[Array, "n size"],
    scale: Scalar,
    bias: Scalar,
    *,
    form: Form = "dense",
    chunk_size: int | None = None,
    mesh: Mesh | None = None,
) -> Losses:
    """Returns the loss of SigLIP (Zhai et al. 2023, equation 2) of each image, and whether pairs find each other.

    With ``l = scale image text^T + bias`` that of image i is ``sum_j softplus(-m_ij l_ij)``, m being 1 for its own
    text and -1 for others; the batch's is their mean, so it grows with the batch. Arguments, accuracies and errors are
    those of :func:`softmax_loss`; ``bias`` is what is added to each logit.
    """

    def block(scalars: tuple[Array, Array], images: Rows, texts: Rows) -> tuple[Found, Found]:
        logits = _logits(scalars[0], images, texts) + scalars[1]
        own = images.places[:, None] == texts.places
        terms = jax.nn.softplus(jnp.where(own, -logits, logits))
        return _found(jnp.sum(terms, axis=1), logits, texts), _found(jnp.sum(terms, axis=0), logits.T, images)

    image, text, scale, bias = (jnp.asarray(each, jnp.float32) for each in (image, text, scale, bias))
    rows, columns = over_pairs(block, PLAIN, (scale, bias), image, text, form=form, chunk_size=chunk_size, mesh=mesh)
    return rows.total, _accuracies(rows, columns)


def _logits(scale: Array, images: Rows, texts: Rows) -> Float[Array, "images texts"]:
    return scale * jnp.matmul(images.embeddings, texts.embeddings.T, precision="highest")


def _found(total: Array, logits: Array, columns: Rows) -> Found:
    logits = jax.lax.stop_gradient(logits)
    best = jnp.max(logits, axis=1)
    # Not argmax, whose value and index each device would send for every row: batch x devices numbers.
    nowhere = jnp.iinfo(columns.places.dtype).max
    match = jnp.min(jnp.where(logits == best[:, None], columns.places, nowhere), axis=1)
    return Found(total, best, match)


def _accuracies(rows: Found, columns: Found) -> dict[str, Float[Array, " n"]]:
    places = jnp.arange(len(rows.match))
    return {
        "image_to_text_accuracy": (rows.match == places).astype(jnp.float32),
        "text_to_image_accuracy": (columns.match == places).astype(jnp.float32),
    }
