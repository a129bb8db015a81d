"""A model as one file that JAX runs without this code: weights and program together."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export
from jaxtyping import Array, Num

from vision.data.prepare import normalize
from vision.errors import UserError
from vision.interop.preprocessing import Preprocessing
from vision.interop.trees import nested
from vision.models.interface import ImageShape, Model

PLATFORMS = ("cpu", "cuda", "tpu")
Function = Callable[[Array], Any]
_LARGEST = 2**31  # bytes of a FlatBuffer, in which JAX writes such files


def predictor(
    model: Model,
    arrays: Mapping[str, np.ndarray],
    *,
    feature: str = "output",
    preprocessing: Preprocessing | None = None,
) -> Function:
    """Returns a function from images to the output or a feature, with the weights in it.

    Args:
      model: what is run, in evaluation mode.
      arrays: by the paths of :func:`vision.interop.trees.flat`.
      feature: ``output``, or the name of a feature, such as ``pre_logits``.
      preprocessing: mean and std that are taken off uint8 images first; None for images that are normalised already.

    Returns:
      ``images [batch, height, width, channels] -> array [batch, ...]``.
    """
    params, collections = nested({path: jnp.asarray(array) for path, array in arrays.items()})

    def predict(images: Num[Array, "batch height width channels"]) -> Array:
        if preprocessing is not None:
            images = normalize(images, preprocessing.mean, preprocessing.std)
        output, features, _ = model.apply(params, collections, images, keys=None, train=False)
        named = {**features, "output": output}
        if feature not in named:
            raise UserError(f"the model has no feature {feature!r}; it has {', '.join(sorted(named))}")
        return named[feature]

    return predict


def export(
    function: Function,
    image_shape: ImageShape,
    *,
    dtype: str = "uint8",
    batch_size: int | None = None,
    platforms: Sequence[str] = PLATFORMS,
) -> bytes:
    """Returns a file's content: ``jax.export.deserialize(bytearray(content)).call(images)`` runs the function.

    What the function closes over, such as weights, becomes part of it. Files stay readable by later versions of JAX
    for at least six months (see the documentation of ``jax.export``).

    Args:
      function: from images ``[batch, height, width, channels]``.
      image_shape: of one image.
      dtype: of the images, such as ``uint8``.
      batch_size: the only one it takes; None for any.
      platforms: where it can run; each has a program of its own in the file where they differ.

    Raises:
      UserError: the function cannot be written with an open batch size, or has more than 2 GiB.
    """
    batch = jax_export.symbolic_shape("batch")[0] if batch_size is None else batch_size
    images = jax.ShapeDtypeStruct((batch, *image_shape), np.dtype(dtype))
    # Models ask for the length of their batch; one image at a time it is 1, whatever the length of the whole.
    whole = jax.vmap(lambda image: function(image[None])[0]) if batch_size is None else function
    try:
        content = jax_export.export(jax.jit(whole), platforms=list(platforms))(images).serialize()
    except jax.errors.ConcretizationTypeError as error:  # an open batch size where the program needs a number
        reason = str(error).splitlines()[0][:200]
        raise UserError(f"the model cannot be exported for every batch size ({reason}); give --batch_size") from error
    if len(content) >= _LARGEST:
        raise UserError(f"the exported model has {len(content) / 2**30:.1f} GiB; JAX reads such files up to 2 GiB")
    return bytes(content)
