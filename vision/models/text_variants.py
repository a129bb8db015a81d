"""The published text towers of CLIP and SigLIP, and a small one for small vocabularies."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn


class TextVariant(NamedTuple):
    """A published text network.

    Attributes:
      module: its class.
      options: attributes of the class that make it this variant.
      vocab_size: that its parameter count is published for.
      length: likewise, places of a text.
      out_size: likewise, of the embedding; 0 for none.
    """

    module: Callable[..., nn.Module]
    options: Mapping[str, Any]
    vocab_size: int
    length: int
    out_size: int


# Radford et al. 2021, CLIP, table 20; the weights of OpenAI have the fast GELU, most of open_clip's the exact one.
_CLIP: dict[str, Any] = {"depth": 12, "activation": "quick_gelu"}
# Zhai et al. 2023, SigLIP: every token sees all, padding is ``end`` itself, and the last place stands for the text.
_SIGLIP: dict[str, Any] = {
    "depth": 12,
    "causal": False,
    "pool": "last",
    "activation": "gelu_tanh",
    "epsilon": 1e-6,
    "projection_bias": True,
}


def _sized(width: int) -> dict[str, Any]:
    """All of them have heads of 64 and hidden layers of four times the width."""
    return {"width": width, "num_heads": width // 64, "mlp_dim": 4 * width}


def text_variants(module: Callable[..., nn.Module]) -> dict[str, TextVariant]:
    """Returns the table ``text/<line>_<size>`` over the class of the text transformer."""
    table = {
        f"clip_{width}": TextVariant(module, {**_CLIP, **_sized(width)}, 49408, 77, width) for width in (384, 512, 768)
    }
    table["siglip_B"] = TextVariant(module, {**_SIGLIP, **_sized(768)}, 32000, 64, 768)
    small = {"width": 128, "depth": 4, "num_heads": 4, "mlp_dim": 512, "activation": "gelu"}
    table["small"] = TextVariant(module, small, 1000, 77, 0)
    return {f"text/{name}": variant for name, variant in table.items()}
