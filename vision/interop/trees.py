"""Variables of a model as one flat dict of paths, and back."""

from collections.abc import Mapping
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

Variables = dict[str, Any]


def flat(params: Mapping[str, Any], collections: Mapping[str, Any]) -> dict[str, Any]:
    """Returns ``{"params/head/kernel": leaf, ..., "batch_stats/stem_norm/mean": leaf}``."""
    return flatten_dict({"params": dict(params), **collections}, sep="/")


def nested(arrays: Mapping[str, Any]) -> tuple[Variables, Variables]:
    """Returns ``(params, collections)`` of a flat dict."""
    tree = unflatten_dict(dict(arrays), sep="/")
    return tree.pop("params", {}), tree
