"""Several views of each image through one backbone, in one call for each size."""

from typing import Any

import jax
from jaxtyping import Array, Float, Key

from vision.models.interface import Features, Model, Variables


def of_views(
    model: Model,
    params: Variables,
    collections: Variables,
    views: Float[Array, "batch views height width channels"],
    keys: Key[Array, " batch"] | None,
    train: bool,
    *,
    salt: int,
    **inputs: Any,
) -> tuple[Float[Array, "batch views features"], Features, Variables]:
    """Returns output and features of every view, ``[batch, views, ...]``, and the collections.

    All views of one size are one batch for the backbone, and for its batch statistics. Rows go by the image, then by
    the view, so that on several devices every image stays where it is.

    Args:
      model: the backbone.
      params: of the backbone.
      collections: likewise.
      views: of one size.
      keys: one for each image; every view draws anew.
      train: see :meth:`vision.models.interface.Model.apply`.
      salt: number of the first view, so that views of other sizes draw otherwise.
      **inputs: what else the module takes, by rows.
    """
    batch, count = views.shape[:2]
    if keys is not None:
        numbers = salt + jax.numpy.arange(count)
        keys = jax.vmap(lambda key: jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers))(keys)
        keys = keys.reshape(-1)
    rows = views.reshape(batch * count, *views.shape[2:])
    output, features, collections = model.apply(params, collections, rows, keys=keys, train=train, **inputs)
    apart = lambda x: x.reshape(batch, count, *x.shape[1:])  # noqa: E731
    return apart(output), {name: apart(each) for name, each in features.items()}, collections
