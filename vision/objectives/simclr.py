"""Contrastive learning of two views: SimCLR."""

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vision.models.interface import Model
from vision.models.projection import unit
from vision.models.projection_mlp import ProjectionMlp
from vision.objectives.base import Metrics, Objective, keep_extra, mean_metric
from vision.objectives.collapse import feature_meters
from vision.objectives.views import of_views


def simclr(
    model: Model,
    *,
    temperature: float = 0.1,
    hidden_size: int = 2048,
    out_size: int = 128,
    num_layers: Literal[2, 3] = 2,
    batch_norm: bool = True,
) -> Objective:
    """Returns the objective of SimCLR (Chen et al. 2020, algorithm 1): two views of an image find each other.

    Batches bring ``global`` ``[batch, 2, height, width, channels]``. Both views of all images go through the model at
    once, so batch normalisation sees them together. The feature ``pre_logits`` is projected by a head that only
    training has; everything after the head is computed in float32.

    The metrics are the loss, beside it that of equal embeddings (``uniform_loss``), the share of views that are most
    like the other view of their image (``contrastive_accuracy``), and the meters of
    :func:`vision.objectives.collapse.feature_meters` of the first views' features.

    Args:
      model: gives the features.
      temperature: of the softmax over the other views.
      hidden_size: units of the hidden layers of the projection head.
      out_size: size of its embeddings.
      num_layers: of the head.
      batch_norm: whether the head normalises, see :class:`vision.models.projection_mlp.ProjectionMlp`.

    Raises:
      ValueError: an option is not above 0.
    """
    if not 0.0 < temperature < float("inf"):
        raise ValueError(f"temperature must be a number > 0, got {temperature}")
    for name, size in (("hidden_size", hidden_size), ("out_size", out_size)):
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
    types: dict[str, Any] = {"dtype": model.precision.compute, "param_dtype": model.precision.params}
    head = ProjectionMlp(hidden_size, out_size, num_layers, batch_norm, **types)

    def init(key, batch_spec):
        views = batch_spec["global"].shape
        if views[1] != 2:
            raise ValueError(f"two views are held against each other, data.views.global makes {views[1]}")
        of_backbone, of_head = jax.random.split(key)
        images = jax.ShapeDtypeStruct((1, *views[2:]), jnp.float32)
        params, collections = model.init(of_backbone, images)
        features = jax.eval_shape(
            lambda *arguments: model.apply(*arguments, keys=None, train=False)[1], params, collections, images
        )
        variables: Any = head.init(of_head, jnp.zeros((1, features["pre_logits"].shape[-1])), train=False)
        of_parts = {"backbone": params, "head": variables.pop("params")}
        return of_parts, {"collections": collections, "head_collections": variables}

    def forward(params, extra, batch, keys, train):
        _, features, collections = of_views(
            model, params["backbone"], extra["collections"], batch["global"], keys, train, salt=0
        )
        of_images = features["pre_logits"]
        statistics = extra["head_collections"]
        rows = of_images.reshape(-1, of_images.shape[-1])
        made: Any = head.apply(
            {"params": params["head"], **statistics}, rows, train=train, mutable=list(statistics) if train else []
        )
        embeddings, updated = made
        outputs = {
            "embeddings": embeddings.reshape(*of_images.shape[:2], -1),
            "features": jax.lax.stop_gradient(of_images[:, 0]),
        }
        return outputs, {**extra, "collections": collections, "head_collections": {**statistics, **updated}}

    def loss(params, outputs, extra, batch, step):
        losses, found = nt_xent(outputs["embeddings"], temperature=temperature)
        total, count = mean_metric(losses)
        metrics: Metrics = {
            "contrastive_loss": (total, count),
            "uniform_loss": (count * jnp.log(count - 1.0), count),
            "contrastive_accuracy": mean_metric(found),
            **feature_meters(outputs["features"].astype(jnp.float32)),
        }
        return total / count, (extra, jax.lax.stop_gradient(metrics))

    def encode(params, extra, batch):
        output, features, _ = model.apply(
            params["backbone"], extra["collections"], batch["image"], keys=None, train=False
        )
        return {**features, "output": output}

    return Objective(init, forward, loss, keep_extra, encode, separable=False, warn=collapse_warning)


def nt_xent(
    embeddings: Float[Array, "batch 2 size"], *, temperature: float
) -> tuple[Float[Array, " views"], Float[Array, " views"]]:
    """Returns the normalised, temperature-scaled cross-entropy of each view (Chen et al. 2020, equation 1).

    It is ``-log(exp(s_ij / t) / sum_{k != i} exp(s_ik / t))``, with s the cosine and j the other view of the image of
    i; k runs over all other views of the batch. Where all embeddings are equal, it is ``ln(2 batch - 1)``.

    Returns:
      The losses, view 0 and 1 of image 0 first, and 1 for each view that is more like its other than like any else.
    """
    views = unit(embeddings.reshape(-1, embeddings.shape[-1]), axis=-1)
    here = jnp.arange(len(views))
    similarity = jnp.matmul(views, views.T, precision="highest") / temperature
    logits = jnp.where(here[:, None] == here, -jnp.inf, similarity)
    other = here ^ 1
    matched = jnp.take_along_axis(logits, other[:, None], axis=1)[:, 0]
    found = jnp.argmax(logits, axis=1) == other
    return jax.nn.logsumexp(logits, axis=1) - matched, found.astype(jnp.float32)


def collapse_warning(values: Mapping[str, float]) -> str | None:
    """Returns what is wrong where the loss is that of equal embeddings, None where it is not.

    Args:
      values: means of the metrics, with ``contrastive_loss`` and ``uniform_loss``.
    """
    loss, uniform = values["contrastive_loss"], values["uniform_loss"]
    if abs(loss - uniform) > 1e-3 * uniform or values["feature_std"] > 0.1:
        return None  # at a high temperature any loss is near it at first
    return (
        f"collapse: the loss sits at ln(2 N - 1) = {uniform:.6f} for N images a batch, all views look alike to the "
        "head; lower the temperature or the learning rate"
    )
