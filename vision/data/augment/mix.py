"""Augmentations that join the examples of one batch: mixup and CutMix."""

from collections.abc import Callable

from jaxtyping import Array, Float, Key

Images = Float[Array, "batch height width channels"]
Targets = Float[Array, "batch classes"]
Mix = Callable[[Key[Array, ""], Images, Targets], tuple[Images, Targets]]

MIXES: dict[str, Callable[..., Mix]] = {}
