"""CLIP as one would train it in PyTorch: a ViT, a causal text transformer, the loss over all pairs of a batch.

Command: python -m tools.peers.torch_clip WORK, see :mod:`tools.peers`. It needs torch alone.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tools.peers import Pairs, Start, Stream, begin, serve


class Block(nn.Module):
    """A transformer block with the norms first, whose attention is PyTorch's fused function."""

    def __init__(self, width: int, num_heads: int, mlp_dim: int, causal: bool):
        super().__init__()
        self.num_heads, self.causal = num_heads, causal
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_dim), nn.GELU(), nn.Linear(mlp_dim, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns tokens of the same shape."""
        parts = self.qkv(self.norms[0](x)).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(*parts, is_causal=self.causal)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norms[1](x))


def blocks(sizes: Mapping[str, int], causal: bool) -> nn.Sequential:
    """Returns ``depth`` blocks."""
    block = {key: sizes[key] for key in ("width", "num_heads", "mlp_dim")}
    return nn.Sequential(*(Block(**block, causal=causal) for _ in range(sizes["depth"])))


class Clip(nn.Module):
    """Radford et al. 2021, section 2.4: both towers and their projections; the scale is a logarithm."""

    def __init__(self, work: Pairs):
        super().__init__()
        width, patch, text_width = work.image["width"], work.image["patch_size"], work.text["width"]
        self.patches = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_token = nn.Parameter(width**-0.5 * torch.randn(width))
        self.places = nn.Parameter(width**-0.5 * torch.randn((work.size // patch) ** 2 + 1, width))
        self.pre_norm, self.image_blocks, self.image_norm = (
            nn.LayerNorm(width),
            blocks(work.image, causal=False),
            nn.LayerNorm(width),
        )
        self.tokens = nn.Embedding(work.vocab_size, text_width)
        self.text_places = nn.Parameter(0.01 * torch.randn(work.length, text_width))
        self.text_blocks, self.text_norm = blocks(work.text, causal=True), nn.LayerNorm(text_width)
        self.image_projection = nn.Linear(width, work.embed_dim, bias=False)
        self.text_projection = nn.Linear(text_width, work.embed_dim, bias=False)
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, images: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns embeddings of unit length ``[batch, embed_dim]``, of images and of texts."""
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.to(x.dtype).expand(len(x), 1, -1), x], dim=1) + self.places.to(x.dtype)
        # Autocast gives norms and tables in float32; the residual streams are to be of the type of the products.
        image = self.image_projection(self.image_norm(self.image_blocks(self.pre_norm(x).to(x.dtype))[:, 0]))
        y = (self.tokens(tokens) + self.text_places[: tokens.shape[1]]).to(x.dtype)
        y = self.text_norm(self.text_blocks(y))
        ends = tokens.argmax(dim=1)  # the largest id ends a text
        text = self.text_projection(y[torch.arange(len(y), device=y.device), ends])
        return functional.normalize(image.float(), dim=1), functional.normalize(text.float(), dim=1)


def main() -> None:
    """Serves train steps."""
    serve(streams(begin(Pairs)))


def streams(work: Pairs) -> dict[str, Start]:
    """Returns what can be timed: ``step``, AdamW on pairs that lie ready, on a GPU where one is there.

    Raises:
      ValueError: when it starts, it has another number of parameters than the house's.
    """
    torch.set_num_threads(work.cores)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def step() -> Stream:
        module = Clip(work).to(device, memory_format=torch.channels_last)
        count = sum(parameter.numel() for parameter in module.parameters())
        if count != work.parameters:
            raise ValueError(f"CLIP has {count} parameters here and {work.parameters} in the house")
        images = torch.randn(work.batch_size, 3, work.size, work.size).to(device, memory_format=torch.channels_last)
        tokens = torch.randint(work.vocab_size - 1, (work.batch_size, work.length)).to(device)
        tokens[:, -1] = work.vocab_size - 1
        options: Any = {"betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.2, "fused": device == "cuda"}
        optimizer = torch.optim.AdamW(module.parameters(), lr=5e-4, **options)
        towers: Any = torch.compile(module) if work.half else module
        own = torch.arange(work.batch_size, device=device)

        def batches() -> Iterator[Any]:
            while True:
                optimizer.zero_grad()
                with torch.autocast(device, torch.bfloat16, enabled=work.half):
                    image, text = towers(images, tokens)
                logits = module.scale.exp() * image @ text.T
                loss = (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
                loss.backward()
                optimizer.step()
                with torch.no_grad():
                    module.scale.clamp_(0, math.log(100))
                yield loss.item()  # waits for the device

        return Stream(batches(), work.batch_size)

    return {"step": step}


if __name__ == "__main__":
    main()
