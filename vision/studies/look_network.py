"""What pictures need of a network: attention, features with places, embeddings, first-layer filters."""

import re
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vision.analysis import filters
from vision.analysis.attention_distance import mean_attention_distance, patch_distances
from vision.analysis.attention_maps import attention_to_patches
from vision.models.cost import multiply_adds
from vision.models.interface import Model
from vision.models.patches import patch_grid
from vision.training.pretrained import Pretrained

_BATCH = 64
_SMALL = 64**2  # pixels; of larger images fewer are computed at a time
_AFFORDABLE = 2.5e11  # multiplications with additions: some seconds on two cores
_LEAST = 100  # examples, whatever they cost
_FIRST_CONVOLUTIONS = (("stem",), ("stem1",), ("conv_0",), ("block00", "conv1"), ("whiten",))
_FIRST_DENSE = ("hidden_0", "head")


class Missing(Exception):
    """A network has no such picture; the message says why."""


class Attention(NamedTuple):
    """Attention over images.

    Attributes:
      maps: to the patches, of every block, ``[images, blocks, heads, rows, columns]``.
      distances: mean attention distance in pixels, ``[images, blocks, heads]``.
    """

    maps: np.ndarray
    distances: np.ndarray


def grid_of(pretrained: Pretrained) -> tuple[int, int] | None:
    """Returns the rows and columns of patches; None for a network without patches of one size throughout."""
    module = pretrained.model.module
    if "patch_embedding" not in pretrained.params:
        return None
    return patch_grid(pretrained.image_shape, getattr(module, "patch_size", 0))


def attention(pretrained: Pretrained, images: np.ndarray) -> Attention:
    """Returns the attention over uint8 images ``[n, height, width, channels]``.

    Weights are reduced within the program, one image at a time: all of them would be many gigabytes.

    Raises:
      Missing: the network has no attention.
    """
    module, grid = pretrained.model.module, grid_of(pretrained)
    if grid is None or not hasattr(module, "attention_weights"):
        raise Missing(f"{pretrained.name} has no attention between patches")
    model = replace(pretrained.model, module=module.clone(attention_weights=True))
    found = [_attention_of(model, *arguments(pretrained, image[None])) for image in images]
    maps, reach = (np.concatenate(each) for each in zip(*jax.device_get(found), strict=True))
    return Attention(maps.reshape(*maps.shape[:3], *grid), reach)


@partial(jax.jit, static_argnames="model")
def _attention_of(model: Model, params: Any, collections: Any, images: Any) -> tuple[Any, Any]:
    module: Any = model.module
    _, features, _ = model.apply(params, collections, images, keys=None, train=False)
    weights = [features[f"block{number:02}/attention"].astype(jnp.float32) for number in range(module.depth)]
    distances = jnp.asarray(patch_distances(patch_grid(images.shape[1:], module.patch_size), module.patch_size))
    maps = [attention_to_patches(each, len(distances), class_token=module.class_token) for each in weights]
    return jnp.stack(maps, axis=1), jnp.stack([mean_attention_distance(each, distances) for each in weights], axis=1)


def patch_features(pretrained: Pretrained, images: np.ndarray) -> tuple[str, np.ndarray]:
    """Returns the name and the values ``[n, rows, columns, width]`` of the last feature that has places.

    For a ViT these are the normalised patches, for a Mixer the patches of the last block, for a convolutional
    network the last map with more than one place.

    Raises:
      Missing: no feature has places.
    """
    model, grid = pretrained.model, grid_of(pretrained)
    spec = jax.ShapeDtypeStruct((1, *pretrained.image_shape), jnp.float32)
    apply = partial(model.apply, keys=None, train=False)
    shapes = jax.eval_shape(apply, pretrained.params, pretrained.collections, spec)[1]
    blocks = sorted((name for name in shapes if re.fullmatch(r"block\d+", name)), key=lambda name: int(name[5:]))
    for name in ("patch_tokens", *reversed(blocks), "stem"):
        shape = shapes[name].shape if name in shapes else ()
        places = shape[1:3] if len(shape) == 4 else grid if len(shape) == 3 else None
        if places is not None and np.prod(places) > 1:
            return name, _feature(pretrained, name, images).reshape(len(images), *places, -1)
    raise Missing(f"no feature of {pretrained.name} has places in the image")


def embed(pretrained: Pretrained, images: np.ndarray) -> np.ndarray:
    """Returns the feature ``pre_logits`` of uint8 images, float32 ``[n, width]``."""
    return _feature(pretrained, "pre_logits", images).reshape(len(images), -1)


def _feature(pretrained: Pretrained, name: str, images: np.ndarray) -> np.ndarray:
    """A batch at a time; the last is filled up, so that one program serves any number of images."""
    size = batch_size(pretrained)
    parts = []
    for start in range(0, len(images), size):
        chunk = images[start : start + size]
        filled = np.zeros((size, *images.shape[1:]), np.uint8)
        filled[: len(chunk)] = chunk
        parts.append(np.asarray(_feature_of(pretrained.model, name, *arguments(pretrained, filled)))[: len(chunk)])
    return np.concatenate(parts)


def batch_size(pretrained: Pretrained) -> int:
    """Returns how many images are computed at a time."""
    height, width, _ = pretrained.image_shape
    return _BATCH if height * width <= _SMALL else _BATCH // 8


@partial(jax.jit, static_argnames=("model", "name"))
def _feature_of(model: Model, name: str, params: Any, collections: Any, images: Any) -> Any:
    return model.apply(params, collections, images, keys=None, train=False)[1][name].astype(jnp.float32)


def arguments(pretrained: Pretrained, pixels: np.ndarray) -> tuple[Any, Any, np.ndarray]:
    """Returns what a model is applied to: its parameters, and uint8 images as it expects them."""
    mean, std = (np.asarray(each, np.float32) for each in (pretrained.preprocessing.mean, pretrained.preprocessing.std))
    return pretrained.params, pretrained.collections, (pixels.astype(np.float32) / 255 - mean) / std


def affordable(pretrained: Pretrained, most: int) -> int:
    """Returns how many examples can be embedded in some seconds on two cores, from 100 to ``most``; nothing is run."""
    spec = jax.ShapeDtypeStruct((1, *pretrained.image_shape), jnp.float32)
    apply = partial(pretrained.model.apply, keys=None, train=False)
    cost = multiply_adds(jax.make_jaxpr(apply)(pretrained.params, pretrained.collections, spec))
    return min(most, max(_LEAST, int(_AFFORDABLE // max(cost, 1))))


def first_layer(pretrained: Pretrained) -> tuple[str, np.ndarray]:
    """Returns what the filters of the first layer are, for people, and their pixels ``[filters, height, width, c]``.

    Raises:
      Missing: the network has no layer that is known to be the first.
    """
    params = pretrained.params
    if grid_of(pretrained) is not None:
        kernel = np.asarray(params["patch_embedding"]["kernel"], np.float64)
        found = filters.patch_components(kernel, pretrained.model.module.patch_size)
        what = f"The first {len(found)} principal components of the filters that embed patches"
        return what, filters.as_pixels(found)
    for path in _FIRST_CONVOLUTIONS:
        layer: Any = params
        for name in path:
            layer = layer.get(name, {})
        if np.ndim(layer.get("kernel", 0)) == 4:
            found = filters.convolution_filters(layer["kernel"])
            return f"Filters of the first convolution, {found.shape[1]}x{found.shape[2]} pixels", filters.as_pixels(
                found
            )
    for name in _FIRST_DENSE:
        kernel = params.get(name, {}).get("kernel")
        if kernel is not None and len(kernel) == np.prod(pretrained.image_shape):
            found = filters.dense_filters(kernel, pretrained.image_shape)
            return "Weights of the units of the first layer, which sees all pixels", filters.as_pixels(found)
    raise Missing(f"{pretrained.name} has no first layer of filters")
