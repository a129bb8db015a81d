"""LeNets in PyTorch: as they are built today, Caffe's, and that of 1998 (LeCun et al. 1998, section II-B)."""

import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

# Table I of the paper, read by rows: map of S2 -> the maps of C3 that see it.
SEEN_BY = (
    (0, 4, 5, 6, 9, 10, 11, 12, 14, 15),
    (0, 1, 5, 6, 7, 10, 11, 12, 13, 15),
    (0, 1, 2, 6, 7, 8, 11, 13, 14, 15),
    (1, 2, 3, 6, 7, 8, 9, 12, 14, 15),
    (2, 3, 4, 7, 8, 9, 10, 12, 13, 15),
    (3, 4, 5, 8, 9, 10, 11, 13, 14, 15),
)


class LeNet(nn.Module):
    """Two 5x5 convolutions, the first padded by ``padding``, and dense layers."""

    def __init__(self, num_classes: int = 10, channels: int = 1, padding: int = 2, average: bool = False,
                 activation: str = "relu", caffe: bool = False):  # fmt: skip
        super().__init__()
        widths, hidden = ((20, 50), (500,)) if caffe else ((6, 16), (120, 84))
        self.conv1 = nn.Conv2d(channels, widths[0], 5, padding=padding)
        self.conv2 = nn.Conv2d(widths[0], widths[1], 5)
        sizes = (widths[1] * (16 if caffe else 25), *hidden, num_classes)
        for number in range(1, len(sizes)):
            setattr(self, f"fc{number}", nn.Linear(sizes[number - 1], sizes[number]))
        self.dense = len(sizes) - 1
        self.pool = nn.AvgPool2d(2) if average else nn.MaxPool2d(2)
        self.activation = getattr(torch, activation)
        self.after_convolution = nn.Identity() if caffe else self.activation

    def forward(self, images):
        """Returns logits."""
        x = self.pool(self.after_convolution(self.conv1(images)))
        x = self.pool(self.after_convolution(self.conv2(x))).flatten(1)
        for number in range(1, self.dense):
            x = self.activation(getattr(self, f"fc{number}")(x))
        return getattr(self, f"fc{self.dense}")(x)


class LeNet1998(nn.Module):
    """C1 to F6 and, unless ``codes`` is off, the distances to the project's own pictures of the digits."""

    def __init__(self, codes: bool = True):
        super().__init__()
        self.c1, self.s2 = nn.Conv2d(1, 6, 5), Subsampling(6)
        self.c3, self.s4 = nn.Conv2d(6, 16, 5), Subsampling(16)
        self.c5, self.f6 = nn.Linear(400, 120), nn.Linear(120, 84)
        seen = torch.zeros(16, 6, 1, 1)
        for before, maps in enumerate(SEEN_BY):
            seen[list(maps), before] = 1.0
        self.register_buffer("seen", seen, persistent=False)
        self.register_buffer("codes", torch.tensor(_digit_codes()) if codes else None, persistent=False)

    def forward(self, images):
        """Returns minus the squared distances, or the 84 outputs of F6."""
        x = squash(self.s2(squash(self.c1(functional.pad(images, (2, 2, 2, 2))))))
        x = squash(functional.conv2d(x, self.c3.weight * self.seen, self.c3.bias))
        x = squash(self.s4(x)).flatten(1)
        x = squash(self.f6(squash(self.c5(x))))
        return x if self.codes is None else -(torch.cdist(x, self.codes.to(x.dtype)) ** 2)


class Subsampling(nn.Module):
    """Four neighbours are added, multiplied by a coefficient of the map, and a bias of the map is added."""

    def __init__(self, maps: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(maps)), nn.Parameter(torch.zeros(maps))

    def forward(self, x):
        """Returns maps of half the sides."""
        added = x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]
        return added * self.weight[:, None, None] + self.bias[:, None, None]


def squash(x):
    """The paper's sigmoid, A tanh(S a) with A = 1.7159 and S = 2/3."""
    return 1.7159 * torch.tanh(2.0 / 3.0 * x)


def _digit_codes() -> Any:
    """The pictures that stand for those of the paper, which it does not list; the file needs NumPy alone."""
    path = Path(__file__).parents[2] / "vision" / "models" / "digit_codes.py"
    spec = importlib.util.spec_from_file_location("digit_codes", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not there")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.digit_codes()
