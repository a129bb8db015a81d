"""What excites the units of a network: the strongest examples, the pixels they depend on, what of these counts."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vision.analysis import activations
from vision.analysis.guided import Rule, relus, through_relus
from vision.analysis.programs import traced
from vision.analysis.receptive_field import receptive_fields
from vision.data.prepare import normalize
from vision.errors import UserError, did_you_mean
from vision.models.interface import Model
from vision.studies.look_data import Browsed
from vision.studies.look_network import Missing, arguments, batch_size
from vision.training.pretrained import Pretrained

STRONGEST = 9
_LAYERS = 3


class Units(NamedTuple):
    """The strongest responses of some maps of one feature.

    Attributes:
      feature: its name.
      shape: of one example's.
      maps: which ones.
      values: of the responses, in falling order, ``[maps, k]``.
      images: uint8 ``[maps, k, height, width, channels]``.
      fields: pixels that each unit depends on, ``[maps, k, height, width]``.
      gradients: of each response by the pixels on the scale 0 to 1, by ``rule``, as ``images``.
      rule: which one goes back through the ReLUs.
    """

    feature: str
    shape: tuple[int, ...]
    maps: list[int]
    values: np.ndarray
    images: np.ndarray
    fields: np.ndarray
    gradients: np.ndarray
    rule: Rule


def chosen_layers(pretrained: Pretrained, layers: Sequence[str] = ()) -> dict[str, tuple[int, ...]]:
    """Returns features with the shape of one example's: the given ones, or the first, middle and last block.

    Blocks whose units see a place in the image come before those of hidden layers that see all of it.

    Raises:
      UserError: one of the given is no feature of the network.
      Missing: it has no blocks.
    """
    shapes = {name: shape for name, shape in _shapes(pretrained).items() if 1 <= len(shape) <= 3 and "/" not in name}
    for name in layers:
        if name not in shapes:
            known = ", ".join(shapes)
            raise UserError(
                f"--layer: no feature {name!r} in {pretrained.name}{did_you_mean(name, shapes)}; known: {known}"
            )
    if layers:
        return {name: shapes[name] for name in layers}
    blocks = sorted((name for name in shapes if re.fullmatch(r"block\d+", name)), key=lambda name: int(name[5:]))
    blocks = [name for name in blocks if np.prod(shapes[name][:-1]) > 1] or blocks
    if not blocks:
        raise Missing(f"{pretrained.name} has no blocks, whose units could be looked at")
    places = np.unique(np.linspace(0, len(blocks) - 1, _LAYERS).round().astype(int))
    return {blocks[place]: shapes[blocks[place]] for place in places}


def _shapes(pretrained: Pretrained) -> dict[str, tuple[int, ...]]:
    spec = jax.ShapeDtypeStruct((1, *pretrained.image_shape), jnp.float32)
    apply = partial(pretrained.model.apply, keys=None, train=False)
    features = jax.eval_shape(apply, pretrained.params, pretrained.collections, spec)[1]
    return {name: feature.shape[1:] for name, feature in features.items()}


def strongest_units(
    pretrained: Pretrained, layers: Mapping[str, tuple[int, ...]], images: Browsed, *, maps: int, rule: Rule
) -> list[Units]:
    """Returns, for each feature, the units of its most varied maps that some images excite most.

    All images are passed over once for all features; of the responses only the strongest are kept.

    Args:
      pretrained: the network.
      layers: features with their shapes.
      images: among which is looked.
      maps: how many of each feature.
      rule: how gradients go back through ReLUs; where there is none, it is the plain gradient.
    """
    names, k = tuple(layers), min(STRONGEST, images.total)
    states = {name: activations.none_yet(shape[-1], k) for name, shape in layers.items()}
    size = batch_size(pretrained)
    for start in range(0, images.total, size):
        rows = np.arange(start, min(start + size, images.total))
        pixels = np.zeros((size, *pretrained.image_shape), np.uint8)
        pixels[: len(rows)] = images.read(rows)
        features = _features_of(pretrained.model, names, *arguments(pretrained, pixels))
        numbers, there = start + np.arange(size), np.arange(size) < len(rows)
        for name in names:
            states[name] = activations.updated(states[name], features[name], numbers, there)
    return [_units(pretrained, name, layers[name], states[name], images, maps, rule) for name in names]


@partial(jax.jit, static_argnums=(0, 1))
def _features_of(model: Model, names: tuple[str, ...], params: Any, collections: Any, images: Any) -> Any:
    features = model.apply(params, collections, images, keys=None, train=False)[1]
    return {name: _by_place(features[name]) for name in names}


def _by_place(feature: jax.Array) -> jax.Array:
    return feature.astype(jnp.float32).reshape(len(feature), -1, feature.shape[-1])


def _units(
    pretrained: Pretrained,
    name: str,
    shape: tuple[int, ...],
    state: activations.Strongest,
    images: Browsed,
    most: int,
    rule: Rule,
) -> Units:
    maps = activations.most_varied(state, most)
    values, examples, places = (np.asarray(each)[maps] for each in (state.values, state.examples, state.places))
    distinct, where = np.unique(examples, return_inverse=True)
    pixels = images.read(distinct)[where.reshape(examples.shape)]

    def apply(variables: Any, image: jax.Array) -> jax.Array:
        params, collections = variables
        return pretrained.model.apply(params, collections, image, keys=None, train=False)[1][name]

    variables = (pretrained.params, pretrained.collections)
    spec = jax.ShapeDtypeStruct((1, *pretrained.image_shape), jnp.float32)
    fields = receptive_fields(apply, variables, spec, places.reshape(-1)).reshape(*places.shape, *pixels.shape[2:4])
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype), variables)
    if not relus(traced(apply)(shapes, spec)):
        rule = "gradient"
    moments = (tuple(pretrained.preprocessing.mean), tuple(pretrained.preprocessing.std))
    of_map = partial(_gradients, pretrained.model, name, rule, moments, *variables)
    rows = zip(pixels, places, np.broadcast_to(np.array(maps)[:, None], places.shape), strict=True)
    gradients = np.stack([np.asarray(of_map(*row)) for row in rows])
    return Units(name, shape, maps, values, pixels, fields, gradients, rule)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _gradients(model, name, rule, moments, params, collections, pixels, places, maps):
    """Of each image's own unit; in evaluation examples are independent, so one sum serves all."""

    def total(scaled: jax.Array) -> jax.Array:
        images = normalize(scaled, *moments)
        feature = model.apply(params, collections, images, keys=None, train=False)[1][name]
        return jnp.sum(_by_place(feature)[jnp.arange(len(places)), places, maps])

    return jax.grad(through_relus(total, rule))(pixels.astype(jnp.float32) / 255)
