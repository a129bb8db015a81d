"""Vision Transformers and MLP-Mixers of timm and transformers beside ours."""

from collections.abc import Iterator
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from tools.golden_cases.case import LAYER_NORM, LEARN, PUBLISHED, Case, Options

_NOTHING: Options = MappingProxyType({})
_SMALL = {"patch_size": 8, "width": 32, "depth": 2, "num_heads": 4, "mlp_dim": 64}


def cases() -> Iterator[Case]:
    """Small networks for each option, and published ones."""
    yield from _of_timm()
    yield from _of_transformers()
    yield from _of_dino()
    yield from _mixers()
    yield from _published()


def _of_timm() -> Iterator[Case]:
    theirs = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "mlp_ratio": 2}
    first = Case("timm/vit", "vit/Ti16", "timm/vit", "timm vit", {**theirs, "num_classes": 10}, _SMALL, **LEARN,
                 scales=LAYER_NORM)  # fmt: skip

    def case(name: str, options: Options = _NOTHING, **reference: Any) -> Case:
        made = {**first.reference, **reference}
        return replace(
            first, name=f"timm/vit, {name}", options={**_SMALL, **options}, reference=made, train=False, gradients=False
        )

    mean = {"global_pool": "avg", "fc_norm": False}
    yield first
    yield case("qkv without biases", {"qkv_bias": False}, qkv_bias=False)
    yield case("mean", {"pool": "gap"}, **mean)
    yield case("mean, no class token", {"pool": "gap", "class_token": False}, class_token=False, **mean)
    yield case("attention pooling", {"pool": "map"}, global_pool="map")
    yield case("layer scale", {"layer_scale": 1e-5}, init_values=1e-5)
    yield case("registers", {"num_registers": 3}, reg_tokens=3, no_embed_class=True)
    yield case("tanh in GELU", {"activation": "gelu_tanh"}, act_layer="gelu_tanh")
    yield case("quick GELU", {"activation": "quick_gelu"}, act_layer="quick_gelu")
    yield replace(case("no head", num_classes=0), num_classes=0)
    clip = {"pre_norm": True, "patch_bias": False}
    yield replace(case("norm before the blocks", clip, pre_norm=True, num_classes=0), num_classes=0)
    yield case("distilled", {"distillation_token": True}, distilled=True)
    yield Case("torchvision/vit", "vit/Ti16", "torchvision/vit", "torchvision vit", {"image_size": 32, "patch_size": 8,
               "num_layers": 2, "num_heads": 4, "hidden_dim": 32, "mlp_dim": 64, "num_classes": 10}, _SMALL,
               scales=LAYER_NORM)  # fmt: skip
    plain = {**theirs, "img_size": (32, 48), "num_classes": 10}
    yield Case("torch/plain vit", "vit/S16_gap_rep", "timm/vit", "plain vit", plain, _SMALL, image_shape=(32, 48, 3),
               scales=LAYER_NORM)  # fmt: skip


def _of_transformers() -> Iterator[Case]:
    sizes = {"image_size": 32, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    vit = {**sizes, "intermediate_size": 64, "num_labels": 10}
    yield Case("transformers/vit", "vit/Ti16", "huggingface/vit", "transformers vit", vit,
               {**_SMALL, "epsilon": 1e-12, "attention_weights": True}, scales=LAYER_NORM)  # fmt: skip

    def backbone(kind: str, name: str, naming: str, model: str, theirs: Options, ours: Options) -> Case:
        made = {"name": f"{kind}Model", "config": f"{kind}Config", "output": "pooler_output", **sizes, **theirs}
        return Case(f"transformers/{name}", f"vit/{model}", f"huggingface/{naming}", "transformers", made,
                    {**_SMALL, **ours}, num_classes=0, scales=LAYER_NORM)  # fmt: skip

    ratio = {"mlp_ratio": 2}
    yield replace(backbone("Dinov2", "dinov2", "dinov2", "S14_dinov2", ratio, {}), **LEARN)
    yield replace(backbone("Dinov2", "dinov2, masked", "dinov2", "S14_dinov2", ratio, {}), masked=True)
    # The published definition of positions at other sizes is that of this library with registers, not without.
    larger = {**ratio, "num_register_tokens": 4, "image_size": 64}
    resized = backbone("Dinov2WithRegisters", "dinov2 with registers, masked, other size", "dinov2",
                       "S14_dinov2_reg4", larger, {})  # fmt: skip
    yield replace(resized, image_shape=(32, 48, 3), positions_of=(64, 64, 3), masked=True)
    swiglu = {"mlp_ratio": 4, "use_swiglu_ffn": True}
    yield backbone("Dinov2", "dinov2, SwiGLU", "dinov2", "g14_dinov2", swiglu, {"mlp_dim": 88})
    yield backbone("Dinov2WithRegisters", "dinov2 with registers", "dinov2", "S14_dinov2_reg4",
                   {**ratio, "num_register_tokens": 4}, {})  # fmt: skip
    inner = {"intermediate_size": 64}
    rotary = {"positions": "rotary", "epsilon": 1e-5}
    dinov3 = backbone("DINOv3ViT", "dinov3", "dinov3", "S14_dinov2_reg4", {**inner, "num_register_tokens": 4}, rotary)
    yield replace(dinov3, image_shape=(32, 48, 3))
    yield backbone("CLIPVision", "clip", "clip", "B32_clip", inner, {})
    yield backbone("SiglipVision", "siglip", "siglip", "B16_map", inner, {})


def _of_dino() -> Iterator[Case]:
    theirs = {"patch_size": 8, "width": 32, "depth": 2, "num_heads": 4, "mlp_dim": 64}
    for name, size in (("dino/vit", 32), ("dino/vit, smaller than trained", 64), ("dino/vit, larger than trained", 24)):
        case = Case(name, "vit/S16_dino", "dino/vit", "dino vit", {**theirs, "size": size}, _SMALL, num_classes=0,
                    scales=LAYER_NORM)  # fmt: skip
        yield case if size == 32 else replace(case, image_shape=(32, 48, 3), positions_of=(size, size, 3))


def _mixers() -> Iterator[Case]:
    theirs = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_blocks": 2, "mlp_ratio": (0.5, 3.0)}
    ours = {"patch_size": 8, "width": 24, "depth": 2, "tokens_dim": 12, "channels_dim": 72, "activation": "gelu"}
    yield Case("timm/mixer", "mixer/S16", "timm/mixer", "timm mixer", {**theirs, "num_classes": 10}, ours, **LEARN,
               scales=LAYER_NORM)  # fmt: skip


def _published() -> Iterator[Case]:
    for size, name in (("Ti", "tiny"), ("B", "base")):
        yield Case(f"timm/vit_{name}_patch16_224", f"vit/{size}16", "timm/vit", "timm",
                   {"name": f"vit_{name}_patch16_224"}, **PUBLISHED)  # fmt: skip
    yield Case("timm/deit_small_distilled_patch16_224", "vit/S16_deit_distilled", "timm/vit", "timm",
               {"name": "deit_small_distilled_patch16_224"}, **PUBLISHED)  # fmt: skip
    dinov2 = {"name": "Dinov2Model", "config": "Dinov2Config", "output": "pooler_output", "image_size": 518}
    dinov2 |= {"patch_size": 14, "hidden_size": 384, "num_attention_heads": 6}
    yield Case("transformers/dinov2-small", "vit/S14_dinov2", "huggingface/dinov2", "transformers", dinov2,
               num_classes=0, image_shape=(518, 518, 3), batch=1, slow=True)  # fmt: skip
    yield Case("timm/mixer_s16_224", "mixer/S16", "timm/mixer", "timm", {"name": "mixer_s16_224"},
               {"activation": "gelu"}, **PUBLISHED)  # fmt: skip
