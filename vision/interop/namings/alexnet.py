"""Names of AlexNet."""

from typing import Any

from vision.interop.names import Naming, Pair, conv_layer, dense_layer, flattened
from vision.models.alexnet import AlexNet

# Where the convolutions stand in torchvision's sequence, ReLUs and poolings counted.
_CONVOLUTIONS = (0, 3, 6, 8, 10)


def torchvision_pairs(module: Any) -> list[Pair]:
    """``features.0``, ... and ``classifier.1``, ...; the head is ``classifier.6`` behind two hidden layers.

    The network of two towers takes the same names with its own shapes.
    """
    pairs = []
    for index, position in enumerate(_CONVOLUTIONS):
        pairs += conv_layer(f"conv_{index}", f"features.{position}", bias=True)
    hidden = len(module.hidden_sizes)
    for index in range(hidden):
        layer = dense_layer(f"hidden_{index}", f"classifier.{3 * index + 1}")
        if index == 0:
            layer[0] = flattened("params/hidden_0/kernel", "classifier.1.weight", channels=256)
        pairs += layer
    return pairs + (dense_layer("head", f"classifier.{3 * hidden}") if module.num_classes else [])


NAMINGS = {"torchvision/alexnet": Naming(AlexNet, torchvision_pairs)}
