"""Both towers of one checkpoint of ours: of a run that learned from captions, or of a conversion."""

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
from vision.interop.namings.two_towers import TwoTowers
from vision.interop.preprocessing import Preprocessing
from vision.interop.saved import abstract, preprocessing_of, stated_shape
from vision.interop.trees import Variables, flat, nested
from vision.models.interface import ImageShape, Model
from vision.models.precision import FLOAT32
from vision.models.scanning import unstack_blocks
from vision.models.text_interface import TextModel

_PROJECTION = "params/projection/kernel"


class Pair(NamedTuple):
    """Two towers with their arrays.

    Attributes:
      model: image tower, built for the image shape, without a head.
      text: text tower.
      params: ``backbone``, ``text``, ``scale``, and where there are such ``projection`` and ``bias``, as those of
        :func:`vision.objectives.contrast.contrast`.
      collections: of the image tower, such as ``batch_stats``.
      objective: options of that objective, ``embed_dim``, ``image_projection`` and ``loss`` among them.
      preprocessing: what the image tower expects of its images; None where the checkpoint does not say.
      image_shape: ``(height, width, channels)`` that the image tower is built for.
      name: of both variants.
      tokenizer: the text of a ``tokenizer.json``, None where the checkpoint has none.
    """

    model: Model
    text: TextModel
    params: Variables
    collections: Variables
    objective: dict[str, Any]
    preprocessing: Preprocessing | None
    image_shape: ImageShape
    name: str
    tokenizer: str | None


def pair_of(
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, Any],
    *,
    image_shape: ImageShape | None = None,
    average: bool = True,
    source: str = "the checkpoint",
    note: Callable[[str], None] = lambda text: None,
) -> Pair:
    """Builds both towers of a checkpoint and takes their arrays.

    Blocks that a run scanned over are taken apart, as :func:`vision.interop.saved.model_of` does.

    Args:
      arrays: by the checkpoint's paths, which begin with ``params``, ``extra`` and ``opt_state``.
      metadata: what was saved beside them.
      image_shape: of the images, where the checkpoint does not say or another is wanted; learned positions are
        resized for it.
      average: take the exponential moving average of the parameters where there is one, as evaluations do.
      source: for messages.
      note: told what people should know.

    Raises:
      UserError: the checkpoint has no two towers, does not say which they are, or holds other arrays than theirs.
    """
    config = metadata.get("config") or {}
    image, text, objective = (
        dict(plain(metadata.get(key) or config.get(key) or {})) for key in ("model", "text", "objective")
    )
    if "name" not in image or "name" not in text:
        what = f", it is of {image['name']} alone" if "name" in image else ""
        raise UserError(
            f"{source} holds no pair of an image tower and a text tower{what}; take a run of objective=contrast, or "
            "convert a CLIP: python -m tools.convert_weights FILE --to clip/ViT-B32"
        )
    of_collections = "extra/collections/"
    taken = parameters(arrays, average=average, note=note)
    taken |= {
        path.removeprefix(of_collections): array for path, array in arrays.items() if path.startswith(of_collections)
    }
    table, places = (taken.get(f"params/text/{name}_embedding") for name in ("token", "position"))
    if table is None or places is None:
        raise UserError(f"{source} has no text tower among its arrays, though it speaks of {text['name']}")
    kernel = taken.get("params/text/projection/kernel")
    out_size = 0 if kernel is None else kernel.shape[-1]
    shape = image_shape or stated_shape(metadata)
    if shape is None:
        raise UserError(f"{source} does not say for which images the model is built; give --image_size")
    params, others = nested(taken)
    taken = flat(unstack_blocks(params), others)
    image, text = ({**section, "scan": False} if section.get("scan") else section for section in (image, text))
    precision = metadata.get("precision") or config.get("precision") or FLOAT32
    model = models.build(**image, num_classes=0, image_shape=shape, precision=precision)
    sizes: dict[str, Any] = {"vocab_size": len(table), "length": len(places), "out_size": out_size}
    words = models.build_text(**text, **sizes, precision=precision)
    joined = {"image_projection": _PROJECTION in taken, "bias": "params/bias" in taken}
    wanted = flat(*abstract_pair(model, words, shape, embed_dim=out_size, **joined))
    towers = TwoTowers(model.module, words.module, **joined)
    fitted = fit(taken, wanted, resize=resizer(towers), source=f"{source} ({image['name']} with {text['name']})")
    for path, (there, here) in fitted.report.resized.items():
        note(f"{path} is resized from {list(there)} to {list(here)}")
    params, collections = nested(fitted.arrays)
    options = {key: value for key, value in objective.items() if key != "name"}
    options |= {"embed_dim": out_size or words.module.width, "image_projection": joined["image_projection"]}
    options |= {"loss": "sigmoid" if joined["bias"] else "softmax"}
    name = metadata.get("pair") or f"{image['name']} with {text['name']}"
    found = preprocessing_of(metadata, shape[2])
    return Pair(model, words, params, collections, options, found, shape, name, metadata.get("tokenizer"))


def abstract_pair(
    model: Model, text: TextModel, image_shape: ImageShape, *, embed_dim: int, image_projection: bool, bias: bool
) -> tuple[Any, Any]:
    """Returns shapes and types of ``(params, collections)``, laid out as the objective ``contrast`` has them.

    Args:
      model: image tower, without a head.
      text: text tower.
      image_shape: of the images.
      embed_dim: size of the embedding.
      image_projection: whether the image's features are projected.
      bias: whether there is one.
    """
    backbone, collections = abstract(model, image_shape)
    number = jax.ShapeDtypeStruct((), jnp.float32)
    params = {"backbone": backbone, "text": jax.eval_shape(text.init, jax.random.key(0)), "scale": number}
    if image_projection:
        images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        apply = lambda *arguments: model.apply(*arguments, keys=None, train=False)[0]  # noqa: E731
        width = jax.eval_shape(apply, backbone, collections, images).shape[-1]
        params["projection"] = {"kernel": jax.ShapeDtypeStruct((width, embed_dim), model.precision.params)}
    if bias:
        params["bias"] = number
    return params, collections


def parameters(
    arrays: Mapping[str, np.ndarray],
    *,
    under: str = "params/",
    average: bool = True,
    note: Callable[[str], None],
) -> dict[str, np.ndarray]:
    """Returns the parameters of a checkpoint by path: their moving averages where there are such of all of them.

    Args:
      arrays: by the checkpoint's paths.
      under: what the paths of the wanted ones begin with.
      average: whether averages are taken at all.
      note: told that they are.
    """
    taken = {path: array for path, array in arrays.items() if path.startswith(under)}
    averaged = {path: arrays.get("extra/ema/" + path.removeprefix("params/")) for path in taken}
    if average and taken and all(each is not None for each in averaged.values()):
        note("taken: the moving average of the parameters, which evaluations use too")
        taken = {path: np.asarray(averaged[path]).astype(array.dtype) for path, array in taken.items()}
    return taken
