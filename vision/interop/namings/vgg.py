"""Names of VGG."""

from typing import Any

import numpy as np

from vision.interop.names import Arrays, Naming, Pair, batch_norm, conv_layer, dense_layer, flattened, same
from vision.models.vgg import VGG

_COUNTERS = (r"\.num_batches_tracked$",)


def _convolutions(module: Any) -> list[Pair]:
    """``features.0``, ..., where ReLUs, poolings and normalisations are counted too."""
    pairs, position = [], 0
    for block, depth in enumerate(module.block_depths):
        for number in range(1, depth + 1):
            ours = f"block{block:02}/conv{number}", f"block{block:02}/norm{number}"
            pairs += conv_layer(ours[0], f"features.{position}", bias=True)
            pairs += batch_norm(ours[1], f"features.{position + 1}") if module.batch_norm else []
            position += 3 if module.batch_norm else 2
        position += 1
    return pairs


def _dense(module: Any, names: list[str]) -> list[Pair]:
    """The dense layers, the head last where there is one; the first is over a flattened map."""
    ours = [f"hidden_{index}" for index in range(len(module.hidden_sizes))] + ["head"] * bool(module.num_classes)
    pairs = []
    for index, (here, there) in enumerate(zip(ours, names, strict=False)):
        layer = dense_layer(here, there)
        if index == 0:
            layer[0] = flattened(f"params/{here}/kernel", f"{there}.weight", channels=module.widths[-1])
        pairs += layer
    return pairs


def torchvision_pairs(module: Any) -> list[Pair]:
    """``features.0``, ..., ``classifier.0``, ...; ``classifier`` alone, as in plain definitions, for a lone head."""
    hidden = len(module.hidden_sizes)
    names = [f"classifier.{3 * index}" for index in range(hidden + 1)] if hidden else ["classifier"]
    return _convolutions(module) + _dense(module, names)


def timm_pairs(module: Any) -> list[Pair]:
    """``features.0``, ..., ``pre_logits.fc1``, ..., ``head.fc``; hidden layers are convolutions there."""
    pairs = _convolutions(module)
    for index in range(len(module.hidden_sizes)):
        ours, theirs = f"params/hidden_{index}", f"pre_logits.fc{index + 1}"
        side = 1 if index else module.grid
        pairs += [_dense_as_conv(f"{ours}/kernel", f"{theirs}.weight", side), same(f"{ours}/bias", f"{theirs}.bias")]
    return pairs + (dense_layer("head", "head.fc") if module.num_classes else [])


def _dense_as_conv(ours: str, theirs: str, side: int) -> Pair:
    """A matrix over a flattened map that is, on their side, a kernel as large as the map: ``[out, in, side, side]``."""

    def to_ours(x: np.ndarray) -> Arrays:
        return (x.transpose(2, 3, 1, 0).reshape(-1, len(x)),)

    def to_theirs(x: np.ndarray) -> Arrays:
        return (x.reshape(side, side, -1, x.shape[1]).transpose(3, 2, 0, 1),)

    return Pair((ours,), (theirs,), to_ours, to_theirs)


NAMINGS = {
    "torchvision/vgg": Naming(VGG, torchvision_pairs, _COUNTERS),
    "timm/vgg": Naming(VGG, timm_pairs, _COUNTERS),
}
