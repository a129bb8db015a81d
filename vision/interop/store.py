"""What an imported checkpoint holds: arrays as a run of our own saves them, and where they are from."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from vision.interop.load import Loaded
from vision.interop.preprocessing import Preprocessing
from vision.interop.trees import flat, nested
from vision.models.interface import ImageShape, Model


def complete(loaded: Loaded, model: Model, image_shape: ImageShape, *, seed: int = 0) -> dict[str, Any]:
    """Returns ``{"params": ..., "extra": {"collections": ...}}``; what the file did not fill gets its initial values.

    Only those arrays are initialised: jit leaves out what nobody asks for.
    """
    taken = flat(loaded.params, loaded.collections)
    if loaded.report.fresh:
        images = jax.ShapeDtypeStruct((1, *image_shape), np.float32)

        def initial(key: jax.Array) -> dict[str, jax.Array]:
            fresh = flat(*model.init(key, images))
            return {path: fresh[path] for path in loaded.report.fresh}

        taken |= jax.jit(initial)(jax.random.key(seed))
    params, collections = nested(taken)
    return {"params": params, "extra": {"collections": collections}}


def describe(
    loaded: Loaded,
    *,
    name: str,
    options: Mapping[str, Any],
    num_classes: int,
    image_shape: ImageShape,
    preprocessing: Preprocessing | None,
) -> dict[str, Any]:
    """Returns the metadata of an imported checkpoint; :func:`vision.interop.saved.model_of` reads it.

    Args:
      loaded: the weights.
      name: of the variant.
      options: of the model, over the variant's own.
      num_classes: of the model.
      image_shape: that the model is built for.
      preprocessing: what it expects of its images, None where nobody knows.
    """
    return {
        "step": 0,
        "model": {"name": name, **options},
        "num_classes": num_classes,
        "image_shape": list(image_shape),
        "preprocessing": None if preprocessing is None else preprocessing.as_json(),
        "source": loaded.facts,
        "fresh": list(loaded.report.fresh),
        "resized": {path: [list(shape) for shape in both] for path, both in loaded.report.resized.items()},
    }
