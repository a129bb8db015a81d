"""What settings are compared on: parts of the training split, never the data that the result is told of."""

import itertools
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from vision.config.calling import call, fill
from vision.errors import ConfigError

Config = Mapping[str, Any]
TEST = ("test", "testing")
MOST_FOLDS = 20


class Fold(NamedTuple):
    """What is trained on and what is validated on, as splits."""

    train: str
    validation: str


def validation(
    *, fraction: float | None = None, folds: int | None = None, split: str | None = None, train: str | None = None
) -> None:
    """The section of a sweep: exactly one of the first three.

    Args:
      fraction: the last part of the training split is validated on, the rest trained on; in whole percents.
      folds: k-fold cross-validation: every k-th part of the training split is validated on once.
      split: a split of its own, such as ``validation``.
      train: what is trained on beside ``split``; by default the config's training split.

    Raises:
      ValueError: none or several of them, or numbers that cannot be.
    """
    if sum(each is not None for each in (fraction, folds, split)) != 1:
        raise ValueError("write exactly one of fraction, folds and split, such as {'fraction': 0.2}")
    if train is not None and split is None:
        raise ValueError("train goes with split; fraction and folds divide the training split")
    if fraction is not None and not 0.01 <= round(fraction, 2) <= 0.99:
        raise ValueError(f"fraction must be in [0.01, 0.99], got {fraction}")
    if folds is not None and not 2 <= folds <= MOST_FOLDS:
        raise ValueError(f"folds must be in [2, {MOST_FOLDS}], got {folds}")


def folds_of(section: Config, config: Config, path: str) -> tuple[Fold, ...]:
    """Returns the folds of a sweep over a config.

    Raises:
      ConfigError: the section is wrong, validation would be on what an eval of the config calls a test, or on
        what is trained on.
    """
    filled = fill(validation, section, path)
    call(validation, filled, path)
    whole = config["data"].get("split", "train")
    found: tuple[Fold, ...]
    if filled["split"] is not None:
        found = (Fold(filled["train"] or whole, filled["split"]),)
        _check_apart(found[0], path)
    else:
        if not re.fullmatch(r"\w+", whole):
            raise ConfigError(
                f"{path}: config.data.split is {whole!r}, only a plain split can be divided; give validation.split "
                "and validation.train"
            )
        parts = filled["folds"] or 0
        start = 100 - round(100 * filled["fraction"]) if filled["fraction"] else 0
        bounds = [round(100 * i / parts) for i in range(parts + 1)] if parts else [start, 100]
        found = tuple(_part(whole, low, high) for low, high in itertools.pairwise(bounds))
    for fold in found:
        _check_no_test(fold, config, path)
    return found


def is_test(name: str, section: Config) -> bool:
    """Whether an eval is a test, by its name or by its split's."""
    return "test" in name.lower() or any(each in TEST for each in _names(section.get("split") or ""))


def _part(whole: str, low: int, high: int) -> Fold:
    first, last = f"{low}%" if low > 0 else "", f"{high}%" if high < 100 else ""
    before, after = [f"{whole}[:{first}]"] if first else [], [f"{whole}[{last}:]"] if last else []
    return Fold("+".join([*before, *after]), f"{whole}[{first}:{last}]")


def _names(split: str) -> list[str]:
    return [part.split("[")[0].strip() for part in split.split("+") if part]


def _check_apart(fold: Fold, path: str) -> None:
    """Refuses what is plain to see: a split that is trained on whole."""
    whole = [part.strip() for part in fold.train.split("+") if "[" not in part]
    shared = [name for name in _names(fold.validation) if name in whole]
    if shared:
        raise ConfigError(
            f"{path}.split: {fold.validation!r} is part of what is trained on, {fold.train!r}; say what is trained on "
            f"with validation.train, such as {shared[0]}[:80%]"
        )


def _check_no_test(fold: Fold, config: Config, path: str) -> None:
    tests = {
        part: name
        for name, section in config.get("evals", {}).items()
        if is_test(name, section)
        for part in _names(section.get("split") or "")
    }
    for part in (*_names(fold.validation), *_names(fold.train)):
        if part in tests or part in TEST:
            of = f", which config.evals.{tests[part]} tests on" if part in tests else ""
            raise ConfigError(
                f"{path}: the split {part!r}{of}: a setting chosen on it would look better than it is; choose on a "
                "part of the training split, such as validation = {'fraction': 0.2}"
            )
