"""What a weight file's config says of the network, held against the model: shapes alone do not tell an activation."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from vision.errors import UserError


class Claim(NamedTuple):
    """What a config says of a field of the module.

    Attributes:
      key: of the config.
      said: its value there.
      field: of the module.
      value: what the field should be.
    """

    key: str
    said: Any
    field: str
    value: Any


def check_agreement(config: Mapping[str, Any], module: Any, *, source: str) -> None:
    """Holds a ``config.json`` of Hugging Face or timm against the fields of a module.

    Fields that the module does not have, and keys that stand for none, are left to the shapes of the arrays.

    Raises:
      UserError: they disagree; the message gives both values of everything that does.
    """
    refuse_disagreement(claims(config, type(module).__name__), module, source=source, teller="config.json")


def refuse_disagreement(claimed: Iterable[Claim], module: Any, *, source: str, teller: str, owner: str = "") -> None:
    """Holds claims against the fields of a module.

    Args:
      claimed: what is said.
      module: of the model.
      source: for messages.
      teller: who says it.
      owner: which part of a model of several this is, such as ``text.``.

    Raises:
      UserError: they disagree; the message gives both values of everything that does.
    """
    wrong = [claim for claim in claimed if not _agrees(claim, module)]
    if wrong:
        said = ", ".join(f"{claim.key} {claim.said!r} where the model has {_value(claim, module)}" for claim in wrong)
        cures = [f"{owner}{claim.field}={claim.value!r}" for claim in wrong if hasattr(module, claim.field)]
        cure = f"; give the model {', '.join(cures)}, or take another model" if cures else "; take another model"
        raise UserError(f"{source}: {teller} says {said}{cure}")


def claims(config: Mapping[str, Any], module: str) -> Iterator[Claim]:
    """Yields what a config claims for a module of this name."""
    for key, (field, translate) in {**_KEYS, **_KEYS_OF.get(module, {})}.items():
        if config.get(key) is not None:
            yield Claim(key, config[key], field, translate(config[key]))
    architecture = config.get("architecture")
    if isinstance(architecture, str):
        yield from _timm(architecture, config)


def _agrees(claim: Claim, module: Any) -> bool:
    if claim.field.startswith("="):
        return claim.value == claim.field[1:]
    if not hasattr(module, claim.field):
        return True
    own = getattr(module, claim.field)
    if isinstance(own, float) and isinstance(claim.value, float):
        return math.isclose(own, claim.value, rel_tol=1e-6)
    return own == claim.value


def _value(claim: Claim, module: Any) -> str:
    return claim.field[1:] if claim.field.startswith("=") else repr(getattr(module, claim.field))


def _same(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _side(value: Any) -> Any:
    """A side of a patch; equal sides are one."""
    return value[0] if isinstance(value, list) and value and all(each == value[0] for each in value) else _same(value)


def _activation(value: Any) -> Any:
    """The names of Hugging Face (``transformers.activations.ACT2FN``) and timm for ours."""
    tanh = ("gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_accurate", "gelu_tanh")
    quick = ("quick_gelu", "quickgelu")
    return "gelu_tanh" if value in tanh else "quick_gelu" if value in quick else value


# Config key -> field of ours and the translation of its value. A field "=x" stands for what is fixed in our module.
Keys = dict[str, tuple[str, Callable[[Any], Any]]]
_KEYS: Keys = {
    "hidden_act": ("activation", _activation),
    "patch_size": ("patch_size", _side),
    "depths": ("stage_sizes", _same),
}
_KEYS_OF: dict[str, Keys] = {
    "ViT": {
        "layer_norm_eps": ("epsilon", _same),
        "hidden_size": ("width", _same),
        "num_hidden_layers": ("depth", _same),
        "num_attention_heads": ("num_heads", _same),
        "intermediate_size": ("mlp_dim", _same),
        "qkv_bias": ("qkv_bias", _same),
        "num_register_tokens": ("num_registers", _same),
        "use_swiglu_ffn": ("mlp", lambda value: "swiglu" if value else "dense"),
    },
    "TextTransformer": {
        "layer_norm_eps": ("epsilon", _same),
        "hidden_size": ("width", _same),
        "num_hidden_layers": ("depth", _same),
        "num_attention_heads": ("num_heads", _same),
        "intermediate_size": ("mlp_dim", _same),
    },
    "ResNet": {
        "hidden_act": ("=relu", _same),
        "layer_type": ("block", _same),
        "downsample_in_bottleneck": ("=False", str),
        "downsample_in_first_stage": ("=False", str),
    },
    # Its layer_norm_eps is that of the last norm of their port alone; the weights were trained with ours.
    "ConvNeXt": {"hidden_act": ("=gelu", _same), "hidden_sizes": ("widths", _same)},
}
_POOLS = {"token": "token", "avg": "gap", "map": "map"}
_ARGUMENTS: Keys = {
    "patch_size": ("patch_size", _side),
    "embed_dim": ("width", _same),
    "depth": ("depth", _same),
    "num_heads": ("num_heads", _same),
    "reg_tokens": ("num_registers", _same),
    "class_token": ("class_token", _same),
    "qkv_bias": ("qkv_bias", _same),
    "act_layer": ("activation", _activation),
}


def _timm(architecture: str, config: Mapping[str, Any]) -> Iterator[Claim]:
    patch = re.search(r"patch(\d+)", architecture)
    if patch:
        yield Claim("architecture", architecture, "patch_size", int(patch.group(1)))
    if "quickgelu" in architecture:
        yield Claim("architecture", architecture, "activation", "quick_gelu")
    pool = config.get("global_pool")
    if isinstance(pool, str) and pool in _POOLS and architecture.startswith(("vit_", "deit", "flexivit")):
        yield Claim("global_pool", pool, "pool", _POOLS[pool])
    arguments = config.get("model_args")
    for key, value in arguments.items() if isinstance(arguments, Mapping) else ():
        if key in _ARGUMENTS and value is not None:
            field, translate = _ARGUMENTS[key]
            yield Claim(f"model_args.{key}", value, field, translate(value))
