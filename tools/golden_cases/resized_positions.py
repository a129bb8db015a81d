"""Learned positions brought to other grids by PyTorch's own interpolation, as DINO, DINOv2 and timm call it."""

import numpy as np

from tools.golden_cases import weights

WIDTH = 3
_OLD = (5, 4)
# From and to; the last are those of DINO's local crops, and of DINOv2's weights at 224 pixels.
GRIDS = (
    *((_OLD, new) for new in ((7, 9), (3, 2), (5, 4), (10, 8))),
    ((14, 14), (6, 6)),
    ((37, 37), (16, 16)),
)


def learned(grid: tuple[int, int]) -> np.ndarray:
    """Returns the positions ``[rows, columns, width]`` that are interpolated."""
    return weights.drawn("pos_embed", (*grid, WIDTH))


def positions() -> dict[str, np.ndarray]:
    """Returns ``antialias`` (timm), ``plain`` and ``offset`` (DINO), each ``/ROWSxCOLUMNS``; needs torch."""
    import torch

    made = {}
    for learned_on, grid in GRIDS:
        old = torch.tensor(learned(learned_on), dtype=torch.float64).permute(2, 0, 1)[None]
        scale = tuple((new + 0.1) / before for new, before in zip(grid, learned_on, strict=True))
        bicubic = {"mode": "bicubic", "align_corners": False}
        for name, options in (
            ("antialias", {"size": grid, "antialias": True}),
            ("plain", {"size": grid}),
            ("offset", {"scale_factor": scale}),
        ):
            new = torch.nn.functional.interpolate(old, **bicubic, **options)
            assert tuple(new.shape[2:]) == grid, (name, grid, new.shape)
            made[f"{name}/{'x'.join(map(str, grid))}"] = new[0].permute(1, 2, 0).numpy().astype(np.float32)
    return made
