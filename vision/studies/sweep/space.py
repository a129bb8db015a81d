"""What is varied: keys of a config, each with its values or a range of numbers."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vision.config.calling import fill
from vision.errors import ConfigError

Setting = dict[str, Any]
Kind = Literal["values", "uniform", "log_uniform", "integers"]
_OWN = ("seed", "data.split", "evals")
KINDS: tuple[Kind, ...] = ("values", "uniform", "log_uniform", "integers")


@dataclass(frozen=True)
class Parameter:
    """One key of the config.

    Attributes:
      key: dotted, such as ``optimizer.learning_rate``.
      kind: ``values`` lists them; the others are ranges, both ends included.
      options: the values, or ``(low, high)``.
    """

    key: str
    kind: Kind
    options: tuple[Any, ...]

    def at(self, share: float) -> Any:
        """Returns the value that lies at ``share`` in [0, 1) of the way; equal shares for values and integers."""
        if self.kind == "values":
            return self.options[int(share * len(self.options))]
        low, high = self.options
        if self.kind == "integers":
            return low + int(share * (high - low + 1))
        if self.kind == "log_uniform":
            return min(max(math.exp(math.log(low) + share * (math.log(high) - math.log(low))), low), high)
        return low + share * (high - low)


def parameter(
    *,
    key: str,
    values: tuple[Any, ...] | None = None,
    uniform: tuple[float, float] | None = None,
    log_uniform: tuple[float, float] | None = None,
    integers: tuple[int, int] | None = None,
) -> Parameter:
    """Returns a parameter of a section with its key and exactly one of the others.

    Raises:
      ValueError: none or several of them, no values, or a range that is not one.
    """
    given = {"values": values, "uniform": uniform, "log_uniform": log_uniform, "integers": integers}
    kinds = [kind for kind in KINDS if given[kind] is not None]
    if len(kinds) != 1:
        raise ValueError(f"write exactly one of {', '.join(KINDS)} for {key}")
    (kind,) = kinds
    options: Any = given[kind]
    if not options:
        raise ValueError(f"{key} has no values")
    if kind != "values":
        low, high = options
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"{key}: a range goes from low to high, got {options}")
        if kind == "log_uniform" and low <= 0:
            raise ValueError(f"{key}: a logarithmic range begins above 0, got {options}")
    return Parameter(key, kind, tuple(options))


def space_of(sections: Sequence[Mapping[str, Any]], path: str) -> tuple[Parameter, ...]:
    """Returns the parameters of a sweep.

    Raises:
      ConfigError: there are none, one is wrong, or a key comes twice.
    """
    found: list[Parameter] = []
    for place, section in enumerate(sections):
        here = f"{path}[{place}]"
        filled = fill(parameter, section, here)
        try:
            found.append(parameter(**filled))
        except ValueError as error:
            raise ConfigError(f"{here}: {error}") from error
    keys = [each.key for each in found]
    if not keys:
        raise ConfigError(f"{path}: empty; a sweep varies at least one key of the config")
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"{path}: {key} comes twice")
        if key in _OWN or key.startswith("evals."):
            raise ConfigError(f"{path}: {key}: the sweep sets it itself, by sweep.seeds and sweep.validation")
    return tuple(found)


def product(space: Sequence[Parameter]) -> list[Setting]:
    """Returns every combination of values, the last key changing fastest.

    Raises:
      ValueError: a parameter is a range.
    """
    ranges = [each.key for each in space if each.kind != "values"]
    if ranges:
        raise ValueError(f"a grid needs values for {', '.join(ranges)}; search a range at random, or bayesian")
    keys = [each.key for each in space]
    return [dict(zip(keys, values, strict=True)) for values in itertools.product(*(each.options for each in space))]


def sample(space: Sequence[Parameter], generator: np.random.Generator) -> Setting:
    """Returns one setting, each key drawn on its own."""
    return {each.key: each.at(float(generator.random())) for each in space}


def labels(space: Sequence[Parameter]) -> list[str]:
    """Returns a name for each key: its last word, or all of it where several have that."""
    last = [each.key.split(".")[-1] for each in space]
    return [word if last.count(word) == 1 else each.key for word, each in zip(last, space, strict=True)]


def probes(space: Sequence[Parameter]) -> list[Setting]:
    """Returns settings that show whether a config takes them: every value of each key, or both ends of its range."""
    first = {each.key: each.options[0] for each in space}
    return [{**first, each.key: value} for each in space for value in each.options]
