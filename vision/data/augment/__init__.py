"""Augmentations by name, and chains of them from a config list."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vision.config.calling import call, fill_named
from vision.data.augment import augmix, blur, color, crop, erase, flip, geometric, policies, shift, tone
from vision.data.augment.base import Draw, Image, OverVisits, Registry
from vision.data.augment.resample import Resized
from vision.errors import ConfigError

Chain = Callable[[Draw, Image], Resized]
TAKEN = ("image", "label", "caption", "tokens", "num_captions", "target", "index", "visit")

AUGMENTATIONS: Registry = {
    **crop.AUGMENTATIONS,
    **shift.AUGMENTATIONS,
    **flip.AUGMENTATIONS,
    **geometric.AUGMENTATIONS,
    **color.AUGMENTATIONS,
    **tone.AUGMENTATIONS,
    **blur.AUGMENTATIONS,
    **erase.AUGMENTATIONS,
    **policies.AUGMENTATIONS,
    **augmix.AUGMENTATIONS,
}


def resolve(sections: Sequence[Mapping[str, Any]], path: str) -> tuple[dict[str, Any], ...]:
    """Returns the sections of a list of augmentations, each complete; see :func:`vision.config.calling.fill_named`."""
    return tuple(
        fill_named(AUGMENTATIONS, section, f"{path}[{position}]", kind="augmentation")
        for position, section in enumerate(sections)
    )


def resolve_views(views: Mapping[str, Any], path: str) -> dict[str, tuple[tuple[dict[str, Any], ...], ...]]:
    """Returns ``name -> chains`` with every section complete.

    Raises:
      ConfigError: a name that an example's own entries have, no chains, or a section that cannot be.
    """
    resolved = {}
    for name, chains in views.items():
        here = f"{path}.{name}"
        if not name.isidentifier() or name in TAKEN:
            raise ConfigError(f"{here}: a view's name is one word, and none of {', '.join(TAKEN)}")
        if not isinstance(chains, tuple) or not chains or not all(isinstance(chain, tuple) for chain in chains):
            raise ConfigError(f"{here}: write a tuple of chains, each a tuple of augmentations, one for each view")
        resolved[name] = tuple(resolve(chain, f"{here}[{number}]") for number, chain in enumerate(chains))
    return resolved


def compose_views(
    views: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], path: str
) -> dict[str, tuple[Chain, ...]]:
    """Returns ``name -> chains`` as functions; equal chains are one function, which is traced once."""
    made: dict[str, Chain] = {}
    return {
        name: tuple(
            made.setdefault(repr(chain), compose(chain, f"{path}.{name}[{number}]"))
            for number, chain in enumerate(chains)
        )
        for name, chains in views.items()
    }


def compose(sections: Sequence[Mapping[str, Any]], path: str) -> Chain:
    """Returns the augmentations of a config list applied one after another, each with draws of its own."""
    steps = [
        call(AUGMENTATIONS[section["name"]], section, f"{path}[{position}]")
        for position, section in enumerate(sections)
    ]

    def apply(draw: Draw, image: Image) -> Resized:
        for position, step in enumerate(steps):
            own = draw.fold_in(position)
            image = step.apply(own, image) if isinstance(step, OverVisits) else step(own.key, image)
        return image

    return apply
