"""Whose names a file uses: which naming covers them best, behind which prefixes."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from vision import models
from vision.config.calling import lookup
from vision.errors import UserError
from vision.interop.names import Naming, Pair
from vision.interop.namings import NAMINGS

# Wrappers of training code and of Hugging Face's models put these before the names of the network itself.
PREFIXES = (
    "module.",
    "_orig_mod.",
    "_fsdp_wrapped_module.",
    "backbone.",
    "model.",
    "vision_model.",
    "vit.",
    "deit.",
    "dinov2.",
    "dinov2_with_registers.",
    "resnet.",
    "convnext.",
)
# DINOv2 trains with its blocks in chunks, which keep the blocks' own numbers: blocks.CHUNK.NUMBER.
_CHUNKED = re.compile(r"^blocks\.\d+\.(\d+)\.")
_ENOUGH = 0.5


class Recognised(NamedTuple):
    """How the names of a file are to be read.

    Attributes:
      keys: of :data:`vision.interop.namings.NAMINGS`; the first is used, others cover the file just as well.
      naming: the first.
      names: the naming's name -> the file's name, for every name of the naming that the file has.
      unknown: names of the file that the naming does not have, without those that hold no weights.
    """

    keys: tuple[str, ...]
    naming: Naming
    names: Mapping[str, str]
    unknown: tuple[str, ...]


def recognise(
    names: Iterable[str],
    module: Any,
    *,
    naming: str | None = None,
    library: str | None = None,
    namings: Mapping[str, Naming] = NAMINGS,
    source: str = "the source",
) -> Recognised:
    """Returns the naming of the module's class that covers most of ``names``, whatever prefixes they have.

    Args:
      names: of the file's arrays.
      module: of the model.
      naming: the key of a naming, to look for no other.
      library: the one that is preferred among those that cover the file as well, such as ``timm``.
      namings: those that there are.
      source: for messages.

    Raises:
      UserError: there is no such naming, or none covers half of the file or of what the model needs.
    """
    names = list(names)
    own = of_module(module, namings)
    if naming is not None:
        chosen = lookup(namings, naming, "naming", kind="naming")
        if naming not in own:
            raise UserError(f"naming {naming} is for {chosen.module.__name__}, the model is {_named(module, own)}")
        own = {naming: chosen}
    if not own:
        raise UserError(f"{source}: there are no names of other libraries for the model {type(module).__name__}")
    by_bare = _by_bare(names)
    found = {key: _present(each.pairs(with_head(module)), names, by_bare) for key, each in own.items()}
    most = max(map(len, found.values()))
    # Of equals that of the library comes first; otherwise sorting leaves their order alone.
    keys = tuple(
        sorted((key for key in found if len(found[key]) == most), key=lambda key: key.split("/")[0] != library)
    )
    best = keys[0]
    needed = _needed(own[best], module)
    if len(found[best]) < _ENOUGH * min(len(needed), len(names)):
        raise UserError(_nothing_fits(source, names, by_bare, module, best, needed, found[best], namings))
    used = set(found[best].values())
    ignored = [re.compile(pattern) for pattern in own[best].ignored]
    unknown = [name for name in names if name not in used and not any(each.search(bare(name)) for each in ignored)]
    return Recognised(keys, own[best], found[best], tuple(unknown))


def of_module(module: Any, namings: Mapping[str, Naming] = NAMINGS) -> dict[str, Naming]:
    """Returns the namings of a module's class."""
    return {key: naming for key, naming in namings.items() if naming.module is type(module)}


def with_head(module: Any) -> Any:
    """Returns the module, with a head if it has none: a file may have one."""
    return module if module.num_classes else module.clone(num_classes=1)


def _needed(naming: Naming, module: Any) -> list[str]:
    """The names that the module needs; some names depend on whether there is a head, so the head's are left out."""
    paths = {path for pair in naming.pairs(module) for path in pair.ours}
    return [name for pair in naming.pairs(with_head(module)) if paths.issuperset(pair.ours) for name in pair.theirs]


def bare(name: str) -> str:
    """Returns the name without the prefixes of wrappers and the numbers of chunks."""
    while True:
        prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
        if prefix is None:
            return _CHUNKED.sub(r"blocks.\1.", name)
        name = name.removeprefix(prefix)


def _by_bare(names: list[str]) -> dict[str, str]:
    """Bare name -> name; of two that differ in prefixes alone, such as a backbone's and a wrapper's, the longer."""
    found: dict[str, str] = {}
    for name in sorted(names, key=len):
        found[bare(name)] = name
    return found


def _present(pairs: list[Pair], names: list[str], by_bare: Mapping[str, str]) -> dict[str, str]:
    there, wanted = set(names), [name for pair in pairs for name in pair.theirs]
    # Without a prefix in its way a name means itself: nothing of a wrapper can take its place.
    exact = {name: name for name in wanted if name in there}
    loose = {name: by_bare[bare(name)] for name in wanted if bare(name) in by_bare}
    return exact if len(exact) >= len(loose) else loose


def _named(module: Any, own: Mapping[str, Naming]) -> str:
    return f"{type(module).__name__} with {', '.join(own) or 'none'}"


def _nothing_fits(source, names, by_bare, module, best, needed, found, namings) -> str:
    other = {}
    for key, naming in namings.items():
        variant = next((each for each in models.VARIANTS.values() if each.module is naming.module), None)
        if naming.module is not type(module) and variant is not None:
            instance = naming.module(num_classes=1, **variant.options)
            pairs = naming.pairs(instance)
            hits = len(_present(pairs, names, by_bare))
            if hits >= _ENOUGH * min(len(names), sum(len(pair.theirs) for pair in pairs)):
                other[key] = hits
    if other:
        key = max(other, key=lambda each: other[each])
        kind = namings[key].module.__name__
        return f"{source} has the names of {key}: it holds a {kind}, and the model is a {type(module).__name__}"
    missing = [name for name in needed if name not in found]
    return (
        f"{source} has none of the namings of {type(module).__name__}: the nearest, {best}, finds {len(found)} of its "
        f"{len(needed)} names and misses {', '.join(missing[:2])}; the file has {', '.join(sorted(names)[:3])}"
    )
