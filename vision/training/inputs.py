"""From the data section of a config to the host's part and the order of examples."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vision.config.calling import call
from vision.data import framing
from vision.data.host import HostPart, probe
from vision.data.order import Order, Shuffled, Stratified, shares_of
from vision.data.source import Source
from vision.data.sources.mixture import Mixture
from vision.errors import ConfigError, UserError

LARGEST_TYPICAL = 224


def host_part(data: Mapping[str, Any], source: Source, *, seed: int, note: Callable[[str], None]) -> HostPart:
    """Returns what the host does to an image in training; size and channels are found where the config leaves them.

    Images of different sizes are brought to squares as large as their shorter sides mostly are, at most 224.

    Raises:
      UserError: no image decodes, or a crop's option cannot be.
    """
    for key in ("crop", "eval_crop"):
        call(framing.CROPS[data[key]["name"]], data[key], f"config.data.{key}")
    size, channels = data["image_size"], data["channels"]
    if size is None or channels is None:
        try:
            found = probe(source)
        except ValueError as error:
            raise UserError(f"config.data.name: {data['name']}: {error}") from error
        channels = channels or found.channels
        if size is None and found.common is None:
            size = min(LARGEST_TYPICAL, found.typical)
            smallest, largest = ("x".join(map(str, each)) for each in (found.smallest, found.largest))
            note(f"images from {smallest} to {largest} are brought to {size}x{size} (config.data.image_size)")
        size = size or found.common
    height, width = size if isinstance(size, tuple) else (size, size)
    return HostPart((height, width), channels, data["crop"], data["decoder"], data["interpolation"], seed)


def order_of(data: Mapping[str, Any], source: Source, *, batch_size: int, seed: int) -> Order:
    """Returns the order of training.

    Raises:
      ConfigError: balanced classes of data that have no single label each, or together with something else.
    """
    repeats, balance = data["repeats"], data["balance"]
    mixed = isinstance(source, Mixture) and len(source.sources) > 1
    if repeats > 1 and (balance or mixed):
        raise ConfigError("config.data.repeats: not together with balanced classes or a mixture")
    if balance and mixed:
        raise ConfigError("config.data.balance: not together with a mixture, whose weights say what is drawn")
    if isinstance(source, Mixture) and mixed:
        return Stratified(source.groups, _shares(source.weights, data["name"]), batch_size, seed)
    if balance:
        labels = source.labels() if "label" in source.fields else None
        if labels is None or labels.ndim != 1:
            raise ConfigError("config.data.balance: balanced classes need one label for each example")
        groups = tuple(np.flatnonzero(labels == label) for label in np.unique(labels))
        return Stratified(groups, (1,) * len(groups), batch_size, seed)
    return Shuffled(len(source), batch_size, seed, repeats)


def _shares(weights: tuple[float, ...], name: str) -> tuple[int, ...]:
    try:
        return shares_of(weights)
    except ValueError as error:
        raise ConfigError(f"config.data.name: {name}: {error}") from error
