"""Small CLIPs and SigLIPs of transformers beside ours, and the texts that they are given.

Only the standard library and NumPy are needed here; the tests read this as well as the tool does.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tools.golden_cases import weights

VOCABULARY, LENGTH, SIDE, IMAGES = 60, 9, 32, 3
_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_WORDS = {"vocab_size": VOCABULARY, "max_position_embeddings": LENGTH, "pad_token_id": 0, "bos_token_id": 58}
_OURS = {"width": 32, "depth": 2, "num_heads": 4, "mlp_dim": 64}


class PairCase(NamedTuple):
    """A pair of ours and the same of transformers.

    Attributes:
      name: of the case.
      pair: ours, a key of ``vision.interop.published_pairs.PAIRS``.
      kind: theirs, before ``Model`` and ``Config``.
      vision: what theirs is given for the image tower.
      text: likewise for the text tower.
      config: likewise for both.
      options: what differs from our pair.
    """

    name: str
    pair: str
    kind: str
    vision: Mapping[str, Any]
    text: Mapping[str, Any]
    config: Mapping[str, Any]
    options: Mapping[str, Any]


def _case(name: str, pair: str, kind: str, activation: str | None = None, **config: Any) -> PairCase:
    given = {} if activation is None else {"hidden_act": activation}
    end = {"eos_token_id": VOCABULARY - 1}
    vision = {**_SIZES, "image_size": SIDE, "patch_size": 8, **given}
    options: dict[str, Any] = {f"{tower}.{key}": value for tower in ("image", "text") for key, value in _OURS.items()}
    options |= {"image.patch_size": 8} | ({} if activation is None else {"activation": activation})
    words = {**_SIZES, **_WORDS, **end, **given}
    if kind == "Siglip":
        words["projection_size"] = 32
    options["embed_dim"] = config.get("projection_dim", 32)
    return PairCase(name, pair, kind, vision, words, config, options)


CASES = (
    _case("clip", "clip/ViT-B32", "CLIP", projection_dim=12),
    _case("clip with the exact gelu", "clip/ViT-B32", "CLIP", "gelu", projection_dim=12),
    _case("siglip", "siglip/B16", "Siglip"),
)


def images() -> np.ndarray:
    """Returns images ``[batch, channels, height, width]``."""
    return weights.images((IMAGES, 3, SIDE, SIDE))


def tokens() -> np.ndarray:
    """Returns int32 texts ``[texts, length]``: short, full, with other ids behind the end, and with a second end."""
    start, end = VOCABULARY - 2, VOCABULARY - 1
    return np.array(
        [
            [start, 5, 17, end, 0, 0, 0, 0, 0],
            [start, 0, 3, 0, 7, 41, 12, 9, end],
            [start, 5, 17, 22, end, 33, 1, 0, 8],
            [start, 30, end, 4, 4, end, 0, 0, end],
        ],
        np.int32,
    )
