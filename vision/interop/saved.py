"""The model in a checkpoint of ours: of a run, or of weights that were imported."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vision import models
from vision.config.loading import plain
from vision.errors import UserError
from vision.interop.fit import fit
from vision.interop.load import resizer
from vision.interop.preprocessing import Preprocessing, from_json
from vision.interop.trees import flat, nested
from vision.models.interface import ImageShape, Model
from vision.models.precision import FLOAT32
from vision.models.scanning import unstack_blocks

# Where a checkpoint keeps parameters and collections of its model: averages first, then what the optimizer trains.
AVERAGES = (
    ("extra/teacher/backbone/", "extra/teacher_collections/backbone/"),
    ("extra/ema/backbone/", "extra/collections/"),
    ("extra/ema/", "extra/collections/"),
)
TRAINED = (("params/backbone/", "extra/collections/"), ("params/", "extra/collections/"))


class Saved(NamedTuple):
    """A model with its arrays.

    Attributes:
      model: built as it was, for the image shape.
      arrays: ``{"params/head/kernel": array, ..., "batch_stats/...": array}``.
      name: of the variant.
      image_shape: that it is built for.
      preprocessing: what it expects of its images; None where the checkpoint does not say.
    """

    model: Model
    arrays: dict[str, np.ndarray]
    name: str
    image_shape: ImageShape
    preprocessing: Preprocessing | None


def model_arrays(
    arrays: Mapping[str, np.ndarray], *, average: bool = True, note: Callable[[str], None] = lambda text: None
) -> dict[str, np.ndarray]:
    """Returns the model's arrays of a checkpoint by the paths of :func:`vision.interop.trees.flat`.

    Of a self-supervised run these are the backbone's, without the heads that training needs.

    Args:
      arrays: by the checkpoint's paths, which begin with ``params``, ``extra`` and ``opt_state``.
      average: take the exponential moving average of the parameters where there is one, a teacher for instance, as
        evaluations do.
      note: told when it is taken.
    """
    there = lambda prefix: any(path.startswith(prefix) for path in arrays)  # noqa: E731
    own, collections = next((pair for pair in TRAINED if there(pair[0])), TRAINED[-1])
    trained = {path.removeprefix(own): array for path, array in arrays.items() if path.startswith(own)}
    taken = trained
    for prefix, beside in AVERAGES if average else ():
        averaged = {path: arrays[prefix + path] for path in trained if prefix + path in arrays}
        if averaged.keys() == trained.keys() and trained:
            what = "teacher" if "teacher" in prefix else "moving average of the parameters"
            note(f"taken: the {what}, which evaluations use too")
            taken = {path: array.astype(trained[path].dtype) for path, array in averaged.items()}
            collections = beside
            break
    others = {path.removeprefix(collections): each for path, each in arrays.items() if path.startswith(collections)}
    return {f"params/{path}": array for path, array in taken.items()} | others


def model_of(
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, Any],
    *,
    image_shape: ImageShape | None = None,
    average: bool = True,
    source: str = "the checkpoint",
    note: Callable[[str], None] = lambda text: None,
) -> Saved:
    """Builds the model of a checkpoint and takes its arrays.

    Blocks that a run scanned over are taken apart: the model computes the same, and has the names that others know.

    Args:
      arrays: by the checkpoint's paths.
      metadata: what was saved beside them.
      image_shape: of the images, where the checkpoint does not say or another is wanted; learned positions are
        resized for it.
      average: see :func:`model_arrays`.
      source: for messages.
      note: told what people should know.

    Raises:
      UserError: the checkpoint does not say which model it is of, or holds other arrays than that model's.
    """
    config = metadata.get("config") or {}
    section = plain(metadata.get("model") or config.get("model") or {})
    if "name" not in section:
        raise UserError(f"{source} does not say which model it is of")
    taken = model_arrays(arrays, average=average, note=note)
    name, options = section["name"], {key: value for key, value in section.items() if key != "name"}
    num_classes = metadata.get("num_classes", _classes(taken))
    shape = image_shape or stated_shape(metadata)
    if shape is None:
        raise UserError(f"{source} does not say for which images the model is built; give --image_size")
    precision = metadata.get("precision") or config.get("precision") or FLOAT32
    if options.get("scan"):
        params, others = nested(taken)
        options, taken = {**options, "scan": False}, flat(unstack_blocks(params), others)
    model = models.build(name, num_classes=num_classes, image_shape=shape, precision=precision, **options)
    wanted = flat(*abstract(model, shape))
    fitted = fit(taken, wanted, resize=resizer(model.module), source=f"{source} ({name})")
    for path, (there, here) in fitted.report.resized.items():
        note(f"{path} is resized from {list(there)} to {list(here)}")
    found = preprocessing_of(metadata, shape[2])
    return Saved(model, dict(fitted.arrays), name, shape, found)


def abstract(model: Model, image_shape: ImageShape) -> tuple[Any, Any]:
    """Returns shapes and types of ``(params, collections)``; nothing is computed."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    return jax.eval_shape(lambda key: model.init(key, images), jax.random.key(0))


def stated_shape(metadata: Mapping[str, Any], image_size: int | None = None) -> ImageShape | None:
    """Returns the image shape that a checkpoint states, with another side where one is given; None where it is open.

    Where nothing states the channels, they are those of colour images.
    """
    data = (metadata.get("config") or {}).get("data") or {}
    height, width, channels = metadata.get("image_shape") or (None, None, data.get("channels"))
    size = image_size or (height and (height, width)) or data.get("image_size")
    if not size:
        return None
    height, width = size if isinstance(size, list | tuple) else (size, size)
    return height, width, channels or 3


def _classes(arrays: Mapping[str, np.ndarray]) -> int:
    kernel = arrays.get("params/head/kernel")
    return 0 if kernel is None else kernel.shape[-1]


def preprocessing_of(metadata: Mapping[str, Any], channels: int) -> Preprocessing | None:
    """Returns what a checkpoint's model expects of images of so many channels, None where it does not say."""
    stored = metadata.get("preprocessing")
    if stored:
        return from_json(stored)
    data = (metadata.get("config") or {}).get("data")
    if not data:
        return None
    crop = data.get("eval_crop") or {}
    return Preprocessing(
        tuple(data.get("mean") or (0.0,) * channels),
        tuple(data.get("std") or (1.0,) * channels),
        float(crop.get("fraction", 1.0)),
        str(data.get("interpolation", "bilinear")),
        squash=crop.get("name") == "whole",
        decoder=data.get("decoder", "opencv"),
        source="the run's config",
    )
