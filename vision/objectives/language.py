"""What the language objectives share: a text model that predicts tokens, and a loss that is a mean over tokens."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from vision.models.text_interface import TextModel
from vision.objectives.base import Metrics, Objective, keep_extra

Scores = dict[str, Float[Array, " texts"]]
ScoresOf = Callable[[Any, Int[Array, "texts length"], Key[Array, " texts"] | None, bool], Scores]
SCORES = ("log_loss", "predicted", "hits")  # what encode gives of the captions of each example


def language(text: TextModel, scores_of: ScoresOf) -> Objective:
    """Returns the objective of a text model that is asked for tokens of its texts.

    Batches bring ``tokens`` ``[batch, length]``. The loss is the mean over all tokens of the batch that are asked for,
    so that long texts count for more than short ones, as in the perplexity of a corpus. It is no equal-weight mean
    over texts: ``forward`` adds up within each text, ``loss`` divides once for the whole batch, and gradients of
    microbatches are those of the batch because the objective says that it is not separable.

    The metrics are ``token_loss``, the cross-entropy in nats a token without any smoothing, and ``token_accuracy``.

    ``encode`` takes ``tokens`` ``[batch, length]``, or ``[batch, captions, length]`` with ``num_captions``. Features
    and ``output``, the pooled embedding, are those of the first caption; :data:`SCORES` are sums over all of them.

    Args:
      text: what learns.
      scores_of: ``(params, tokens, keys, train) -> sums over each text``: ``loss``, what is minimised; ``log_loss``,
        the cross-entropy; ``predicted``, how many tokens were asked for; ``hits``, how many of these were the most
        probable.
    """

    def init(key, batch_spec):
        batch_spec["tokens"]  # what is missing is named by its KeyError
        return {"text": text.init(key)}, {"collections": {}}

    def forward(params, extra, batch, keys, train):
        return scores_of(params["text"], batch["tokens"], keys, train), extra

    def loss(params, outputs, extra, batch, step):
        predicted = jnp.sum(outputs["predicted"])
        metrics: Metrics = {
            "token_loss": (jnp.sum(outputs["log_loss"]), predicted),
            "token_accuracy": (jnp.sum(outputs["hits"]), predicted),
        }
        return jnp.sum(outputs["loss"]) / jnp.maximum(predicted, 1.0), (extra, metrics)

    def encode(params, extra, batch):
        tokens = batch["tokens"]
        tokens = tokens if tokens.ndim == 3 else tokens[:, None]
        output, features = text.apply(params["text"], tokens[:, 0], keys=None, train=False)
        # One caption of each example at a time: logits of all of them at once would be large.
        scores = jax.lax.map(lambda each: scores_of(params["text"], each, None, False), jnp.moveaxis(tokens, 1, 0))
        places = jnp.arange(tokens.shape[1])[:, None]
        there = places < batch.get("num_captions", jnp.full(len(tokens), tokens.shape[1]))
        return {**features, "output": output, **{name: jnp.sum(scores[name] * there, axis=0) for name in SCORES}}

    return Objective(init, forward, loss, keep_extra, encode, separable=False)


def token_scores(
    logits: Float[Array, "texts places vocabulary"],
    targets: Int[Array, "texts places"],
    counted: Bool[Array, "texts places"],
    *,
    label_smoothing: float = 0.0,
) -> Scores:
    """Returns the sums over each text that :func:`language` asks for; everything is computed in float32.

    Args:
      logits: of every token of the vocabulary at each place.
      targets: the tokens that are right.
      counted: the places that are asked for.
      label_smoothing: share of every target that is spread evenly over the vocabulary.
    """
    log_odds = jax.nn.log_softmax(logits.astype(jnp.float32))
    losses = -jnp.take_along_axis(log_odds, targets[..., None], axis=-1)[..., 0]
    smoothed = losses
    if label_smoothing:
        smoothed = (1.0 - label_smoothing) * losses - label_smoothing * jnp.mean(log_odds, axis=-1)
    right = jnp.argmax(logits, axis=-1) == targets
    total = lambda values: jnp.sum(jnp.where(counted, values, 0.0), axis=-1)  # noqa: E731
    return {"loss": total(smoothed), "log_loss": total(losses), "predicted": total(1.0), "hits": total(right * 1.0)}
