"""Names of ConvNeXt."""

from typing import Any, NamedTuple

import numpy as np

from vision.interop.names import Arrays, Naming, Pair, conv_layer, dense_layer, norm_layer, same
from vision.models.convnext import ConvNeXt, block_names


class _Names(NamedTuple):
    """How a library calls the layers; ``{stage}`` and ``{block}`` count from 0.

    ``block`` holds prefix, convolution, norm, the two dense layers and the layer's scale; ``tail`` the last norm and
    the head.
    """

    stem: tuple[str, str]
    downsample: tuple[str, str]
    block: tuple[str, str, str, str, str, str]
    tail: tuple[str, str]


_TORCHVISION = _Names(
    ("features.0.0", "features.0.1"),
    ("features.{even}.0", "features.{even}.1"),
    ("features.{odd}.{block}.", "block.0", "block.2", "block.3", "block.5", "layer_scale"),
    ("classifier.0", "classifier.2"),
)
_TIMM = _Names(
    ("stem.0", "stem.1"),
    ("stages.{stage}.downsample.0", "stages.{stage}.downsample.1"),
    ("stages.{stage}.blocks.{block}.", "conv_dw", "norm", "mlp.fc1", "mlp.fc2", "gamma"),
    ("head.norm", "head.fc"),
)
_HUGGINGFACE = _Names(
    ("convnext.embeddings.patch_embeddings", "convnext.embeddings.layernorm"),
    (
        "convnext.encoder.stages.{stage}.downsampling_layer.0",
        "convnext.encoder.stages.{stage}.downsampling_layer.1",
    ),
    (
        "convnext.encoder.stages.{stage}.layers.{block}.",
        "dwconv",
        "layernorm",
        "pwconv1",
        "pwconv2",
        "layer_scale_parameter",
    ),
    ("convnext.layernorm", "classifier"),
)
_AUTHORS = _Names(
    ("downsample_layers.0.0", "downsample_layers.0.1"),
    ("downsample_layers.{stage}.0", "downsample_layers.{stage}.1"),
    ("stages.{stage}.{block}.", "dwconv", "norm", "pwconv1", "pwconv2", "gamma"),
    ("norm", "head"),
)


def _naming(names: _Names) -> Naming:
    def pairs(module: Any) -> list[Pair]:
        found = conv_layer("stem", names.stem[0], bias=True) + norm_layer("stem_norm", names.stem[1])
        ours = iter(block_names(module))
        for stage, size in enumerate(module.stage_sizes):
            # torchvision's features are stem, stage, downsampling, stage, ...
            numbers = {"stage": stage, "even": 2 * stage, "odd": 2 * stage + 1}
            if stage:
                norm, halving = (name.format(**numbers) for name in names.downsample)
                found += norm_layer(f"downsample_norm_{stage}", norm)
                found += conv_layer(f"downsample_{stage}", halving, bias=True)
            for block in range(size):
                prefix, *rest = names.block
                theirs = [prefix.format(block=block, **numbers) + name for name in rest]
                found += _block(module, next(ours), theirs, four_dimensional=names is _TORCHVISION)
        found += norm_layer("norm", names.tail[0])
        return found + (dense_layer("head", names.tail[1]) if module.num_classes else [])

    return Naming(ConvNeXt, pairs)


def _block(module: Any, ours: str, theirs: list[str], *, four_dimensional: bool) -> list[Pair]:
    conv, norm, expand, contract, scale = theirs
    pairs = conv_layer(f"{ours}/conv", conv, bias=True) + norm_layer(f"{ours}/norm", norm)
    pairs += dense_layer(f"{ours}/expand", expand) + dense_layer(f"{ours}/contract", contract)
    if module.layer_scale is None:
        return pairs
    name = f"params/{ours}/layer_scale"
    return [*pairs, Pair((name,), (scale,), _flat, _maps) if four_dimensional else same(name, scale)]


def _flat(scale: np.ndarray) -> Arrays:
    return (scale.reshape(-1),)


def _maps(scale: np.ndarray) -> Arrays:
    return (scale.reshape(-1, 1, 1),)


NAMINGS = {
    "torchvision/convnext": _naming(_TORCHVISION),
    "timm/convnext": _naming(_TIMM),
    "huggingface/convnext": _naming(_HUGGINGFACE),
    "torch/convnext": _naming(_AUTHORS),
}
