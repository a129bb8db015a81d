"""What lies before a point of a network: the parameters that one of its features depends on."""

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from vision.models.interface import ImageShape, Model


def block_names(model: Model, image_shape: ImageShape) -> list[str]:
    """Returns the names of the features of its blocks, in depth order."""
    _, _, features = _shapes(model, image_shape)
    return sorted(name for name in features if name.startswith("block") and name.removeprefix("block").isdigit())


def parameters_before(model: Model, image_shape: ImageShape, feature: str) -> frozenset[str]:
    """Returns the paths of the parameters that a feature depends on, in training or not.

    They are read off the traced program, so that no network has to say it; where an operation has an inner program
    (a rematerialised block, a scan), all its inputs count.

    Args:
      model: any.
      image_shape: ``(height, width, channels)``.
      feature: such as ``block03`` or ``pre_logits``.

    Raises:
      KeyError: there is no such feature.
    """
    params, collections, features = _shapes(model, image_shape)
    if feature not in features:
        raise KeyError(feature)
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)

    def run(params, collections, images):
        return model.apply(params, collections, images, keys=None, train=False)[1][feature]

    program = jax.make_jaxpr(run)(params, collections, images).jaxpr
    needed = set(program.outvars)
    for equation in reversed(program.eqns):
        if not needed.isdisjoint(equation.outvars):
            needed.update(each for each in equation.invars if not isinstance(each, Literal))
    flat = jax.tree_util.tree_flatten_with_path(params)[0]
    inputs = program.invars[: len(flat)]
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in flat]
    return frozenset(path for path, variable in zip(paths, inputs, strict=True) if variable in needed)


def _shapes(model: Model, image_shape: ImageShape):
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    params, collections = jax.eval_shape(lambda key: model.init(key, images), jax.random.key(0))
    run = lambda p, c, x: model.apply(p, c, x, keys=None, train=False)[1]  # noqa: E731
    return params, collections, jax.eval_shape(run, params, collections, images)
