"""The airbench networks in PyTorch, with the names of the released code (Jordan 2024, arXiv:2404.00498)."""

import torch
from torch import nn
from torch.nn import functional


class ShiftNorm(nn.BatchNorm2d):
    """Batch normalisation with a bias and no scale, whose statistics move by 0.4 of the difference."""

    def __init__(self, channels: int):
        super().__init__(channels, eps=1e-12, momentum=0.4)
        del self.weight
        self.register_buffer("weight", torch.ones(channels), persistent=False)


class Group(nn.Module):
    """``conv1``, pooling, ``norm1``, then convolutions with normalisation; the last may be added to what went in."""

    def __init__(self, inputs: int, outputs: int, depth: int):
        super().__init__()
        self.depth = depth
        for number in range(1, depth + 1):
            convolution = nn.Conv2d(inputs if number == 1 else outputs, outputs, 3, padding="same", bias=False)
            setattr(self, f"conv{number}", convolution)
            setattr(self, f"norm{number}", ShiftNorm(outputs))

    def forward(self, x):
        """Returns maps of half the sides."""
        x = functional.gelu(self.norm1(functional.max_pool2d(self.conv1(x), 2)))
        if self.depth == 2:
            return functional.gelu(self.norm2(self.conv2(x)))
        y = functional.gelu(self.norm2(self.conv2(x)))
        return functional.gelu(x + self.norm3(self.conv3(y)))


class Airbench(nn.Module):
    """Whitened patches of 2x2, three groups, pooling of 3x3 and one matrix, for images of 32x32."""

    def __init__(self, widths: tuple[int, ...], depth: int, scale: float, num_classes: int = 10):
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2)
        sizes = (24, *widths)
        groups = [Group(sizes[index], sizes[index + 1], depth) for index in range(3)]
        self.layers = nn.Sequential(nn.GELU(), *groups, nn.MaxPool2d(3))
        self.head = nn.Linear(widths[-1], num_classes, bias=False)
        self.scale = scale

    def forward(self, images):
        """Returns logits."""
        return self.head(self.layers(self.whiten(images)).flatten(1)) * self.scale
