"""Models by name: ``models.build("vit/B16", num_classes=10, stochastic_depth=0.1)``, and of text ``build_text``."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn

from vision.config.calling import call, fill, lookup
from vision.errors import ConfigError
from vision.models import (
    airbench,
    alexnet,
    clip_resnet,
    convnext,
    lenet,
    linear,
    mixer,
    mlp,
    resnet,
    text,
    vgg,
    vit,
    wide_resnet,
)
from vision.models.interface import ImageShape, Model, Variant
from vision.models.precision import FLOAT32, Precision
from vision.models.text_interface import TextModel
from vision.models.text_variants import TextVariant

SUPPLIED = ("num_classes", "dtype", "param_dtype", "parent", "name")
FAMILIES = (linear, mlp, lenet, alexnet, vgg, resnet, wide_resnet, airbench, clip_resnet, convnext, mixer, vit)

VARIANTS: dict[str, Variant] = {name: variant for family in FAMILIES for name, variant in family.VARIANTS.items()}
CONSTRUCTORS: dict[str, Callable[..., nn.Module]] = {
    name: partial(variant.module, **variant.options) for name, variant in VARIANTS.items()
}
TEXT_SUPPLIED = ("vocab_size", "length", "out_size", "dtype", "param_dtype", "parent", "name")
TEXT_VARIANTS: dict[str, TextVariant] = text.TEXT_VARIANTS
TEXT_CONSTRUCTORS: dict[str, Callable[..., nn.Module]] = {
    name: partial(variant.module, **variant.options) for name, variant in TEXT_VARIANTS.items()
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


def build_text(
    name: str,
    *,
    vocab_size: int | None = None,
    length: int | None = None,
    out_size: int | None = None,
    precision: str = FLOAT32,
    **options: Any,
) -> TextModel:
    """Returns the text model of a registered variant.

    Args:
      name: ``text/variant``, a key of :data:`TEXT_VARIANTS`.
      vocab_size: number of ids, the last of which ends a text; None for the published one.
      length: places of a text; None for the published one.
      out_size: size of the embedding; 0 for no projection, then the output is the feature ``pre_logits``; None for
        the published one.
      precision: policy for parameters, computation and output.
      **options: attributes of the module, over the variant's own.

    Raises:
      ConfigError: an unknown variant or option (the nearest is named), or a value that cannot be.
    """
    variant = lookup(TEXT_VARIANTS, name, "text model", kind="text model")
    policy = Precision.parse(precision)
    constructor = TEXT_CONSTRUCTORS[name]
    filled = fill(constructor, options, name, provided=TEXT_SUPPLIED)
    sizes = {
        "vocab_size": variant.vocab_size if vocab_size is None else vocab_size,
        "length": variant.length if length is None else length,
        "out_size": variant.out_size if out_size is None else out_size,
    }
    if not sizes["out_size"]:
        filled["projection_bias"] = False
    module = call(constructor, filled, name, **sizes, dtype=policy.compute, param_dtype=policy.params)
    return TextModel(module, policy, sizes["length"], sizes["vocab_size"])
