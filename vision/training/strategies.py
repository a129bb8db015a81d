"""Strategies by name: which arrays of a state are split, and over which axis of the mesh.

They hold for every network here, as they go by the names of its arrays, and for every mesh: over an axis of size 1
nothing is split. So a config says ``sharding = "auto"`` once, and ``mesh`` alone tells a laptop from a pod.
"""

TacticRule = tuple[str, str]

_FSDP = "fsdp(fsdp, 4096)"  # a smaller array is not worth a collective of its own
# Pairs of layers as in Megatron (Shoeybi et al. 2019, section 3): the first is split by its outputs, the second by its
# inputs, and what is between them is never whole on one device. Dimensions count from the end, as a scanned stack has
# one more in front. Convolutions stay whole: their maps are larger than their weights.
_BY_OUTPUTS = (
    r"(attention|pool)/(qkv|key_value|query)/(kernel|bias)$",
    r"(mlp|pool|_channels|_tokens)/(hidden|gate|value)/(kernel|bias)$",
    r"expand/(kernel|bias)$",
    r"(hidden|layer)_\d*[02468]/(kernel|bias)$",
    r"(^|/)(head|distillation_head)/(kernel|bias)$",
    r"(^|/)(prototypes|gain)$",
)
_BY_INPUTS = (
    r"(attention|mlp|pool|_channels|_tokens)/(out|mlp_out)/kernel$",
    r"contract/kernel$",
    r"(hidden|layer)_\d*[13579]/kernel$",
)
# What is added to tokens stays whole: split by its width, as the largest dimension would be, it splits the tokens too,
# and every block then exchanges activations (measured on CLIP: 15 all-to-alls and 50 all-gathers more). Of a
# vocabulary the words are split.
_TO_TOKENS = (("(^|/)token_embedding$", "split(-2, fsdp)"), (r"(embedding|token|position|probe)$", "replicate"))


def _tensor(then: str = "") -> tuple[TacticRule, ...]:
    by_outputs = tuple((pattern, f"split(-1, tensor){then}") for pattern in _BY_OUTPUTS)
    return by_outputs + tuple((pattern, f"split(-2, tensor){then}") for pattern in _BY_INPUTS)


STRATEGIES: dict[str, tuple[TacticRule, ...]] = {
    "replicate": (),
    "fsdp": (*_TO_TOKENS, (".*", _FSDP)),
    "tensor": _tensor(),
    "auto": (*_tensor(f" + {_FSDP}"), *_TO_TOKENS, (".*", _FSDP)),
}
