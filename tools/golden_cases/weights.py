"""Weights, images, labels and directions from a name and a shape: what both sides of a comparison draw on their own."""

import re
import zlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

SEED = 20240229
_TOKENS = re.compile(
    r"(cls|class|dist|distillation|reg|register|storage|mask)_tokens?$|pos(ition)?_embed|(latent|probe)$"
)
_LAYER_SCALES = re.compile(r"\.gamma|layer_scale|lambda1$|\.ls\d\.")


def drawn(name: str, shape: Sequence[int], *, scales: Mapping[str, float] = MappingProxyType({})) -> np.ndarray:
    """Returns float32 numbers for a parameter or a running statistic, as its name in PyTorch asks for.

    Everything is of the order of one or matters beside what is, so that no part of a network can be left out unseen.

    Args:
      name: such as ``layer1.0.bn1.running_var``.
      shape: in PyTorch's order.
      scales: regular expression found in the name -> factor; the first that is found counts.
    """
    factor = next((factor for pattern, factor in scales.items() if re.search(pattern, name)), 1.0)
    return np.float32(factor) * _of_kind(name, tuple(shape))


def _of_kind(name: str, shape: tuple[int, ...]) -> np.ndarray:
    random = _random(name)
    last = name.rpartition(".")[2]
    if _TOKENS.search(name):
        return 0.5 * random.standard_normal(shape, np.float32)
    if last == "running_var" or _LAYER_SCALES.search(name):
        return 0.5 + random.random(shape, np.float32)
    if last == "running_mean" or last.endswith("bias"):
        return 0.1 * random.standard_normal(shape, np.float32)
    if len(shape) < 2:
        return 0.5 + random.random(shape, np.float32)
    return random.standard_normal(shape, np.float32) / np.float32(np.sqrt(np.prod(shape[1:])))


def images(shape: Sequence[int]) -> np.ndarray:
    """Returns normal float32 images ``[batch, channels, height, width]``."""
    return _random("images").standard_normal(tuple(shape), np.float32)


def masks(batch: int, patches: int) -> np.ndarray:
    """Returns which patches are masked, about a third, as booleans ``[batch, patches]``."""
    return _random("masks").random((batch, patches)) < 1 / 3


def labels(batch: int, num_classes: int) -> np.ndarray:
    """Returns int64 labels ``[batch]``."""
    return _random("labels").integers(0, num_classes, batch)


def on_direction(name: str, array: np.ndarray) -> float:
    """Returns the scalar product with a normal direction: a wrong array of relative error e is off by about e."""
    direction = _random(f"direction of {name}").standard_normal(array.shape)
    return float(np.vdot(direction, array.astype(np.float64)))


def summary(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns ``[arrays, 2]`` in the order of the names: norm, and product with the direction of the name."""
    return np.array([[np.linalg.norm(array), on_direction(name, array)] for name, array in sorted(arrays.items())])


def _random(name: str) -> np.random.Generator:
    return np.random.default_rng([SEED, zlib.crc32(name.encode())])
