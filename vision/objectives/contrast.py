"""Contrastive learning of images and words: CLIP and SigLIP."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array

from vision.models.interface import Model
from vision.models.projection import unit
from vision.models.text_interface import TextModel
from vision.objectives.base import Metrics, Objective, keep_extra, mean_metric
from vision.objectives.contrastive_losses import Form, sigmoid_loss, softmax_loss

_TEXT = 1  # tells the keys of the text model from those of the image model


def contrast(
    model: Model,
    text: TextModel,
    *,
    embed_dim: int = 512,
    loss: Literal["softmax", "sigmoid"] = "softmax",
    form: Form = "dense",
    chunk_size: int | None = None,
    temperature: float | None = None,
    bias: float = -10.0,
    max_scale: float = 100.0,
    image_projection: bool = True,
    mesh: Mesh | None = None,
) -> Objective:
    """Returns the objective of CLIP (Radford et al. 2021, figure 3) or SigLIP (Zhai et al. 2023, algorithm 1).

    Batches bring ``image`` and ``tokens`` ``[batch, length]``, a caption of each image. The image model's feature
    ``pre_logits`` is projected linearly; the text model projects its own. Embeddings are brought to unit length, and
    they and everything after them are float32. The loss is over all pairs of the whole batch, whatever the devices
    and microbatches. Scale and bias are learned; after every update the scale is brought back to [1, max_scale], as
    in CLIP's code (sigmoid: only below ``max_scale``).

    The metrics are the loss, beside it that of equal embeddings (``uniform_loss``; softmax), the share of images most
    like their caption of all (``image_to_text_accuracy``) and the other way round, and the scale.

    An image model that is frozen keeps its parameters and statistics and runs as in evaluation; a text model that is
    frozen keeps its parameters, and drops what it dropped.

    Args:
      model: gives the features of images.
      text: gives embeddings of captions, of size ``embed_dim``.
      embed_dim: size of the embeddings.
      loss: ``softmax`` over the batch in both directions (CLIP), or ``sigmoid`` of each pair (SigLIP).
      form: see :mod:`vision.objectives.pairwise`: the same numbers with less memory.
      chunk_size: rows of a chunk.
      temperature: initial; None for 0.07 of the softmax, 0.1 of the sigmoid.
      bias: initial, of the sigmoid.
      max_scale: largest inverse temperature.
      image_projection: whether images are projected; without, their features are embeddings already.
      mesh: the devices, for ``form="ring"``.

    Raises:
      ValueError: an option that cannot be.
    """
    first = temperature if temperature is not None else {"softmax": 0.07, "sigmoid": 0.1}[loss]
    if not 0.0 < first < float("inf"):
        raise ValueError(f"temperature must be a number > 0, got {temperature}")
    if not 1.0 / first <= max_scale < float("inf"):
        raise ValueError(f"max_scale must be at least 1 / temperature = {1 / first:g}, got {max_scale:g}")
    if embed_dim < 1:
        raise ValueError(f"embed_dim must be at least 1, got {embed_dim}")
    if (form == "chunked") != (chunk_size is not None):
        raise ValueError(f"chunk_size goes with form='chunked', got {chunk_size} with form={form!r}")
    forms: dict[str, Any] = {"form": form, "chunk_size": chunk_size, "mesh": mesh}

    def init(key, batch_spec):
        of_backbone, of_projection, of_text = jax.random.split(key, 3)
        batch_spec["tokens"], batch_spec["image"]  # what is missing is named by its KeyError
        images = jax.ShapeDtypeStruct((1, *batch_spec["image"].shape[1:]), jnp.float32)
        backbone, collections = model.init(of_backbone, images)
        features = jax.eval_shape(
            lambda *arguments: model.apply(*arguments, keys=None, train=False)[1], backbone, collections, images
        )
        width = features["pre_logits"].shape[-1]
        params: dict[str, Any] = {"backbone": backbone, "text": text.init(of_text)}
        if image_projection:
            draw = jax.nn.initializers.normal(width**-0.5)
            params["projection"] = {"kernel": draw(of_projection, (width, embed_dim), model.precision.params)}
        elif width != embed_dim:
            raise ValueError(f"embed_dim is {embed_dim}, without a projection images have {width}")
        params["scale"] = jnp.full((), math.log(1.0 / first), jnp.float32)
        if loss == "sigmoid":
            params["bias"] = jnp.full((), bias, jnp.float32)
        return params, {"collections": collections}

    def of_images(params, extra, images, keys, train):
        _, features, collections = model.apply(params["backbone"], extra["collections"], images, keys=keys, train=train)
        pooled = features["pre_logits"]
        if image_projection:
            pooled = pooled @ params["projection"]["kernel"].astype(pooled.dtype)
        return unit(pooled.astype(jnp.float32), axis=-1), features, collections

    def of_texts(params, tokens, keys, train):
        embedded, _ = text.apply(params["text"], tokens.reshape(-1, tokens.shape[-1]), keys=keys, train=train)
        return unit(embedded.astype(jnp.float32), axis=-1).reshape(*tokens.shape[:-1], -1)

    def forward(params, extra, batch, keys, train):
        images, _, collections = of_images(params, extra, batch["image"], keys, train)
        of_text = None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys, _TEXT)
        outputs = {"image": images, "text": of_texts(params, batch["tokens"], of_text, train)}
        return outputs, {**extra, "collections": collections}

    def loss_of(params, outputs, extra, batch, step):
        scale = jnp.exp(params["scale"])
        pair = outputs["image"], outputs["text"]
        if loss == "softmax":
            losses, found = softmax_loss(*pair, scale, **forms)
        else:
            losses, found = sigmoid_loss(*pair, scale, params["bias"], **forms)
        total, count = mean_metric(losses)
        metrics: Metrics = {
            "contrastive_loss": (total, count),
            "scale": (scale, jnp.ones(())),
            **{name: mean_metric(each) for name, each in found.items()},
        }
        if loss == "softmax":
            metrics["uniform_loss"] = (count * jnp.log(count), count)
        return total / count, (extra, jax.lax.stop_gradient(metrics))

    def project(params):
        least = 0.0 if loss == "softmax" else -jnp.inf
        return {**params, "scale": jnp.clip(params["scale"], least, math.log(max_scale))}

    def encode(params, extra, batch):
        encoded: dict[str, Array] = {}
        if "image" in batch:
            embedding, features, _ = of_images(params, extra, batch["image"], None, False)
            encoded |= {**features, "image_embedding": embedding, "output": embedding}
        if "tokens" in batch:
            encoded["text_embedding"] = of_texts(params, batch["tokens"], None, False)
        return encoded

    warn = collapse_warning if loss == "softmax" else lambda values: None
    return Objective(init, forward, loss_of, keep_extra, encode, separable=False, project=project, warn=warn)


def collapse_warning(values: Mapping[str, float]) -> str | None:
    """Returns what is wrong where the loss is that of equal embeddings, None where it is not.

    Args:
      values: means of the metrics, with ``contrastive_loss`` and ``uniform_loss``.
    """
    loss, uniform = values["contrastive_loss"], values["uniform_loss"]
    if abs(loss - uniform) > 1e-3 * uniform:
        return None
    return (
        f"the loss sits at ln N = {uniform:.6f} for N pairs a batch: images and captions tell nothing of each other; "
        "lower config.optimizer.learning_rate, or see whether the captions are those of the images"
    )
