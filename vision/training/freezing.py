"""Which parameters are frozen, and until when."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vision.errors import ConfigError
from vision.models.depth import block_names, parameters_before
from vision.models.interface import Model
from vision.training import rules as per_parameter

PyTree = Any
Until = Mapping[str, int]
ALWAYS = 2**31 - 1
_PATH = "config.freeze"


def frozen_until(
    section: Mapping[str, Any] | None,
    rules: Sequence[per_parameter.Rule],
    model: Any,
    params: PyTree,
    *,
    steps: Callable[[Any, str], int],
) -> Until:
    """Returns the step from which each frozen parameter is trained, :data:`ALWAYS` where it never is.

    Args:
      section: see :func:`vision.training.schema.freeze_section`, or None.
      rules: of the optimizer, whose ``freeze`` counts too.
      model: the image model, whose blocks are counted.
      params: of the objective, or their shapes; the model's are at ``backbone/`` where that is there.
      steps: ``(duration, place)`` in steps.

    Raises:
      ConfigError: a pattern matches nothing, there are not so many blocks, or nothing is left to train.
    """
    paths = per_parameter.paths_of(params)
    until = {path: ALWAYS for path in paths if per_parameter.setting(rules, path, "freeze", False)}
    if section is not None:
        for position, pattern in enumerate(section["patterns"]):
            per_parameter.check_pattern(pattern, paths, f"{_PATH}.patterns[{position}]")
            matched = ((pattern, {"freeze": True}),)
            until |= {path: ALWAYS for path in paths if per_parameter.setting(matched, path, "freeze", False)}
        until = {**_of_blocks(section, model, paths, steps), **until}
    if paths and len(until) == len(paths) and min(until.values()) > 0:
        raise ConfigError(f"{_PATH}: every parameter is frozen, nothing is left to train")
    return {path: step for path, step in until.items() if step > 0}


def as_rules(until: Until) -> list[per_parameter.Rule]:
    """Returns the optimizer's rules for frozen parameters: no update and, until they are trained, no memory."""
    made: list[per_parameter.Rule] = []
    for step in sorted(set(until.values())):
        pattern = f"^(?:{'|'.join(re.escape(path) for path in until if until[path] == step)})$"
        made.append((pattern, {"freeze": True} if step == ALWAYS else {"freeze_for": step}))
    return made


def _of_blocks(section: Mapping[str, Any], model: Any, paths: Sequence[str], steps: Any) -> Until:
    count, unfreeze, together = section["blocks"], section["unfreeze"], section["unfreeze_blocks"]
    if not count:
        if unfreeze is not None:
            raise ConfigError(f"{_PATH}.unfreeze: frees one block after another; say how many with {_PATH}.blocks")
        return {}
    if not isinstance(model, Model) or model.image_shape is None:
        raise ConfigError(f"{_PATH}.blocks: counts blocks of image models; use {_PATH}.patterns")
    names = block_names(model, model.image_shape)
    if not -1 <= count <= len(names):
        raise ConfigError(f"{_PATH}.blocks: the network has {len(names)} blocks, -1 stands for all but its head")
    if together < 1:
        raise ConfigError(f"{_PATH}.unfreeze_blocks: must be >= 1, got {together}")
    if getattr(model.module, "scan", False) and (count != -1 or unfreeze is not None):
        raise ConfigError(f"{_PATH}.blocks: with scan=True all blocks share their arrays; set config.model.scan=False")
    ends = [*names[:-1], "pre_logits"] if count == -1 else names[:count]
    prefix = "backbone/" if any(path.startswith("backbone/") for path in paths) else ""
    period = ALWAYS if unfreeze is None else steps(unfreeze, f"{_PATH}.unfreeze")
    if period < 1:
        raise ConfigError(f"{_PATH}.unfreeze: must be more than 0 steps")
    until: dict[str, int] = {}
    for level, feature in enumerate(ends[::-1][::together], start=1):  # ever smaller parts; the last to hold it decides
        for path in parameters_before(model, model.image_shape, feature):
            until[prefix + path] = ALWAYS if unfreeze is None else level * period
    if not until:
        raise ConfigError(f"{_PATH}.blocks: nothing comes before the head of this model")
    missing = sorted(set(until) - set(paths))
    assert not missing, f"the objective has no parameters {missing[:3]}"
    return until
