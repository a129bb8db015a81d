"""Names of Vision Transformers: of timm, which DINO and DeiT share, torchvision, DINOv2, and Hugging Face's files."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from vision.interop.names import (
    Arrays,
    Naming,
    Pair,
    dense_layer,
    fused,
    norm_layer,
    patch_kernel,
    same,
    separate,
    token,
)
from vision.models.vit import ViT


class Words(NamedTuple):
    """What a library calls the parts; ``{}`` stands for the number of the block.

    ``prefix`` stands before all names where there is a head, ``root`` always.
    """

    patch: str
    block: str
    norms: tuple[str, str]
    qkv: str | tuple[str, str, str]
    out: str
    mlp: tuple[str, str]
    norm: str
    class_token: str = "cls_token"
    distillation_token: str = "dist_token"
    registers: str = "reg_token"
    positions: str = "pos_embed"
    mask_token: str = "mask_token"
    mask_axes: int = 1
    scales: tuple[str, str] = ("ls1.gamma", "ls2.gamma")
    gate: str | tuple[str, str] = "mlp.fc1"
    head: str = "head"
    distillation_head: str = "head_dist"
    prefix: str = ""
    root: str = ""
    pre_norm: str = "norm_pre"
    flat_positions: bool = False
    class_axes: int = 1
    key_bias: bool = True
    class_has_position: Callable[[ViT], bool] = lambda module: True


TIMM = Words(
    patch="patch_embed.proj",
    block="blocks.{}.",
    norms=("norm1", "norm2"),
    qkv="attn.qkv.",
    out="attn.proj",
    mlp=("mlp.fc1", "mlp.fc2"),
    norm="norm",
    # With registers timm adds the class token's position to the token itself.
    class_has_position=lambda module: not module.num_registers,
)
DINOV2 = TIMM._replace(
    registers="register_tokens",
    gate="mlp.w12",
    class_has_position=lambda module: True,
)
HUGGINGFACE = Words(
    prefix="vit.",
    patch="embeddings.patch_embeddings.projection",
    block="encoder.layer.{}.",
    norms=("layernorm_before", "layernorm_after"),
    qkv=("attention.attention.query", "attention.attention.key", "attention.attention.value"),
    out="attention.output.dense",
    mlp=("intermediate.dense", "output.dense"),
    norm="layernorm",
    class_token="embeddings.cls_token",
    distillation_token="embeddings.distillation_token",
    positions="embeddings.position_embeddings",
    mask_token="embeddings.mask_token",
    mask_axes=2,
    head="classifier",
)
HF_DINOV2 = HUGGINGFACE._replace(
    prefix="",
    norms=("norm1", "norm2"),
    mlp=("mlp.fc1", "mlp.fc2"),
    registers="embeddings.register_tokens",
    mask_axes=1,
    scales=("layer_scale1.lambda1", "layer_scale2.lambda1"),
    gate="mlp.weights_in",
)
HF_DINOV3 = HF_DINOV2._replace(
    patch="embeddings.patch_embeddings",
    block="layer.{}.",
    qkv=("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    out="attention.o_proj",
    mlp=("mlp.up_proj", "mlp.down_proj"),
    norm="norm",
    mask_axes=2,
    gate=("mlp.gate_proj", "mlp.up_proj"),
    key_bias=False,
)
SIGLIP = Words(
    patch="embeddings.patch_embedding",
    block="encoder.layers.{}.",
    norms=("layer_norm1", "layer_norm2"),
    qkv=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    out="self_attn.out_proj",
    mlp=("mlp.fc1", "mlp.fc2"),
    norm="post_layernorm",
    positions="embeddings.position_embedding.weight",
    flat_positions=True,
)
TORCHVISION = Words(
    patch="conv_proj",
    block="encoder.layers.encoder_layer_{}.",
    norms=("ln_1", "ln_2"),
    qkv="self_attention.in_proj_",
    out="self_attention.out_proj",
    mlp=("mlp.0", "mlp.3"),
    norm="encoder.ln",
    class_token="class_token",
    positions="encoder.pos_embedding",
    head="heads.head",
)


def pairs_of(words: Words) -> Callable[[ViT], list[Pair]]:
    """Returns the function from a ViT to its arrays under these names."""

    def pairs(module: ViT) -> list[Pair]:
        prefix = words.prefix if module.num_classes else ""
        prefix = words.root + ("deit." if prefix and module.distillation_token else prefix)
        found = [
            patch_kernel("params/patch_embedding/kernel", f"{prefix}{words.patch}.weight", module.patch_size),
            *_tokens(module, words, prefix),
        ]
        if module.patch_bias:
            found.append(same("params/patch_embedding/bias", f"{prefix}{words.patch}.bias"))
        if module.pre_norm:
            found += norm_layer("pre_norm", prefix + words.pre_norm)
        for index in range(module.depth):
            theirs = prefix + words.block.format(index)
            found += block_pairs(module, words, f"encoder/block{index:02}", theirs)
        found += norm_layer("norm", prefix + words.norm)
        if module.pool == "map":
            found += _pool_of_siglip() if words is SIGLIP else _pool_of_timm(words.root)
        if module.representation:
            found += dense_layer("representation", "pre_logits.fc")
        if module.num_classes:
            distilled = module.distillation_token and words.prefix == "vit."
            found += dense_layer("head", "cls_classifier" if distilled else words.head)
            if module.distillation_token:
                found += dense_layer(
                    "distillation_head", "distillation_classifier" if distilled else words.distillation_head
                )
        return found

    return pairs


def _tokens(module: ViT, words: Words, prefix: str) -> list[Pair]:
    found, placed = [], []
    with_position = words.class_has_position(module) and module.positions == "learned"
    if module.class_token:
        found.append(
            token("params/class_token", prefix + words.class_token, words.class_axes)
            if with_position or module.positions != "learned"
            else _folded("params/class_token", "params/class_position", prefix + words.class_token)
        )
        placed += ["params/class_position"] if with_position else []
    if module.distillation_token:
        found.append(token("params/distillation_token", prefix + words.distillation_token))
        placed.append("params/distillation_position")
    if module.num_registers:
        found.append(token("params/register_token", prefix + words.registers))
    if module.mask_token:
        found.append(token("params/mask_token", prefix + words.mask_token, words.mask_axes))
    if module.positions == "learned":
        found.append(_positions(tuple(placed), prefix + words.positions, flat=words.flat_positions))
    return found


def _positions(before: tuple[str, ...], theirs: str, *, flat: bool) -> Pair:
    """Theirs lists the positions of the tokens before the patches, then those of a square of patches, row by row."""

    def to_ours(x: np.ndarray) -> Arrays:
        x = x if flat else x[0]
        side = math.isqrt(len(x) - len(before))
        if side**2 != len(x) - len(before):
            raise ValueError(f"{len(x)} positions are no square and {len(before)} more")
        first = [x[index : index + 1] for index in range(len(before))]
        return (*first, x[len(before) :].reshape(side, side, -1))

    def to_theirs(*ours: np.ndarray) -> Arrays:
        whole = np.concatenate([*ours[:-1], ours[-1].reshape(-1, ours[-1].shape[-1])])
        return (whole if flat else whole[None],)

    return Pair((*before, "params/position_embedding"), (theirs,), to_ours, to_theirs)


def _folded(token: str, position: str, theirs: str) -> Pair:
    """A class token that has its position in it: ours gets the position zero."""
    return Pair((token, position), (theirs,), lambda x: (x[0], np.zeros_like(x[0])), lambda x, at: ((x + at)[None],))


def block_pairs(module: Any, words: Words, ours: str, theirs: str) -> list[Pair]:
    """Returns the arrays of a block.

    Args:
      module: with ``qkv_bias``, ``layer_scale`` and ``mlp`` as of a ViT.
      words: of the library.
      ours: path of the block.
      theirs: prefix of its names.
    """
    attention = f"{ours}/attention/qkv"
    if isinstance(words.qkv, str):
        qkv = fused(attention, theirs + words.qkv, 3)
    else:
        qkv = separate(attention, tuple(theirs + name for name in words.qkv))
        if not words.key_bias:
            qkv[1] = _without_key_bias(f"params/{attention}/bias", qkv[1].theirs)
    found = [
        *norm_layer(f"{ours}/attention_norm", theirs + words.norms[0]),
        *(qkv if module.qkv_bias else qkv[:1]),
        *dense_layer(f"{ours}/attention/out", theirs + words.out),
        *norm_layer(f"{ours}/mlp_norm", theirs + words.norms[1]),
        *_mlp(module, words, f"{ours}/mlp", theirs),
    ]
    if module.layer_scale is not None:
        scales = (f"params/{ours}/attention_scale", f"params/{ours}/mlp_scale")
        found += [same(scale, theirs + name) for scale, name in zip(scales, words.scales, strict=True)]
    return found


def _mlp(module: Any, words: Words, ours: str, theirs: str) -> list[Pair]:
    if module.mlp == "dense":
        layers = zip(("hidden", "out"), words.mlp, strict=True)
        return [pair for layer, name in layers for pair in dense_layer(f"{ours}/{layer}", theirs + name)]
    if isinstance(words.gate, tuple):
        first = [
            pair
            for layer, name in zip(("gate", "value"), words.gate, strict=True)
            for pair in dense_layer(f"{ours}/{layer}", theirs + name)
        ]
        return [*first, *dense_layer(f"{ours}/out", theirs + words.mlp[1])]
    names = {"mlp.w12": "mlp.w3", "mlp.weights_in": "mlp.weights_out"}
    both = tuple(f"params/{ours}/{layer}" for layer in ("gate", "value"))
    return [
        Pair(
            tuple(f"{layer}/kernel" for layer in both),
            (f"{theirs}{words.gate}.weight",),
            lambda x: tuple(part.T for part in np.split(x, 2)),
            lambda *parts: (np.concatenate([part.T for part in parts]),),
        ),
        Pair(
            tuple(f"{layer}/bias" for layer in both),
            (f"{theirs}{words.gate}.bias",),
            lambda x: tuple(np.split(x, 2)),
            lambda *parts: (np.concatenate(parts),),
        ),
        *dense_layer(f"{ours}/out", theirs + names.get(words.gate, words.mlp[1])),
    ]


def _without_key_bias(ours: str, theirs: tuple[str, ...]) -> Pair:
    """A bias of the keys moves all scores of a query alike and changes nothing; theirs leaves it out."""
    return Pair(
        (ours,),
        (theirs[0], theirs[2]),
        lambda query, value: (np.stack([query, np.zeros_like(query), value]),),
        lambda x: (x[0], x[2]),
    )


def _pool_of_timm(root: str) -> list[Pair]:
    theirs = f"{root}attn_pool"
    return [
        token("params/pool/probe", f"{theirs}.latent"),
        *fused("pool/query", f"{theirs}.q.", 1),
        *fused("pool/key_value", f"{theirs}.kv.", 2),
        *dense_layer("pool/out", f"{theirs}.proj"),
        *norm_layer("pool/norm", f"{theirs}.norm"),
        *dense_layer("pool/hidden", f"{theirs}.mlp.fc1"),
        *dense_layer("pool/mlp_out", f"{theirs}.mlp.fc2"),
    ]


def _pool_of_siglip() -> list[Pair]:
    whole = fused("pool/query_key_value", "head.attention.in_proj_", 3)
    split = [
        Pair(
            (f"params/pool/query/{leaf}", f"params/pool/key_value/{leaf}"),
            pair.theirs,
            lambda x, pair=pair, axis=axis: tuple(np.split(pair.to_ours(x)[0], [1], axis=axis)),
            lambda query, rest, pair=pair, axis=axis: pair.to_theirs(np.concatenate([query, rest], axis=axis)),
        )
        for leaf, pair, axis in zip(("kernel", "bias"), whole, (1, 0), strict=True)
    ]
    return [
        token("params/pool/probe", "head.probe"),
        *split,
        *dense_layer("pool/out", "head.attention.out_proj"),
        *norm_layer("pool/norm", "head.layernorm"),
        *dense_layer("pool/hidden", "head.mlp.fc1"),
        *dense_layer("pool/mlp_out", "head.mlp.fc2"),
    ]


NAMINGS = {
    "timm/vit": Naming(ViT, pairs_of(TIMM)),
    "torchvision/vit": Naming(ViT, pairs_of(TORCHVISION)),
    "dino/vit": Naming(ViT, pairs_of(TIMM)),
    "dinov2/vit": Naming(ViT, pairs_of(DINOV2)),
    "huggingface/vit": Naming(ViT, pairs_of(HUGGINGFACE), ignored=(r"^pooler\.",)),
    "huggingface/dinov2": Naming(ViT, pairs_of(HF_DINOV2)),
    "huggingface/dinov3": Naming(ViT, pairs_of(HF_DINOV3)),
    "huggingface/siglip": Naming(ViT, pairs_of(SIGLIP), ignored=(r"^text_model\.", r"^logit_(scale|bias)$")),
}
