"""Augmentations by name, and chains of them from a config list."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vision.config.calling import call, fill_named
from vision.data.augment import flip, shift
from vision.data.augment.base import Draw, Image, OverVisits, Registry

AUGMENTATIONS: Registry = {
    **flip.AUGMENTATIONS,
    **shift.AUGMENTATIONS,
}


def resolve(sections: Sequence[Mapping[str, Any]], path: str) -> tuple[dict[str, Any], ...]:
    """Returns the sections of a list of augmentations, each complete; see :func:`vision.config.calling.fill_named`."""
    return tuple(
        fill_named(AUGMENTATIONS, section, f"{path}[{position}]", kind="augmentation")
        for position, section in enumerate(sections)
    )


def compose(sections: Sequence[Mapping[str, Any]], path: str) -> Callable[[Draw, Image], Image]:
    """Returns the augmentations of a config list applied one after another, each with draws of its own."""
    steps = [
        call(AUGMENTATIONS[section["name"]], section, f"{path}[{position}]")
        for position, section in enumerate(sections)
    ]

    def apply(draw: Draw, image: Image) -> Image:
        for position, step in enumerate(steps):
            own = draw.fold_in(position)
            image = step.apply(own, image) if isinstance(step, OverVisits) else step(own.key, image)
        return image

    return apply
