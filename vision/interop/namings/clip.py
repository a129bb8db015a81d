"""Names of the image towers of CLIP: of OpenAI, which open_clip shares, Hugging Face's, and timm's residual network.

A file of a whole CLIP holds the text tower and the projections too; here these are passed over.
"""

import math

import numpy as np

from vision.interop.names import Arrays, Naming, Pair, batch_norm, conv_layer, dense_layer, fused, separate
from vision.interop.namings.vit import TIMM, Words, pairs_of
from vision.models.clip_resnet import ClipResNet, block_plans
from vision.models.vit import ViT

OPENAI = Words(
    root="visual.",
    patch="conv1",
    block="transformer.resblocks.{}.",
    norms=("ln_1", "ln_2"),
    qkv="attn.in_proj_",
    out="attn.out_proj",
    mlp=("mlp.c_fc", "mlp.c_proj"),
    norm="ln_post",
    pre_norm="ln_pre",
    class_token="class_embedding",
    class_axes=-1,
    positions="positional_embedding",
    flat_positions=True,
)
HUGGINGFACE = Words(
    patch="embeddings.patch_embedding",
    block="encoder.layers.{}.",
    norms=("layer_norm1", "layer_norm2"),
    qkv=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    out="self_attn.out_proj",
    mlp=("mlp.fc1", "mlp.fc2"),
    norm="post_layernorm",
    pre_norm="pre_layrnorm",  # so it is written
    class_token="embeddings.class_embedding",
    class_axes=-1,
    positions="embeddings.position_embedding.weight",
    flat_positions=True,
)
TIMM_TRUNK = TIMM._replace(root="visual.trunk.")

# Of the whole CLIP beside the image tower, and what OpenAI's archive keeps of sizes.
SIZES = ("input_resolution", "context_length", "vocab_size")
_BESIDE = (
    r"^visual\.proj$",
    r"^(transformer|token_embedding|ln_final|text)\.",
    r"^(positional_embedding|text_projection|logit_scale|logit_bias)$",
    rf"^({'|'.join(SIZES)})$",
)
_BESIDE_HUGGINGFACE = (r"^text_model\.", r"^(visual|text)_projection\.", r"^logit_(scale|bias)$", r"position_ids$")
COUNTERS = (r"\.num_batches_tracked$",)


def resnet_pairs(module: ClipResNet) -> list[Pair]:
    """Names of OpenAI for the residual network."""
    root = OPENAI.root
    pairs = []
    for number in (1, 2, 3):
        pairs += _layer(f"stem{number}", f"stem_norm{number}", f"{root}conv{number}", f"{root}bn{number}")
    for plan in block_plans(module):
        theirs = f"{root}layer{plan.stage + 1}.{plan.position}"
        for number in (1, 2, 3):
            ours = f"{plan.name}/conv{number}", f"{plan.name}/norm{number}"
            pairs += _layer(*ours, f"{theirs}.conv{number}", f"{theirs}.bn{number}")
        if plan.projects:
            ours = f"{plan.name}/shortcut", f"{plan.name}/shortcut_norm"
            pairs += _layer(*ours, f"{theirs}.downsample.0", f"{theirs}.downsample.1")
    pool = f"{root}attnpool."
    pairs += [
        _positions(f"{pool}positional_embedding"),
        *separate("pool/query", (f"{pool}q_proj",)),
        *separate("pool/key_value", (f"{pool}k_proj", f"{pool}v_proj")),
        *dense_layer("pool/out", f"{pool}c_proj"),
    ]
    return pairs + (dense_layer("head", f"{root}head") if module.num_classes else [])


def timm_resnet_pairs(module: ClipResNet) -> list[Pair]:
    """Names of timm for it, whose head is the pooling."""
    pairs = []
    for number in (1, 2, 3):
        theirs = f"stem.conv{number}"
        pairs += _layer(f"stem{number}", f"stem_norm{number}", f"{theirs}.conv", f"{theirs}.bn")
    for plan in block_plans(module):
        root = f"stages.{plan.stage}.{plan.position}"
        names = {"conv1": "conv1_1x1", "conv2": "conv2_kxk", "conv3": "conv3_1x1", "shortcut": "shortcut.conv"}
        for ours, name in names.items():
            if ours != "shortcut" or plan.projects:
                norm = ours.replace("conv", "norm") if ours != "shortcut" else "shortcut_norm"
                theirs = f"{root}.{name}"
                pairs += _layer(f"{plan.name}/{ours}", f"{plan.name}/{norm}", f"{theirs}.conv", f"{theirs}.bn")
    pairs += [
        _positions("head.pos_embed"),
        *fused("pool/query", "head.q.", 1),
        *separate("pool/key_value", ("head.k", "head.v")),
        *dense_layer("pool/out", "head.proj"),
    ]
    return pairs + (dense_layer("head", "fc") if module.num_classes else [])


def _layer(conv: str, norm: str, their_conv: str, their_norm: str) -> list[Pair]:
    return [*conv_layer(conv, their_conv, bias=False), *batch_norm(norm, their_norm)]


def _positions(theirs: str) -> Pair:
    """Theirs lists the position of the mean, then those of a square of pixels, row by row."""

    def to_ours(x: np.ndarray) -> Arrays:
        side = math.isqrt(len(x) - 1)
        if side**2 != len(x) - 1:
            raise ValueError(f"{len(x)} positions are no square and one more")
        return x[:1], x[1:].reshape(side, side, -1)

    def to_theirs(mean: np.ndarray, pixels: np.ndarray) -> Arrays:
        return (np.concatenate([mean, pixels.reshape(-1, pixels.shape[-1])]),)

    return Pair(("params/pool/mean_position", "params/pool/position_embedding"), (theirs,), to_ours, to_theirs)


NAMINGS = {
    "openai/clip": Naming(ViT, pairs_of(OPENAI), ignored=_BESIDE),
    "open_clip/clip": Naming(ViT, pairs_of(OPENAI), ignored=_BESIDE),
    "huggingface/clip": Naming(ViT, pairs_of(HUGGINGFACE), ignored=_BESIDE_HUGGINGFACE),
    "openai/clip_resnet": Naming(ClipResNet, resnet_pairs, ignored=(*_BESIDE, *COUNTERS)),
    "timm/clip_resnet": Naming(ClipResNet, timm_resnet_pairs, ignored=COUNTERS),
}
