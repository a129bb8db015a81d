"""Names of LeNets: plain PyTorch definitions call their layers by kind and number."""

from typing import Any

import numpy as np

from vision.interop.names import Arrays, Naming, Pair, conv_layer, dense_layer, flattened, same
from vision.models.lenet import LeNet
from vision.models.lenet_1998 import CONNECTIONS, PAIRS, LeNet1998


def lenet_pairs(module: Any) -> list[Pair]:
    """``conv1``, ``conv2``, ..., ``fc1``, ``fc2``, ..., the last of them the head.

    The first dense layer is taken for square maps.
    """
    pairs = [p for i in range(len(module.conv_widths)) for p in conv_layer(f"conv_{i}", f"conv{i + 1}", bias=True)]
    layers = [f"hidden_{i}" for i in range(len(module.hidden_sizes))] + ["head"] * bool(module.num_classes)
    for number, ours in enumerate(layers, start=1):
        layer = dense_layer(ours, f"fc{number}")
        if number == 1:
            layer[0] = flattened(f"params/{ours}/kernel", f"fc{number}.weight", channels=module.conv_widths[-1])
        pairs += layer
    return pairs


def lenet_1998_pairs(module: Any) -> list[Pair]:
    """The paper's layers ``c1``, ``s2``, ``c3``, ``s4``, ``c5``, ``f6``; ``c3`` is full there, with zeros.

    ``s2.weight`` and ``s4.weight`` hold the coefficients. The pictures of the digits are no weights.
    """
    return [
        *conv_layer("conv_0", "c1", bias=True),
        same("params/pool_0/coefficient", "s2.weight"),
        same("params/pool_0/bias", "s2.bias"),
        Pair(("params/conv_1/kernel",), ("c3.weight",), _connected, _full),
        same("params/conv_1/bias", "c3.bias"),
        same("params/pool_1/coefficient", "s4.weight"),
        same("params/pool_1/bias", "s4.bias"),
        flattened("params/hidden_0/kernel", "c5.weight", channels=16),
        same("params/hidden_0/bias", "c5.bias"),
        *dense_layer("hidden_1", "f6"),
    ]


def _connected(full: np.ndarray) -> Arrays:
    seen, here = PAIRS.T
    return (full[here, seen].transpose(1, 2, 0),)


def _full(kernels: np.ndarray) -> Arrays:
    seen, here = PAIRS.T
    full = np.zeros((len(CONNECTIONS), 6, *kernels.shape[:2]), kernels.dtype)
    full[here, seen] = kernels.transpose(2, 0, 1)
    return (full,)


NAMINGS = {"torch/lenet": Naming(LeNet, lenet_pairs), "torch/lenet_1998": Naming(LeNet1998, lenet_1998_pairs)}
