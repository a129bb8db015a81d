"""Settings per parameter, chosen by regular expressions over parameter paths such as ``hidden_0/kernel``.

``freeze_for`` leaves a parameter alone for its first steps, ``train_for`` after them: the schedule of the learning rate
is then run through in these steps.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from vision.errors import ConfigError, did_you_mean

PyTree = Any
Rule = tuple[str, Mapping[str, Any]]
SETTINGS: dict[str, type] = {"learning_rate_scale": float, "weight_decay": float, "freeze": bool}
IN_STEPS = ("freeze_for", "train_for")  # durations in a config
SETTINGS |= dict.fromkeys(IN_STEPS, int)


def path_of(path: Sequence[Any]) -> str:
    """Returns a key path of a tree as ``a/b/c``."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def paths_of(tree: PyTree) -> list[str]:
    """Returns the path of every leaf."""
    return [path_of(path) for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]


def map_paths(function: Callable[[str], Any], tree: PyTree) -> PyTree:
    """Returns a tree of ``function(path)`` in the shape of ``tree``."""
    return jax.tree_util.tree_map_with_path(lambda path, _: function(path_of(path)), tree)


def check_rules(rules: Sequence[Any], params: PyTree, where: str) -> None:
    """Holds rules against the parameters they are for.

    Raises:
      ConfigError: a rule that is not ``(regex, {setting: value})``, an unknown setting, a wrong type, a negative
        or infinite number, or a regex that does not compile or matches no parameter.
    """
    paths = paths_of(params)
    for position, rule in enumerate(rules):
        here = f"{where}[{position}]"
        if not (
            isinstance(rule, tuple) and len(rule) == 2 and isinstance(rule[0], str) and isinstance(rule[1], Mapping)
        ):
            raise ConfigError(f"{here}: write a rule as (regex, {{setting: value}}), got {rule!r}")
        pattern: str = rule[0]
        settings: Mapping[str, Any] = rule[1]
        check_pattern(pattern, paths, here)
        for name, value in settings.items():
            if name not in SETTINGS:
                raise ConfigError(
                    f"{here}.{name}: unknown setting{did_you_mean(name, SETTINGS)}; known: {', '.join(SETTINGS)}"
                )
            kinds: Any = (int, float) if SETTINGS[name] is float else (SETTINGS[name],)
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise ConfigError(f"{here}.{name}: expected {SETTINGS[name].__name__}, got {value!r}")
            if not 0.0 <= value < math.inf:
                raise ConfigError(f"{here}.{name}: must be a number >= 0, got {value!r}")
            if name == "train_for" and not value:
                raise ConfigError(f"{here}.{name}: must be more than 0 steps; freeze=True trains it never")


def check_pattern(pattern: str, paths: Sequence[str], where: str) -> None:
    """Raises a ConfigError for a regex that does not compile or matches none of ``paths``."""
    try:
        matched = any(re.search(pattern, path) for path in paths)
    except re.error as error:
        raise ConfigError(f"{where}: {pattern!r} is no regular expression: {error}") from error
    if not matched:
        words = [*paths, *(part for path in paths for part in path.split("/"))]
        raise ConfigError(
            f"{where}: {pattern!r} matches no parameter{did_you_mean(pattern, words)}; known: {', '.join(paths)}"
        )


def setting(rules: Sequence[Rule], path: str, name: str, default: Any) -> Any:
    """Returns a setting of one parameter: that of the first rule that matches and has it, or the default."""
    for pattern, settings in rules:
        if name in settings and re.search(pattern, path):
            return settings[name]
    return default


def rules_in_steps(rules: Sequence[Any], steps: Callable[[Any, str], int]) -> list[Any]:
    """Returns the rules of a config with durations in steps.

    Args:
      rules: of the config; what is no rule is left for :func:`check_rules` to name.
      steps: ``(duration, place)`` in steps.
    """

    def converted(position: int, rule: Any) -> Any:
        if not (isinstance(rule, tuple) and len(rule) == 2 and isinstance(rule[1], Mapping)):
            return rule
        settings = dict(rule[1])
        for name in IN_STEPS:
            if isinstance(settings.get(name), Mapping):
                settings[name] = steps(settings[name], f"[{position}].{name}")
        return rule[0], settings

    return [converted(position, rule) for position, rule in enumerate(rules)]


def layerwise_rules(section: Mapping[str, Any], params: PyTree, where: str) -> list[Rule]:
    """Returns rules for layer-wise learning rates: ``decay ** d`` at distance d from the last layer.

    Args:
      section: ``layers`` are regexes from input to output; the first that matches a parameter decides. One with a
        group, such as ``block_(\\d+)/``, stands for as many layers as the group has values, in numeric order.
        ``decay`` is the factor from a layer to the one below it (Clark et al. 2020; Bao et al. 2022). ``factors`` are
        ``(regex, factor)`` that the scales of what they match are multiplied by, such as the patch embedding's 0.2 in
        DINOv2.
      params: the parameters.
      where: the place in the config, for messages.

    Raises:
      ConfigError: a regex matches no parameter, its group no number, a parameter belongs to no layer, ``decay`` is
        not in (0, 1], or a factor is negative.
    """
    layers, decay = section["layers"], section["decay"]
    if not 0.0 < decay <= 1.0:
        raise ConfigError(f"{where}.decay: the factor from layer to layer must be in (0, 1], got {decay}")
    paths = paths_of(params)
    ranks: dict[str, tuple[int, int]] = {}
    for position, pattern in enumerate(layers):
        here = f"{where}.layers[{position}]"
        check_pattern(pattern, paths, here)
        for path in paths:
            match = re.search(pattern, path)
            if match and path not in ranks:
                number = match.group(1) if match.groups() else "0"
                if number is None or not number.isdecimal():
                    raise ConfigError(
                        f"{here}: the group of {pattern!r} must match a number, got {number!r} in "
                        f"{path}; write (?:...) for a group that counts no layers"
                    )
                ranks[path] = (position, int(number))
    homeless = [path for path in paths if path not in ranks]
    if homeless:
        raise ConfigError(f"{where}.layers: no layer for {', '.join(homeless)}")
    for position, (pattern, factor) in enumerate(section.get("factors", ())):
        check_pattern(pattern, paths, f"{where}.factors[{position}]")
        if not 0.0 <= factor < math.inf:
            raise ConfigError(f"{where}.factors[{position}]: must be a number >= 0, got {factor}")
    depths = {rank: depth for depth, rank in enumerate(sorted(set(ranks.values())))}

    def scale(path: str, rank: tuple[int, int]) -> float:
        further = [factor for pattern, factor in section.get("factors", ()) if re.search(pattern, path)]
        return decay ** (len(depths) - 1 - depths[rank]) * math.prod(further)

    return [(f"^{re.escape(path)}$", {"learning_rate_scale": scale(path, rank)}) for path, rank in ranks.items()]
