"""Image models by name: ``models.build("vit/B16", num_classes=10, stochastic_depth=0.1)``."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn

from vision.config.calling import call, fill, lookup
from vision.errors import ConfigError
from vision.models import alexnet, convnext, lenet, linear, mixer, mlp, resnet, vgg, vit, wide_resnet
from vision.models.interface import ImageShape, Model, Variant
from vision.models.precision import FLOAT32, Precision

SUPPLIED = ("num_classes", "dtype", "param_dtype", "parent", "name")
FAMILIES = (linear, mlp, lenet, alexnet, vgg, resnet, wide_resnet, convnext, mixer, vit)

VARIANTS: dict[str, Variant] = {name: variant for family in FAMILIES for name, variant in family.VARIANTS.items()}
CONSTRUCTORS: dict[str, Callable[..., nn.Module]] = {
    name: partial(variant.module, **variant.options) for name, variant in VARIANTS.items()
}


def build(
    name: str,
    *,
    num_classes: int,
    image_shape: ImageShape | None = None,
    precision: str = FLOAT32,
    **options: Any,
) -> Model:
    """Returns the model of a registered variant.

    Args:
      name: ``family/variant``, a key of :data:`VARIANTS`.
      num_classes: size of the output; 0 for no head, then the output is the feature ``pre_logits``.
      image_shape: ``(height, width, channels)`` of the images, to be refused here and not inside a compiled
        function where the model does not take them; None where they are not known yet.
      precision: policy for parameters, computation and output.
      **options: attributes of the family's module, over the variant's own.

    Raises:
      ConfigError: an unknown variant or option (the nearest is named), a value that cannot be, or images that the
        model does not take.
    """
    if num_classes < 0:
        raise ConfigError(f"{name}: num_classes must be 0 or more, got {num_classes}")
    constructor = lookup(CONSTRUCTORS, name, "model", kind="model")
    policy = Precision.parse(precision)
    filled = fill(constructor, options, name, provided=SUPPLIED)
    module = call(constructor, filled, name, num_classes=num_classes, dtype=policy.compute, param_dtype=policy.params)
    model = Model(module, policy, image_shape)
    if image_shape is not None:
        try:
            model.check(image_shape)
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from error
    return model
