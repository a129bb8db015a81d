"""The published pairs of towers by name, and the weights of another library's file in one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vision import models
from vision.config.calling import lookup
from vision.data.tokenizer import Tokenizer
from vision.errors import ConfigError, UserError, did_you_mean
from vision.interop.files import Weights
from vision.interop.load import Loaded, load_weights
from vision.interop.namings import two_towers
from vision.interop.namings.two_towers import TwoTowers
from vision.interop.pair import abstract_pair
from vision.interop.preprocessing import Preprocessing
from vision.interop.recognise import recognise
from vision.interop.trees import flat, nested
from vision.models.interface import ImageShape, Model
from vision.models.text_interface import TextModel


class PairVariant(NamedTuple):
    """A published pair.

    Attributes:
      image: variant of the image tower.
      text: variant of the text tower.
      embed_dim: size of the embedding.
      image_projection: whether the image's features are projected.
      loss: that it was trained with; ``sigmoid`` has a bias beside the scale.
    """

    image: str
    text: str
    embed_dim: int
    image_projection: bool = True
    loss: str = "softmax"

    @property
    def bias(self) -> bool:
        """Whether there is one."""
        return self.loss == "sigmoid"


# Radford et al. 2021, tables 19 and 20, with the small one of open_clip; Zhai et al. 2023.
PAIRS = {
    "clip/ViT-S16": PairVariant("vit/S16_clip", "text/clip_384", 384),
    "clip/ViT-B32": PairVariant("vit/B32_clip", "text/clip_512", 512),
    "clip/ViT-B16": PairVariant("vit/B16_clip", "text/clip_512", 512),
    "clip/ViT-L14": PairVariant("vit/L14_clip", "text/clip_768", 768),
    "clip/ViT-L14_336": PairVariant("vit/L14_clip_336", "text/clip_768", 768),
    "clip/RN50": PairVariant("clip_resnet/50", "text/clip_512", 1024, image_projection=False),
    "siglip/B16": PairVariant("vit/B16_siglip", "text/siglip_B", 768, image_projection=False, loss="sigmoid"),
}


class ImportedPair(NamedTuple):
    """Two towers and their weights.

    Attributes:
      model: image tower, built for the image shape.
      text: text tower.
      image_shape: ``(height, width, channels)``.
      loaded: the weights, ours laid out as those of the objective ``contrast``.
      metadata: of a checkpoint that holds them, without preprocessing and tokenizer.
    """

    model: Model
    text: TextModel
    image_shape: ImageShape
    loaded: Loaded
    metadata: dict[str, Any]


def import_pair(
    weights: Weights,
    name: str,
    *,
    options: Mapping[str, Any] | None = None,
    image_size: int | None = None,
    may_differ: Sequence[str] = (),
    naming: str | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> ImportedPair:
    """Returns a published pair with a file's weights; the file tells the size of the vocabulary and the length.

    Args:
      weights: as read.
      name: key of :data:`PAIRS`.
      options: of the towers, as ``image.NAME`` and ``text.NAME``; ``activation`` is for both, ``embed_dim`` for what
        joins them.
      image_size: side of the images; None for the variant's own.
      may_differ: what need not fit.
      naming: key of :data:`vision.interop.namings.two_towers.NAMINGS`; None to find out.
      note: told what people should know.

    Raises:
      UserError: the towers cannot be built so, or the weights do not fit them.
    """
    variant = lookup(PAIRS, name, "--to", kind="pair")
    of_image, of_text, embed_dim = _split(options or {}, variant, name)
    height, width, channels = models.VARIANTS[variant.image].image_shape
    shape = (image_size or height, image_size or width, channels)
    model = models.build(variant.image, num_classes=0, image_shape=shape, **of_image)
    joined = {"image_projection": variant.image_projection, "bias": variant.bias}
    weights = weights._replace(arrays=two_towers.without_axes(weights.arrays))

    def words(**sizes: Any) -> TextModel:
        return models.build_text(variant.text, out_size=embed_dim, **sizes, **of_text)

    text = words(**_sizes(weights, TwoTowers(model.module, words().module, **joined), naming))
    params, collections = abstract_pair(model, text, shape, embed_dim=embed_dim, **joined)
    loaded = load_weights(
        weights,
        module=TwoTowers(model.module, text.module, **joined),
        abstract_params=params,
        abstract_collections=collections,
        may_differ=may_differ,
        naming=naming,
        namings=two_towers.NAMINGS,
        note=note,
    )
    metadata = {
        "step": 0,
        "pair": name,
        "model": {"name": variant.image, **of_image},
        "text": {"name": variant.text, **of_text},
        "objective": {
            "name": "contrast",
            "embed_dim": embed_dim,
            "image_projection": variant.image_projection,
            "loss": variant.loss,
        },
        "vocab_size": text.vocab_size,
        "length": text.length,
        "embed_dim": embed_dim,
        "num_classes": 0,
        "image_shape": list(shape),
        "source": loaded.facts,
        "fresh": list(loaded.report.fresh),
        "resized": {path: [list(each) for each in both] for path, both in loaded.report.resized.items()},
    }
    return ImportedPair(model, text, shape, loaded, metadata)


def described(pair: ImportedPair, preprocessing: Preprocessing | None, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Returns the metadata of the checkpoint; :func:`vision.interop.pair.pair_of` reads it.

    Raises:
      UserError: the tokenizer has another vocabulary than the text tower.
    """
    if tokenizer is not None and tokenizer.vocab_size != pair.text.vocab_size:
        raise UserError(
            f"--tokenizer has {tokenizer.vocab_size} tokens, the text tower of the file {pair.text.vocab_size}; take "
            "the vocabulary that it was trained with"
        )
    return {
        **pair.metadata,
        "preprocessing": None if preprocessing is None else preprocessing.as_json(),
        "tokenizer": None if tokenizer is None else tokenizer.to_json(),
    }


def complete_pair(pair: ImportedPair, *, seed: int = 0) -> dict[str, Any]:
    """Returns ``{"params": ..., "extra": {"collections": ...}}``; what the file did not fill gets initial values."""
    taken = flat(pair.loaded.params, pair.loaded.collections)
    fresh = pair.loaded.report.fresh
    joining = [path for path in fresh if not path.startswith(("params/backbone/", "params/text/", "batch_stats/"))]
    if joining:
        raise UserError(f"{', '.join(joining)} cannot be left out: without them the towers do not belong together")
    if fresh:
        images = jax.ShapeDtypeStruct((1, *pair.image_shape), jnp.float32)

        def initial(key: jax.Array) -> dict[str, jax.Array]:
            of_image, of_text = jax.random.split(key)
            backbone, collections = pair.model.init(of_image, images)
            made = flat({"backbone": backbone, "text": pair.text.init(of_text)}, collections)
            return {path: made[path] for path in fresh}

        taken |= jax.jit(initial)(jax.random.key(seed))
    params, collections = nested(taken)
    return {"params": params, "extra": {"collections": collections}}


def _split(options: Mapping[str, Any], variant: PairVariant, name: str) -> tuple[dict, dict, int]:
    """Returns the options of the image tower, of the text tower, and the size of the embedding."""
    towers: dict[str, dict[str, Any]] = {"image": {}, "text": {}}
    embed_dim = variant.embed_dim
    for key, value in options.items():
        owner, dot, field = key.partition(".")
        if dot and owner in towers:
            towers[owner][field] = value
        elif key == "embed_dim":
            embed_dim = int(value)
        elif key == "activation":
            for tower in towers if "clip_resnet" not in variant.image else ("text",):
                towers[tower].setdefault(key, value)
        else:
            near = did_you_mean(key, [f"image.{key}", f"text.{key}", "activation", "embed_dim"])
            raise UserError(f"--option {key}: {name} has two towers, write image.{key} or text.{key}{near}")
    if any(each.get("scan") for each in towers.values()):
        raise UserError("--option scan: converted weights have their blocks one by one; scan is for the run's config")
    if not variant.image_projection and "clip_resnet" in variant.image:
        towers["image"].setdefault("out_size", embed_dim)
    if models.TEXT_VARIANTS[variant.text].options.get("pool") == "last":
        towers["text"].setdefault("sticky_end", False)  # the largest id of SigLIP's own vocabulary is a word
    if embed_dim < 1:
        raise ConfigError(f"{name}: embed_dim must be at least 1, got {embed_dim}")
    return towers["image"], towers["text"], embed_dim


def _sizes(weights: Weights, towers: TwoTowers, naming: str | None) -> dict[str, int]:
    """Returns the size of the vocabulary and the length that the file's arrays have."""
    found = recognise(
        weights.arrays, towers, naming=naming, namings=two_towers.NAMINGS, source=weights.source
    )  # one that does not fit is told of here
    paths = {path: pair.theirs[0] for pair in found.naming.pairs(towers) for path in pair.ours}
    sizes = {}
    for size, path in (("vocab_size", "token_embedding"), ("length", "position_embedding")):
        name = found.names.get(paths[f"params/text/{path}"])
        if name is not None and weights.arrays[name].ndim == 2:
            sizes[size] = len(weights.arrays[name])
    return sizes
