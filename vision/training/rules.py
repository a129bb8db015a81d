"""Settings per parameter, chosen by regular expressions over parameter paths such as ``hidden_0/kernel``."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from vision.errors import ConfigError, did_you_mean

PyTree = Any
Rule = tuple[str, Mapping[str, Any]]
SETTINGS = {"learning_rate_scale": float, "weight_decay": float, "freeze": bool}


def path_of(path: Sequence[Any]) -> str:
    """Returns a key path of a tree as ``a/b/c``."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def paths_of(tree: PyTree) -> list[str]:
    """Returns the path of every leaf."""
    return [path_of(path) for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]


def map_paths(function: Callable[[str], Any], tree: PyTree) -> PyTree:
    """Returns a tree of ``function(path)`` in the shape of ``tree``."""
    return jax.tree_util.tree_map_with_path(lambda path, _: function(path_of(path)), tree)


def check_rules(rules: Sequence[Rule], params: PyTree, where: str) -> None:
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
        pattern, settings = rule
        check_pattern(pattern, paths, here)
        for name, value in settings.items():
            if name not in SETTINGS:
                raise ConfigError(
                    f"{here}.{name}: unknown setting{did_you_mean(name, SETTINGS)}; known: {', '.join(SETTINGS)}"
                )
            kinds = (bool,) if SETTINGS[name] is bool else (int, float)
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise ConfigError(f"{here}.{name}: expected {SETTINGS[name].__name__}, got {value!r}")
            if not 0.0 <= value < math.inf:
                raise ConfigError(f"{here}.{name}: must be a number >= 0, got {value!r}")


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


def layerwise_rules(layers: Sequence[str], decay: float, params: PyTree, where: str) -> list[Rule]:
    """Returns rules for layer-wise learning rates: ``decay ** d`` at distance d from the last layer.

    Args:
      layers: regexes from input to output; the first that matches a parameter decides. One with a group, such as
        ``block_(\\d+)/``, stands for as many layers as the group has values, in numeric order.
      decay: factor from a layer to the one below it (Clark et al. 2020; Bao et al. 2022).
      params: the parameters.
      where: the place in the config, for messages.

    Raises:
      ConfigError: a regex matches no parameter, its group no number, a parameter belongs to no layer, or ``decay``
        is not in (0, 1].
    """
    if not 0.0 < decay <= 1.0:
        raise ConfigError(f"{where}: the decay from layer to layer must be in (0, 1], got {decay}")
    paths = paths_of(params)
    ranks: dict[str, tuple[int, int]] = {}
    for position, pattern in enumerate(layers):
        check_pattern(pattern, paths, f"{where}[{position}]")
        for path in paths:
            match = re.search(pattern, path)
            if match and path not in ranks:
                number = match.group(1) if match.groups() else "0"
                if number is None or not number.isdecimal():
                    raise ConfigError(
                        f"{where}[{position}]: the group of {pattern!r} must match a number, got {number!r} in "
                        f"{path}; write (?:...) for a group that counts no layers"
                    )
                ranks[path] = (position, int(number))
    homeless = [path for path in paths if path not in ranks]
    if homeless:
        raise ConfigError(f"{where}: no layer for {', '.join(homeless)}")
    depths = {rank: depth for depth, rank in enumerate(sorted(set(ranks.values())))}
    return [
        (f"^{re.escape(path)}$", {"learning_rate_scale": decay ** (len(depths) - 1 - depths[rank])})
        for path, rank in ranks.items()
    ]
