"""DINO as its authors' PyTorch code computes it, written plainly: ViT, head, multi-crop, loss, one training step.

The definitions and the names of parameters are those of github.com/facebookresearch/dino (vision_transformer.py,
utils.py, main_dino.py). Attention goes through PyTorch's own fused function, which that code is older than.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

Crops = Sequence[torch.Tensor]
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE, CENTRE_MOMENTUM = 0.1, 0.04, 0.9
CLIP = 3.0
FROM_MOMENTUM, TO_MOMENTUM = 0.996, 1.0
FROM_DECAY, TO_DECAY = 0.04, 0.4
FROM_RATE, FINAL_RATE = 1e-5, 1e-6  # 5e-4 for 256 images, without the warm-up


class Attention(nn.Module):
    """Softmax attention with one matrix for queries, keys and values."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns tokens of the same shape."""
        batch, tokens, width = x.shape
        parts = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, width // self.num_heads)
        seen = functional.scaled_dot_product_attention(*parts.permute(2, 0, 3, 1, 4))
        return self.proj(seen.transpose(1, 2).reshape(batch, tokens, width))


class Mlp(nn.Module):
    """Two layers with GELU between them."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns tokens of the same shape."""
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """A transformer block with the norms first; in training a branch is left out at times, example by example."""

    def __init__(self, width: int, num_heads: int, hidden: int, drop: float):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp, self.drop = Attention(width, num_heads), Mlp(width, hidden), drop

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns tokens of the same shape."""
        x = x + self._dropped(self.attn(self.norm1(x)))
        return x + self._dropped(self.mlp(self.norm2(x)))

    def _dropped(self, branch: torch.Tensor) -> torch.Tensor:
        if not (self.training and self.drop):
            return branch
        keep = torch.rand(len(branch), 1, 1, device=branch.device) >= self.drop
        return branch * keep / (1 - self.drop)


class PatchEmbedding(nn.Module):
    """A convolution that takes each patch once."""

    def __init__(self, width: int, patch_size: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_size, patch_size)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns tokens ``[batch, rows, columns, width]``."""
        return self.proj(images).permute(0, 2, 3, 1)


class VisionTransformer(nn.Module):
    """A ViT whose output is its normalised class token, for images of any size that patches divide."""

    def __init__(
        self, *, size: int, patch_size: int, width: int, depth: int, num_heads: int, mlp_dim: int, drop: float = 0.0
    ):
        super().__init__()
        self.side = size // patch_size
        self.patch_embed = PatchEmbedding(width, patch_size)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, self.side**2 + 1, width))
        rates = torch.linspace(0, drop, depth).tolist()
        self.blocks = nn.ModuleList([Block(width, num_heads, mlp_dim, rate) for rate in rates])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.apply(_initialise)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns ``[batch, width]`` of images ``[batch, 3, height, width]``."""
        x = self.patch_embed(images)
        batch, rows, columns, width = x.shape
        x = torch.cat([self.cls_token.expand(batch, -1, -1), x.reshape(batch, -1, width)], dim=1)
        x = x + self._positions(rows, columns)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 0]

    def _positions(self, rows: int, columns: int) -> torch.Tensor:
        """Those of another grid come from the learned ones by bicubic interpolation, with 0.1 against rounding."""
        if rows == columns == self.side:
            return self.pos_embed
        learned = self.pos_embed[:, 1:].reshape(1, self.side, self.side, -1).permute(0, 3, 1, 2)
        scale = ((rows + 0.1) / self.side, (columns + 0.1) / self.side)
        resized = functional.interpolate(learned, scale_factor=scale, mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], resized.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


class Head(nn.Module):
    """Three layers to a unit vector, and a weight-normalised layer to the prototypes."""

    def __init__(self, width: int, prototypes: int, *, hidden: int, bottleneck: int, trained_gain: bool = False):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.apply(_initialise)
        # The newer torch.nn.utils.parametrizations.weight_norm has other names than the published files.
        self.last_layer = nn.utils.weight_norm(nn.Linear(bottleneck, prototypes, bias=False))
        self.last_layer.weight_g.data.fill_(1.0)
        self.last_layer.weight_g.requires_grad = trained_gain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns logits ``[rows, prototypes]``."""
        return self.last_layer(functional.normalize(self.mlp(x), dim=-1))


class MultiCrop(nn.Module):
    """A backbone that is called once for each size of crops, and a head that is called once."""

    def __init__(self, backbone: nn.Module, head: nn.Module):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, crops: Crops) -> torch.Tensor:
        """Returns logits ``[crops * batch, prototypes]``, all images of the first crop first."""
        sizes = sorted({crop.shape[-1] for crop in crops}, reverse=True)
        features = [self.backbone(torch.cat([crop for crop in crops if crop.shape[-1] == size])) for size in sizes]
        return self.head(torch.cat(features))


class Loss(nn.Module):
    """Cross-entropy between the centred, sharpened teacher and the student on other crops; then the centre moves."""

    centre: torch.Tensor

    def __init__(self, prototypes: int):
        super().__init__()
        self.register_buffer("centre", torch.zeros(1, prototypes))

    def forward(self, student: torch.Tensor, teacher: torch.Tensor, crops: int) -> torch.Tensor:
        """Returns the mean over all pairs of a teacher's crop and another one of the student's."""
        views = [functional.log_softmax(each / STUDENT_TEMPERATURE, dim=-1) for each in student.chunk(crops)]
        targets = functional.softmax((teacher - self.centre) / TEACHER_TEMPERATURE, dim=-1).detach().chunk(2)
        terms = [
            -(target * view).sum(dim=-1).mean()
            for number, target in enumerate(targets)
            for other, view in enumerate(views)
            if other != number
        ]
        mean = teacher.detach().mean(dim=0, keepdim=True)
        self.centre = CENTRE_MOMENTUM * self.centre + (1 - CENTRE_MOMENTUM) * mean
        return sum(terms) / len(terms)


class Trainer:
    """One step after another: forward, backward, clip, AdamW, moving average, on schedules of so many steps.

    Attributes:
      student: with its head.
      teacher: the moving average of the student's parameters, a copy at first.
      loss: with the centre.
    """

    def __init__(self, student: MultiCrop, teacher: MultiCrop, prototypes: int, *, steps: int, half: bool):
        device = next(student.parameters()).device
        self.student, self.teacher, self.loss = student, teacher, Loss(prototypes).to(device)
        teacher.load_state_dict(student.state_dict())
        teacher.requires_grad_(False)
        trained = [(name, each) for name, each in student.named_parameters() if each.requires_grad]
        free = [each for name, each in trained if name.endswith(".bias") or each.ndim == 1]
        decayed = [each for name, each in trained if not (name.endswith(".bias") or each.ndim == 1)]
        self._optimizer = torch.optim.AdamW([{"params": decayed}, {"params": free, "weight_decay": 0.0}])
        self._steps, self._half, self._done, self._device = steps, half, 0, device

    def step(self, crops: Crops) -> float:
        """Trains on crops, the two global ones first; returns the loss, which is read to be sure that it is finite."""
        crops = [crop.to(self._device, non_blocking=True) for crop in crops]
        for group in self._optimizer.param_groups:
            group["lr"] = self._between(FROM_RATE, FINAL_RATE)
        self._optimizer.param_groups[0]["weight_decay"] = self._between(FROM_DECAY, TO_DECAY)
        value = self.losses(crops)
        if not math.isfinite(value.item()):
            raise ValueError(f"the loss is {value.item()}")
        self._optimizer.zero_grad()
        value.backward()
        clip_each(self.student)
        self._optimizer.step()
        momentum = self._between(FROM_MOMENTUM, TO_MOMENTUM)
        with torch.no_grad():
            for ours, average in zip(self.student.parameters(), self.teacher.parameters(), strict=True):
                average.mul_(momentum).add_((1 - momentum) * ours.detach())
        self._done += 1
        return value.item()

    def losses(self, crops: Crops) -> torch.Tensor:
        """Returns the loss of crops; the centre moves."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            with torch.no_grad():
                targets = self.teacher(crops[:2])
            outputs = self.student(crops)
        return self.loss(outputs.float() if self._half else outputs, targets.float() if self._half else targets,
                         len(crops))  # fmt: skip

    def _between(self, first: float, last: float) -> float:
        return last + 0.5 * (first - last) * (1 + math.cos(math.pi * self._done / self._steps))


def clip_each(module: nn.Module) -> None:
    """Scales every gradient down to a norm of 3 on its own."""
    for parameter in module.parameters():
        if parameter.grad is not None:
            factor = CLIP / (parameter.grad.norm() + 1e-6)
            if factor < 1:
                parameter.grad.mul_(factor)


def build(
    backbone: dict[str, Any], prototypes: int, *, hidden: int, bottleneck: int, drop: float
) -> tuple[MultiCrop, MultiCrop]:
    """Returns student and teacher; the teacher drops nothing."""
    width = backbone["width"]

    def made(rate: float) -> MultiCrop:
        head = Head(width, prototypes, hidden=hidden, bottleneck=bottleneck)
        return MultiCrop(VisionTransformer(**backbone, drop=rate), head)

    return made(drop), made(0.0)


def _initialise(layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear):
        nn.init.trunc_normal_(layer.weight, std=0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
