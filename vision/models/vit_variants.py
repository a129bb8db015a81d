"""The published Vision Transformers: sizes, and what tells one line of work from another."""

from collections.abc import Callable
from typing import Any

from vision.models.interface import Variant

# Dosovitskiy et al. 2021, table 1; Ti and S are those of Touvron et al. 2021, DeiT, table 1; g is that of DINOv2.
SIZES: dict[str, dict[str, Any]] = {
    "Ti": {"width": 192, "depth": 12, "num_heads": 3, "mlp_dim": 768},
    "S": {"width": 384, "depth": 12, "num_heads": 6, "mlp_dim": 1536},
    "B": {"width": 768, "depth": 12, "num_heads": 12, "mlp_dim": 3072},
    "L": {"width": 1024, "depth": 24, "num_heads": 16, "mlp_dim": 4096},
    "H": {"width": 1280, "depth": 32, "num_heads": 16, "mlp_dim": 5120},
    "g": {"width": 1536, "depth": 40, "num_heads": 24, "mlp_dim": 4096, "mlp": "swiglu"},
}
# Beyer et al. 2022, "Better plain ViT baselines for ImageNet-1k", and the code of big_vision.
PLAIN: dict[str, Any] = {"pool": "gap", "class_token": False, "positions": "sincos2d", "activation": "gelu_tanh"}
# Zhai et al. 2023, SigLIP: the image tower.
MAP: dict[str, Any] = {"pool": "map", "class_token": False, "activation": "gelu_tanh"}
# Caron et al. 2021, DINO: multi-crop brings images of two sizes.
DINO: dict[str, Any] = {
    "initialisation": "normal",
    "resize_positions": True,
    "position_antialias": False,
    "position_offset": 0.1,
}
# Oquab et al. 2023, DINOv2; the models with registers (Darcet et al. 2024) resize positions in another way.
DINOV2: dict[str, Any] = {**DINO, "layer_scale": 1e-5, "mask_token": True, "uniform_depth": True}
REGISTERS: dict[str, Any] = {**DINOV2, "num_registers": 4, "position_antialias": True, "position_offset": 0.0}
# Radford et al. 2021, CLIP: the image tower, whose class token is projected by the objective. The weights of OpenAI
# have the fast GELU, most of open_clip's the exact one.
CLIP: dict[str, Any] = {
    "activation": "quick_gelu",
    "epsilon": 1e-5,
    "patch_bias": False,
    "pre_norm": True,
    "initialisation": "clip",
}
DEIT: dict[str, Any] = {"initialisation": "normal", "stochastic_depth": 0.1}


def variants(module: Callable) -> dict[str, Variant]:
    """Returns the table ``vit/<size><patch>[_<line>]`` over the class of the ViT."""

    def at(size: str, patch: int, *lines: dict[str, Any], side: int = 224, num_classes: int = 1000) -> Variant:
        options = {"patch_size": patch, **SIZES[size], **{k: v for line in lines for k, v in line.items()}}
        return Variant(module, options, (side, side, 3), num_classes)

    table = {f"{size}{patch}": at(size, patch) for size, patch in (("Ti", 16), ("S", 16), ("B", 16), ("L", 16))}
    table |= {f"{size}{patch}": at(size, patch) for size, patch in (("S", 32), ("B", 32), ("L", 32), ("H", 14))}
    table["B16_384"] = at("B", 16, side=384)
    table["Ti4_cifar"] = at("Ti", 4, side=32, num_classes=10)
    table["S16_gap"] = at("S", 16, PLAIN)
    table["S16_gap_rep"] = at("S", 16, PLAIN, {"representation": True})
    table["B16_map"] = at("B", 16, MAP, num_classes=0)
    table["B16_siglip"] = table["B16_map"]
    for size, patch, side in (("S", 16, 224), ("B", 32, 224), ("B", 16, 224), ("L", 14, 224), ("L", 14, 336)):
        name = f"{size}{patch}_clip{'' if side == 224 else f'_{side}'}"
        table[name] = at(size, patch, CLIP, side=side, num_classes=0)
    for size in ("Ti", "S", "B"):
        table[f"{size}16_deit"] = at(size, 16, DEIT)
        table[f"{size}16_deit_distilled"] = at(size, 16, DEIT, {"distillation_token": True})
    for size, patch in (("S", 16), ("S", 8), ("B", 16), ("B", 8)):
        table[f"{size}{patch}_dino"] = at(size, patch, DINO, num_classes=0)
    for size in ("S", "B", "L", "g"):
        table[f"{size}14_dinov2"] = at(size, 14, DINOV2, side=518, num_classes=0)
        table[f"{size}14_dinov2_reg4"] = at(size, 14, REGISTERS, side=518, num_classes=0)
    return {f"vit/{name}": variant for name, variant in table.items()}
