"""Which activation the weights of a CLIP were trained with: said by a config, or by where the file is from.

OpenAI's weights have ``x sigmoid(1.702 x)``, most of open_clip's the exact GELU, under the same names and shapes; the
wrong one still works, only worse. So a file that does not tell is refused until a person does.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from vision.errors import UserError
from vision.interop.agreement import Claim, claims, refuse_disagreement
from vision.interop.files import Weights
from vision.interop.namings.clip import SIZES
from vision.interop.namings.two_towers import TwoTowers

OPENAI = "openai/clip"
# What a library's released weights have, where no config says otherwise.
_OF_LIBRARY = {
    OPENAI: "quick_gelu",
    "openai/clip_resnet": "quick_gelu",
    "open_clip/clip": "gelu",
    "open_clip/custom_text": "gelu",
    "open_clip/siglip": "gelu_tanh",
    "huggingface/siglip": "gelu_tanh",
}
_SHARED = (OPENAI, "open_clip/clip", "open_clip/custom_text", "huggingface/clip")
# transformers leaves values out of a config.json that are the defaults of its class.
_DEFAULTS = {
    "clip": {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
    "siglip": {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6},
}


def is_clip(config: Mapping[str, Any], naming: str, module: Any) -> bool:
    """Whether a file is one of images and words, or the module reads one."""
    parts = ("vision_config", "text_config", "model_cfg")
    return isinstance(module, TwoTowers) or naming in _SHARED or any(part in config for part in parts)


def provenance(weights: Weights, naming: str | None) -> str | None:
    """Returns the naming that a person gave, or OpenAI's where the file is their archive, which keeps sizes too."""
    return OPENAI if naming is None and set(SIZES) <= set(weights.arrays) else naming


def check_clip(weights: Weights, module: Any, *, found: str, told: str | None) -> None:
    """Holds what is known of a file of images and words against the modules.

    Args:
      weights: as read.
      module: an image tower, or :class:`vision.interop.namings.two_towers.TwoTowers`.
      found: the naming that covers the file.
      told: the one that a person gave, or :func:`provenance`.

    Raises:
      UserError: they disagree, or nothing tells the activation.
    """
    towers = {"image.": module.image, "text.": module.text} if isinstance(module, TwoTowers) else {"": module}
    for owner, tower in towers.items():
        which = "text" if owner == "text." else "vision"
        claimed = list(_of_config(weights.config, which, type(tower).__name__))
        teller = "config.json" if "model_cfg" not in weights.config else "open_clip_config.json"
        refuse_disagreement(claimed, tower, source=weights.source, teller=teller, owner=owner)
        if not hasattr(tower, "activation") or any(claim.field == "activation" for claim in claimed):
            continue
        known = told or (None if found in _SHARED else found)
        if known not in _OF_LIBRARY:
            raise UserError(
                f"{weights.source}: nothing says which activation these weights were trained with; "
                + (
                    "put their config.json beside them"
                    if found.startswith("huggingface")
                    else "give the naming openai/clip (quick_gelu) if they are OpenAI's, or open_clip/clip (gelu) if "
                    "open_clip trained them without quickgelu"
                )
            )
        value = _OF_LIBRARY[known]
        claim = Claim("activation", value, "activation", value)
        refuse_disagreement([claim], tower, source=weights.source, teller=f"its origin ({known})", owner=owner)


def _of_config(config: Mapping[str, Any], which: str, module: str) -> Iterator[Claim]:
    """Yields what a config says of the ``vision`` or the ``text`` tower."""
    if isinstance(config.get("model_cfg"), Mapping):
        yield from _of_open_clip(config["model_cfg"], which)
        return
    section = _mapping(config, f"{which}_config")
    alone = str(config.get("model_type", "")) in (f"clip_{which}_model", f"siglip_{which}_model")
    if section is not None or alone:
        kind = str(config.get("model_type") or (section or {}).get("model_type") or "").partition("_")[0]
        said = {**_DEFAULTS.get(kind, {}), **(config if section is None else section)}
        yield from _prefixed("" if section is None else f"{which}_config.", claims(said, module))
    elif which == "vision":
        yield from claims(config, module)


def _of_open_clip(config: Mapping[str, Any], which: str) -> Iterator[Claim]:
    section = _mapping(config, f"{which}_cfg") or {}
    if "timm_model_name" not in section:
        approximate = (_mapping(section, "act_kwargs") or {}).get("approximate")
        value = "gelu_tanh" if approximate == "tanh" else "quick_gelu" if config.get("quick_gelu") else "gelu"
        said = bool(config.get("quick_gelu")) if value != "gelu_tanh" else approximate
        yield Claim("act_kwargs.approximate" if value == "gelu_tanh" else "quick_gelu", said, "activation", value)
    if which == "text" and isinstance(section.get("heads"), int):
        yield Claim("text_cfg.heads", section["heads"], "num_heads", section["heads"])
    if which == "text" and "no_causal_mask" in section:
        yield Claim("text_cfg.no_causal_mask", section["no_causal_mask"], "causal", not section["no_causal_mask"])


def _mapping(config: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    value = config.get(key)
    return value if isinstance(value, Mapping) else None


def _prefixed(prefix: str, claimed: Iterator[Claim]) -> Iterator[Claim]:
    return (claim._replace(key=prefix + claim.key) for claim in claimed)
