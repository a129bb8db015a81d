"""Names of residual networks."""

from typing import Any

from vision.interop.names import Naming, Pair, batch_norm, conv_layer, dense_layer
from vision.models.resnet import ResNet, block_plans
from vision.models.wide_resnet import WideResNet, wide_block_plans

_COUNTERS = (r"\.num_batches_tracked$",)


def _layer(ours: str, their_conv: str, their_norm: str, norm: str) -> list[Pair]:
    return [*conv_layer(ours, their_conv, bias=False), *batch_norm(norm, their_norm)]


def _pairs(module: Any, *, shortcut: str, head: str) -> list[Pair]:
    """``conv1``, ``bn1``, ``layer1.0.conv1``, ...; torchvision's names, which most code has taken over."""
    pairs = _layer("stem", "conv1", "bn1", "stem_norm")
    for plan in block_plans(module):
        theirs = f"layer{plan.stage + 1}.{plan.position}"
        for number in range(1, 4 if module.block == "bottleneck" else 3):
            ours = f"{plan.name}/conv{number}", f"{plan.name}/norm{number}"
            pairs += _layer(ours[0], f"{theirs}.conv{number}", f"{theirs}.bn{number}", ours[1])
        if plan.projects:
            ours = f"{plan.name}/shortcut", f"{plan.name}/shortcut_norm"
            pairs += _layer(ours[0], f"{theirs}.{shortcut}.0", f"{theirs}.{shortcut}.1", ours[1])
    return pairs + (dense_layer("head", head) if module.num_classes else [])


def torchvision_pairs(module: Any) -> list[Pair]:
    """Names of torchvision, timm and DINO."""
    return _pairs(module, shortcut="downsample", head="fc")


def cifar_pairs(module: Any) -> list[Pair]:
    """Names of the much copied definitions for CIFAR, which say ``shortcut`` and ``linear``."""
    return _pairs(module, shortcut="shortcut", head="linear")


def huggingface_pairs(module: Any) -> list[Pair]:
    """Names of ``transformers.ResNetForImageClassification``."""

    def layer(ours: str, norm: str, theirs: str) -> list[Pair]:
        return _layer(ours, f"{theirs}.convolution", f"{theirs}.normalization", norm)

    pairs = layer("stem", "stem_norm", "resnet.embedder.embedder")
    for plan in block_plans(module):
        theirs = f"resnet.encoder.stages.{plan.stage}.layers.{plan.position}"
        for index in range(3 if module.block == "bottleneck" else 2):
            ours = f"{plan.name}/conv{index + 1}", f"{plan.name}/norm{index + 1}"
            pairs += layer(*ours, f"{theirs}.layer.{index}")
        if plan.projects:
            pairs += layer(f"{plan.name}/shortcut", f"{plan.name}/shortcut_norm", f"{theirs}.shortcut")
    return pairs + (dense_layer("head", "classifier.1") if module.num_classes else [])


def wide_pairs(module: Any) -> list[Pair]:
    """``conv1``, ``block1.layer.0.bn1``, ...; names of the usual PyTorch definition of wide networks for CIFAR."""
    pairs = conv_layer("stem", "conv1", bias=False)
    for plan in wide_block_plans(module):
        theirs = f"block{plan.stage + 1}.layer.{plan.position}"
        for number in (1, 2):
            pairs += batch_norm(f"{plan.name}/norm{number}", f"{theirs}.bn{number}")
            pairs += conv_layer(f"{plan.name}/conv{number}", f"{theirs}.conv{number}", bias=False)
        if plan.projects:
            pairs += conv_layer(f"{plan.name}/shortcut", f"{theirs}.convShortcut", bias=False)
    return pairs + batch_norm("norm", "bn1") + (dense_layer("head", "fc") if module.num_classes else [])


NAMINGS = {
    "torchvision/resnet": Naming(ResNet, torchvision_pairs, _COUNTERS),
    "timm/resnet": Naming(ResNet, torchvision_pairs, _COUNTERS),
    "dino/resnet": Naming(ResNet, torchvision_pairs, _COUNTERS),
    "huggingface/resnet": Naming(ResNet, huggingface_pairs, _COUNTERS),
    "torch/cifar_resnet": Naming(ResNet, cifar_pairs, _COUNTERS),
    "torch/wide_resnet": Naming(WideResNet, wide_pairs, _COUNTERS),
}
