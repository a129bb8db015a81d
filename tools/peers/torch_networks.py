"""The networks of the suite of models in PyTorch: from torchvision, or as one would write them."""

from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torchvision import models

from tools.peers import MIXER

NUM_CLASSES = 10


class Shortcut(nn.Module):
    """Option A of He et al. 2016, section 4.2: every second pixel, and zeros for the new channels."""

    def __init__(self, more: int):
        super().__init__()
        self.more = more

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns maps of half the size."""
        return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.more))


class Block(nn.Module):
    """Two convolutions of 3x3 and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.branch = nn.Sequential(
            *(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)),
            *(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)),
        )
        self.shortcut = nn.Identity() if stride == 1 else Shortcut(outputs - inputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns maps of the same size, or of half of it."""
        return functional.relu(self.branch(x) + self.shortcut(x), inplace=True)


class Mixed(nn.Module):
    """A block of MLP-Mixer (Tolstikhin et al. 2021, equation 1)."""

    def __init__(self, patches: int, width: int, tokens_dim: int, channels_dim: int):
        super().__init__()
        self.tokens_norm, self.channels_norm = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.tokens, self.channels = (
            nn.Sequential(nn.Linear(size, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, size))
            for size, hidden in ((patches, tokens_dim), (width, channels_dim))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns tokens ``[batch, patches, width]``."""
        x = x + self.tokens(self.tokens_norm(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.channels_norm(x))


class Mixer(nn.Module):
    """MLP-Mixer for images of 32x32."""

    def __init__(self, patch_size: int, width: int, depth: int, tokens_dim: int, channels_dim: int):
        super().__init__()
        patches = (32 // patch_size) ** 2
        self.embedding = nn.Conv2d(3, width, patch_size, patch_size)
        self.blocks = nn.Sequential(*(Mixed(patches, width, tokens_dim, channels_dim) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width, 1e-6), nn.Linear(width, NUM_CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns logits."""
        return self.head(self.norm(self.blocks(self.embedding(images).flatten(2).transpose(1, 2))).mean(1))


def build(name: str) -> Any:
    """Returns a network in PyTorch."""
    if name == "MLP":
        sizes = (784, 512, 512)
        hidden = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())]
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(512, NUM_CLASSES))
    if name == "LeNet-5":
        return nn.Sequential(
            *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, NUM_CLASSES)),
        )
    if name == "ResNet-20":
        firsts = {16: Block(16, 16, 1), 32: Block(16, 32, 2), 64: Block(32, 64, 2)}
        stages = [(first, Block(size, size, 1), Block(size, size, 1)) for size, first in firsts.items()]
        blocks = [block for stage in stages for block in stage]
        stem = (nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, NUM_CLASSES))
    if name == "ResNet-18":
        network = models.resnet18(num_classes=NUM_CLASSES)
        network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
        return network
    if name == "ResNet-50":
        return models.resnet50(num_classes=NUM_CLASSES)
    if name == "Mixer-192/4":
        return Mixer(**MIXER)
    image_size, patch_size, width = {"ViT-Ti/4": (32, 4, 192), "ViT-S/16": (224, 16, 384), "ViT-B/16": (224, 16, 768)}[
        name
    ]
    vit = {"num_layers": 12, "num_heads": width // 64, "hidden_dim": width, "mlp_dim": 4 * width}
    return models.VisionTransformer(image_size, patch_size, num_classes=NUM_CLASSES, **vit)
