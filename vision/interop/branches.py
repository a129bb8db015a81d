"""Which of the networks in a training run's checkpoint is meant."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from vision.errors import UserError

Note = Callable[[str], None]
# Where checkpoints keep networks. Of several the first is taken: averages before what they are averages of.
NESTED = (
    "teacher",
    "state_dict_ema",
    "model_ema",
    "student",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "net",
)
FLAT = ("teacher", "student")
# What DINO and DINOv2 train beside the backbone: projection heads, an MLP and a weight-normalised layer.
_WRAPPED = r"^(module\.|_orig_mod\.|_fsdp_wrapped_module\.)*"
_BACKBONE = re.compile(_WRAPPED + r"backbone\.")
_HEAD = re.compile(_WRAPPED + r"((dino_|ibot_)?head)\.(mlp(\.\d+)?\.\w+$|last_layer\.)")


def enter(value: Any, branch: str | None, is_array: Callable[[Any], bool], *, source: str, note: Note) -> Any:
    """Follows the branches of nested dicts, and of names, down to the one that holds arrays.

    Args:
      value: what a file holds.
      branch: the one to take; None for the first of :data:`NESTED` at each fork.
      is_array: tells arrays from everything else.
      source: for messages.
      note: told which was taken where there are several.

    Raises:
      UserError: there is no such branch.
    """
    while isinstance(value, Mapping) and not any(is_array(each) for each in value.values()):
        there = [name for name in NESTED if isinstance(value.get(name), Mapping)]
        if branch is not None and isinstance(value.get(branch), Mapping):
            value, branch = value[branch], None
        elif there:
            if len(there) > 1:
                note(f"{source} holds {', '.join(there)}: {there[0]} is taken")
            value = value[there[0]]
        else:
            break
    return pick(value, branch, source=source, note=note) if isinstance(value, Mapping) else value


def pick(arrays: Mapping[str, Any], branch: str | None, *, source: str, note: Note) -> dict[str, Any]:
    """Returns the arrays of one branch where the names begin with ``teacher.`` and ``student.``.

    Raises:
      UserError: there is no such branch.
    """
    there = [name for name in FLAT if _has(arrays, name)]
    if branch is None and there:
        note(f"{source} holds {', '.join(there)}: {there[0]} is taken")
        branch = there[0]
    if branch is None:
        return dict(arrays)
    if not _has(arrays, branch):
        raise UserError(f"{source} has no branch {branch!r}{'; it has ' + ', '.join(there) if there else ''}")
    prefix = f"{branch}."
    return {str(name).removeprefix(prefix): each for name, each in arrays.items() if str(name).startswith(prefix)}


def without_heads(arrays: Mapping[str, Any], *, source: str, note: Note) -> dict[str, Any]:
    """Returns the arrays without the projection heads of self-distillation, where names say which the backbone's are.

    Args:
      arrays: of one network.
      source: for messages.
      note: told what was left out.
    """
    heads: dict[str, int] = {}
    for name in arrays:
        if (found := _HEAD.match(name)) is not None:
            heads[found[2]] = heads.get(found[2], 0) + 1
    if not heads or not any(map(_BACKBONE.match, arrays)):
        return dict(arrays)
    listed = ", ".join(f"{head} ({count} arrays)" for head, count in heads.items())
    note(f"{source} holds a backbone and its projection: {listed} {'are' if len(heads) > 1 else 'is'} left out")
    return {name: each for name, each in arrays.items() if not _HEAD.match(name)}


def _has(arrays: Mapping[str, Any], branch: str) -> bool:
    return any(str(name).startswith(f"{branch}.") for name in arrays)
