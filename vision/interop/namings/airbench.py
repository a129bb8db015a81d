"""Names of the airbench networks in the code released with them."""

from typing import Any

from vision.interop.names import Naming, Pair, conv_layer, dense, same
from vision.models.airbench import Airbench


def pairs(module: Any) -> list[Pair]:
    """``whiten``, ``layers.1`` to ``layers.3`` (behind a GELU), ``head``; their scales of normalisations are ones."""
    found = conv_layer("whiten", "whiten", bias=True)
    for index in range(len(module.widths)):
        ours, theirs = f"group{index}", f"layers.{index + 1}"
        for number in range(1, module.depth + 1):
            norm = f"{ours}/norm{number}", f"{theirs}.norm{number}"
            found += conv_layer(f"{ours}/conv{number}", f"{theirs}.conv{number}", bias=False)
            found += [
                same(f"params/{norm[0]}/bias", f"{norm[1]}.bias"),
                same(f"batch_stats/{norm[0]}/mean", f"{norm[1]}.running_mean"),
                same(f"batch_stats/{norm[0]}/var", f"{norm[1]}.running_var"),
            ]
    return found + ([dense("params/head/kernel", "head.weight")] if module.num_classes else [])


NAMINGS = {"airbench": Naming(Airbench, pairs, (r"\.norm\d\.weight$", r"\.num_batches_tracked$"))}
