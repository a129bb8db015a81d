"""The optimizers that are compared, from the same registry as those of every training."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import optax
from jaxtyping import Array

from vision.training.optimizers import OPTIMIZERS
from vision.training.ruled import with_rules

PyTree = Any


class Method(NamedTuple):
    """A way to go downhill.

    Attributes:
      optimizer: name in :data:`vision.training.optimizers.OPTIMIZERS`.
      options: of it.
      batch: ``all`` examples, ``one`` or a ``few`` at each step.
    """

    optimizer: str
    options: Mapping[str, Any]
    batch: str


METHODS: dict[str, Method] = {
    "gradient descent": Method("sgd", {}, "all"),
    "single-example SGD": Method("sgd", {}, "one"),
    "mini-batch SGD": Method("sgd", {}, "few"),
    "momentum": Method("sgd", {"momentum": 0.9}, "few"),
    "Adagrad": Method("adagrad", {"initial_accumulator": 0.0}, "few"),
    "RMSProp": Method("rmsprop", {}, "few"),
    "Adam": Method("adam", {}, "few"),
}


def build(method: Method, rate: float | Array, params: PyTree) -> optax.GradientTransformation:
    """Returns the optimizer with a constant learning rate, which may be traced.

    Args:
      method: which.
      rate: the learning rate.
      params: the parameters, or their shapes.
    """
    return with_rules(
        lambda decay: OPTIMIZERS[method.optimizer](lambda count: rate, decay, **method.options),
        params,
        weight_decay=0.0,
        rules=(),
        where="optimizer",
    )
