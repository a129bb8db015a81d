"""Image models by name: ``models.build("mlp/256-256", num_classes=10, dropout=0.1)``."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn

from vision.config.calling import call, fill, lookup
from vision.models import linear, mlp
from vision.models.interface import Model
from vision.models.precision import FLOAT32, Precision

SUPPLIED = ("num_classes", "dtype", "param_dtype", "parent", "name")

VARIANTS: dict[str, Callable[..., nn.Module]] = {
    name: partial(constructor, **options)
    for constructor, variants in ((linear.Linear, linear.VARIANTS), (mlp.MLP, mlp.VARIANTS))
    for name, options in variants.items()
}


def build(name: str, *, num_classes: int, precision: str = FLOAT32, **options: Any) -> Model:
    """Returns the model of a registered variant.

    Args:
      name: ``family/variant``, a key of :data:`VARIANTS`.
      num_classes: size of the output.
      precision: policy for parameters, computation and output.
      **options: attributes of the family's module, over the variant's own.

    Raises:
      ConfigError: an unknown variant or option (the nearest is named), or a value that cannot be.
    """
    constructor = lookup(VARIANTS, name, "model", kind="model")
    policy = Precision.parse(precision)
    filled = fill(constructor, options, name, provided=SUPPLIED)
    module = call(constructor, filled, name, num_classes=num_classes, dtype=policy.compute, param_dtype=policy.params)
    return Model(module, policy)
