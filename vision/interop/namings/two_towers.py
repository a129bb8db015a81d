"""Names for an image tower and a text tower in one file: of OpenAI, open_clip and Hugging Face."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from vision.interop.names import Naming, Pair, dense, dense_layer, norm_layer, same
from vision.interop.namings import clip, vit
from vision.models.clip_resnet import ClipResNet

BACKBONE, TEXT = "backbone", "text"
_BLOCK = SimpleNamespace(qkv_bias=True, layer_scale=None, mlp="dense")


@dataclass(frozen=True)
class TwoTowers:
    """The modules of an image tower and a text tower, and what joins them.

    Attributes:
      image: module of the image tower.
      text: module of the text tower.
      image_projection: whether a matrix brings the image's features to the size of the embedding.
      bias: whether there is one beside the scale, as in SigLIP.
    """

    image: Any
    text: Any
    image_projection: bool
    bias: bool

    num_classes = 1  # neither tower has a head, and none is to be looked for

    @property
    def position_antialias(self) -> bool:
        """How the image tower resizes its positions."""
        return self.image.position_antialias

    @property
    def position_offset(self) -> float:
        """Likewise."""
        return self.image.position_offset


class TextWords(NamedTuple):
    """What a library calls the parts beside the image tower."""

    root: str
    words: vit.Words
    tokens: str
    positions: str
    norm: str
    projection: Callable[[str, Any], list[Pair]]
    image_projection: Callable[[], Pair]


def _matrix(name: str) -> Callable[[str, Any], list[Pair]]:
    """A bare matrix ``[in, out]`` where there is no bias, otherwise a linear layer."""

    def projection(root: str, text: Any) -> list[Pair]:
        if text.projection_bias:
            return dense_layer(f"{TEXT}/projection", root + name)
        return [same(f"params/{TEXT}/projection/kernel", root + name)]

    return projection


def _linear(name: str) -> Callable[[str, Any], list[Pair]]:
    def projection(root: str, text: Any) -> list[Pair]:
        pairs = dense_layer(f"{TEXT}/projection", root + name)
        return pairs if text.projection_bias else pairs[:1]

    return projection


_OPENAI = TextWords(
    root="",
    words=clip.OPENAI,
    tokens="token_embedding.weight",
    positions="positional_embedding",
    norm="ln_final",
    projection=_matrix("text_projection"),
    image_projection=lambda: same("params/projection/kernel", "visual.proj"),
)
_HUGGINGFACE = TextWords(
    root="text_model.",
    words=clip.HUGGINGFACE,
    tokens="embeddings.token_embedding.weight",
    positions="embeddings.position_embedding.weight",
    norm="final_layer_norm",
    projection=lambda root, text: _linear("text_projection")("", text),
    image_projection=lambda: dense("params/projection/kernel", "visual_projection.weight"),
)
_SIGLIP = _HUGGINGFACE._replace(projection=_linear("head"))


def text_pairs(text: Any, library: TextWords) -> list[Pair]:
    """Returns the arrays of a text tower, ours under ``params/text``."""
    root = library.root
    pairs = [
        same(f"params/{TEXT}/token_embedding", root + library.tokens),
        same(f"params/{TEXT}/position_embedding", root + library.positions),
        *norm_layer(f"{TEXT}/norm", root + library.norm),
    ]
    for index in range(text.depth):
        theirs = root + library.words.block.format(index)
        pairs += vit.block_pairs(_BLOCK, library.words, f"{TEXT}/encoder/block{index:02}", theirs)
    return pairs + (library.projection(root, text) if text.out_size else [])


def _pairs(images: vit.Words, library: TextWords, root: str = "") -> Callable[[TwoTowers], list[Pair]]:
    """Returns the function from two towers to their arrays; ``root`` stands before the image tower's names."""

    def pairs(towers: TwoTowers) -> list[Pair]:
        if isinstance(towers.image, ClipResNet):
            of_image = clip.resnet_pairs(towers.image)
        else:
            of_image = vit.pairs_of(images)(towers.image)
        found = [_moved(pair, root) for pair in of_image] + text_pairs(towers.text, library)
        if towers.image_projection:
            found.append(library.image_projection())
        found.append(same("params/scale", "logit_scale"))
        return [*found, same("params/bias", "logit_bias")] if towers.bias else found

    return pairs


def _moved(pair: Pair, root: str) -> Pair:
    """A pair of the image tower alone, in its place beside the text tower."""
    ours = tuple(path.replace("params/", f"params/{BACKBONE}/", 1) for path in pair.ours)
    return pair._replace(ours=ours, theirs=tuple(root + name for name in pair.theirs))


def without_axes(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns arrays with ``logit_scale`` and ``logit_bias`` as numbers without axes."""
    numbers = ("logit_scale", "logit_bias")
    return {
        name: array.reshape(()) if array.size == 1 and name.rpartition(".")[2] in numbers else array
        for name, array in arrays.items()
    }


_IGNORED = (rf"^({'|'.join(clip.SIZES)})$", r"position_ids$", r"attn_mask$", *clip.COUNTERS)
_UNDER_TEXT = _OPENAI._replace(root="text.")
NAMINGS: dict[str, Naming] = {
    key: Naming(TwoTowers, pairs, ignored=_IGNORED)
    for key, pairs in {
        "openai/clip": _pairs(clip.OPENAI, _OPENAI),
        "open_clip/clip": _pairs(clip.OPENAI, _OPENAI),
        "open_clip/custom_text": _pairs(clip.OPENAI, _UNDER_TEXT),
        "open_clip/siglip": _pairs(clip.TIMM_TRUNK, _UNDER_TEXT),
        "huggingface/clip": _pairs(clip.HUGGINGFACE, _HUGGINGFACE, "vision_model."),
        "huggingface/siglip": _pairs(vit.SIGLIP, _SIGLIP, "vision_model."),
    }.items()
}
