"""A registered variant with the weights of another library's file, of the size that the file and the caller say."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from vision import models
from vision.interop.files import Weights
from vision.interop.load import Loaded, classes_of, load_weights
from vision.interop.saved import abstract
from vision.models.interface import ImageShape, Model


class Imported(NamedTuple):
    """A model and its weights.

    Attributes:
      model: built for the image shape.
      num_classes: of its head, 0 for none.
      image_shape: ``(height, width, channels)``.
      loaded: the weights.
    """

    model: Model
    num_classes: int
    image_shape: ImageShape
    loaded: Loaded


def import_variant(
    weights: Weights,
    name: str,
    *,
    options: Mapping[str, Any],
    num_classes: int | None = None,
    image_size: int | None = None,
    may_differ: Sequence[str] = (),
    naming: str | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Imported:
    """Returns a variant with a file's weights; see :func:`vision.interop.load.load_weights`.

    Args:
      weights: as read.
      name: of a registered variant.
      options: of the model, over the variant's own.
      num_classes: size of the output; None for that of the file's head.
      image_size: side of the images; None for the variant's own.
      may_differ: what need not fit.
      naming: whose names the file uses; None to find out.
      note: told what people should know.

    Raises:
      UserError: the model cannot be built so, or the weights do not fit it.
    """
    variant = models.VARIANTS[name]
    if num_classes is None:
        module = models.build(name, num_classes=variant.num_classes, **options).module
        in_file = classes_of(weights, module, naming=naming)
        num_classes = variant.num_classes if in_file is None else in_file
    height, width, channels = variant.image_shape
    shape = (image_size or height, image_size or width, channels)
    model = models.build(name, num_classes=num_classes, image_shape=shape, **options)
    params, collections = abstract(model, shape)
    loaded = load_weights(
        weights,
        module=model.module,
        abstract_params=params,
        abstract_collections=collections,
        may_differ=may_differ,
        naming=naming,
        note=note,
    )
    return Imported(model, num_classes, shape, loaded)
