"""Convolutional networks that torchvision and timm lack, in PyTorch, written from their papers."""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution without bias that keeps the size at stride 1."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


class CifarBlock(nn.Module):
    """Two convolutions beside a shortcut A (zeros), B (a convolution) or none (He et al. 2016, section 3.3)."""

    def __init__(self, inputs: int, outputs: int, stride: int, option: str):
        super().__init__()
        self.conv1, self.bn1 = conv3x3(inputs, outputs, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = conv3x3(outputs, outputs), nn.BatchNorm2d(outputs)
        self.option, self.changes = option, stride != 1 or inputs != outputs
        self.before = self.after = (outputs - inputs) // 2
        if option == "B" and self.changes:
            convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(outputs))

    def forward(self, x):
        """Returns the new maps."""
        branch = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        if self.option == "none":
            return branch.relu()
        if not self.changes:
            return (x + branch).relu()
        if self.option == "B":
            return (self.shortcut(x) + branch).relu()
        zeros = [x.new_zeros(len(x), each, *branch.shape[2:]) for each in (self.before, self.after)]
        return (torch.cat([zeros[0], x[:, :, ::2, ::2], zeros[1]], dim=1) + branch).relu()


class CifarResNet(nn.Module):
    """``6 blocks + 2`` layers for 32 pixels (He et al. 2016, section 4.2)."""

    def __init__(self, blocks: int, option: str, num_classes: int = 10, width: int = 16):
        super().__init__()
        self.conv1, self.bn1 = conv3x3(3, width), nn.BatchNorm2d(width)
        inputs = width
        for stage in (1, 2, 3):
            outputs, layers = width * 2 ** (stage - 1), []
            for index in range(blocks):
                layers.append(CifarBlock(inputs, outputs, 2 if stage > 1 and index == 0 else 1, option))
                inputs = outputs
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
        self.linear = nn.Linear(inputs, num_classes)

    def forward(self, images):
        """Returns logits."""
        x = self.bn1(self.conv1(images)).relu()
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean(dim=(2, 3)))


class WideBlock(nn.Module):
    """Normalisation and ReLU before each of two convolutions (Zagoruyko and Komodakis 2016, figure 1)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv3x3(inputs, outputs, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), conv3x3(outputs, outputs)
        if inputs != outputs:
            self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        """Returns the new maps; a shortcut with a convolution starts behind the first ReLU."""
        active = self.bn1(x).relu()
        branch = self.conv2(self.bn2(self.conv1(active)).relu())
        return branch + (self.convShortcut(active) if hasattr(self, "convShortcut") else x)


class WideResNet(nn.Module):
    """Depth ``6 blocks + 4``, widths 16, 16 k, 32 k, 64 k (Zagoruyko and Komodakis 2016, table 1)."""

    def __init__(self, depth: int, k: int, num_classes: int = 10):
        super().__init__()
        self.conv1, inputs = conv3x3(3, 16), 16
        for stage in (1, 2, 3):
            outputs, layers = 16 * k * 2 ** (stage - 1), []
            for index in range((depth - 4) // 6):
                layers.append(WideBlock(inputs, outputs, 2 if stage > 1 and index == 0 else 1))
                inputs = outputs
            setattr(self, f"block{stage}", nn.Sequential(OrderedDict(layer=nn.Sequential(*layers))))
        self.bn1, self.fc = nn.BatchNorm2d(inputs), nn.Linear(inputs, num_classes)

    def forward(self, images):
        """Returns logits."""
        x = self.block3(self.block2(self.block1(self.conv1(images))))
        return self.fc(self.bn1(x).relu().mean(dim=(2, 3)))


class AlexNet2012(nn.Module):
    """The network on two GPUs: groups where a layer sees its own GPU only (Krizhevsky et al. 2012, section 3.5).

    Layers have the numbers that they have in torchvision's AlexNet.
    """

    def __init__(self, num_classes: int = 1000, hidden: int = 4096):
        super().__init__()
        self.features = nn.ModuleDict(
            {
                "0": nn.Conv2d(3, 96, 11, stride=4),
                "3": nn.Conv2d(96, 256, 5, padding=2, groups=2),
                "6": nn.Conv2d(256, 384, 3, padding=1),
                "8": nn.Conv2d(384, 384, 3, padding=1, groups=2),
                "10": nn.Conv2d(384, 256, 3, padding=1, groups=2),
            }
        )
        sizes = {"1": (256 * 6 * 6, hidden), "4": (hidden, hidden), "6": (hidden, num_classes)}
        self.classifier = nn.ModuleDict({name: nn.Linear(*size) for name, size in sizes.items()})
        # The paper's alpha multiplies the sum over 5 channels, PyTorch's their mean.
        self.normalise = nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)

    def forward(self, images):
        """Returns logits: normalisation behind the first two layers, pooling behind these and the fifth."""
        x = images
        for name, layer in self.features.items():
            x = layer(x).relu()
            x = self.normalise(x) if name in ("0", "3") else x
            x = functional.max_pool2d(x, 3, 2) if name in ("0", "3", "10") else x
        x = x.flatten(1)
        for name, layer in self.classifier.items():
            x = layer(x) if name == "6" else layer(x).relu()
        return x
