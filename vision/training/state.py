"""What is carried from one step to the next, and the keys that are not carried but computed."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Key

from vision.objectives.base import Objective

PyTree = Any


@struct.dataclass
class TrainState:
    """All that a step carries, and all that a checkpoint must hold.

    Attributes:
      step: number of updates done, an int32 scalar.
      params: what the optimizer trains.
      extra: what the objective carries beside them: batch statistics, averages, teachers.
      opt_state: the optimizer's.
    """

    step: PyTree  # not Int[Array, ""]: shapes, shardings and digests of a state are TrainStates too
    params: PyTree
    extra: PyTree
    opt_state: PyTree


class Keys(NamedTuple):
    """Independent streams of randomness of one run.

    Attributes:
      init: initial parameters.
      step: the key of step k is ``fold_in(step, k)``.
      augment: the key of an example's augmentation folds in its epoch and index.
    """

    init: Key[Array, ""]
    step: Key[Array, ""]
    augment: Key[Array, ""]


def make_keys(seed: int | np.unsignedinteger | Array) -> Keys:
    """Returns the streams of a seed; threefry, whose draws do not depend on devices or sharding."""
    return Keys(*jax.random.split(jax.random.key(seed, impl="threefry2x32"), 3))


class Given(NamedTuple):
    """Weights to start from; what they leave out stays as initialised.

    Attributes:
      params: nested, as the model's.
      collections: likewise, such as ``batch_stats``.
      teacher: both of a network that is learned from, as ``{"params": ..., "collections": ...}``; None for none.
    """

    params: PyTree
    collections: PyTree
    teacher: PyTree = None


def create(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    batch_spec: PyTree,
    key: Key[Array, ""],
    given: Given | None = None,
) -> TrainState:
    """Returns the state before the first step. Call it under ``jit`` so that no two leaves share a buffer."""
    # A weakly typed leaf, such as the logarithm of a Python float, would make the second step another program.
    params, extra = jax.tree.map(lambda x: jnp.asarray(x, x.dtype), objective.init(key, batch_spec))
    if given is not None:
        if "backbone" in params:  # a model within an objective of its own parameters
            params = {**params, "backbone": _overlaid(params["backbone"], given.params)}
        else:
            params = _overlaid(params, given.params)
        extra = {**extra, "collections": _overlaid(extra["collections"], given.collections)}
        if given.teacher is not None:
            extra = {**extra, "teacher": _overlaid(extra["teacher"], given.teacher)}
        extra = objective.start(params, extra)
    return TrainState(jnp.zeros((), jnp.int32), params, extra, optimizer.init(params))


def _overlaid(initial: PyTree, given: PyTree) -> PyTree:
    whole, part = flatten_dict(initial, keep_empty_nodes=True), flatten_dict(given)
    for path, leaf in part.items():
        if path not in whole or whole[path].shape != leaf.shape:
            raise ValueError(f"weights to start from do not fit the parameters at {'/'.join(path)}")
    return unflatten_dict({**whole, **part})
