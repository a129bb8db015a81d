"""From ``--config configs/x.py:arg --config.a.b=value`` to a plain nested dict."""

import ast
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from vision.errors import ConfigError, did_you_mean

DURATIONS = ("steps", "epochs", "examples")


def load(spec: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the config of a file with command-line overrides applied.

    Args:
      spec: path of a Python file with ``get_config(arg=None)``, optionally ``path:arg``.
      overrides: arguments of the form ``--config.optimizer.learning_rate=3e-4``.

    Raises:
      ConfigError: the file, its ``get_config``, or an override is not usable.
    """
    config = plain(_config_of_file(spec))
    for argument in overrides:
        _override(config, argument)
    return config


def plain(value: Any) -> Any:
    """Returns ``value`` with ConfigDicts as dicts and lists as tuples, all the way down."""
    if isinstance(value, ml_collections.ConfigDict):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(plain(item) for item in value)
    return value


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns ``{"a.b": value}`` of a nested dict."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _config_of_file(spec: str) -> ml_collections.ConfigDict:
    path, _, argument = spec.partition(":")
    if not Path(path).is_file():
        folder = Path(path).parent
        known = [str(folder / file.name) for file in folder.glob("*.py")] if folder.is_dir() else []
        raise ConfigError(f"--config {path}: no such file{did_you_mean(path, known)}")
    module_spec = importlib.util.spec_from_file_location("config_file", path)
    if module_spec is None or module_spec.loader is None:
        raise ConfigError(f"--config {path}: not a Python file")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
        config = module.get_config(argument) if argument else module.get_config()
    except AttributeError as error:
        raise ConfigError(
            f"--config {path}: {error}; a config file defines get_config() and returns a ConfigDict"
        ) from error
    except Exception as error:  # whatever a person's file raises is theirs to read, in one line
        raise ConfigError(f"--config {spec}: {type(error).__name__}: {error}") from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise ConfigError(f"--config {path}: get_config() returned {type(config).__name__}, not a ConfigDict")
    return config


def _override(config: dict[str, Any], argument: str) -> None:
    """Sets one ``--config.a.b=value``; a new kind of duration replaces the one in its section."""
    path, separator, text = argument.removeprefix("--").partition("=")
    keys = path.split(".")[1:]
    if not separator or not all(keys):
        raise ConfigError(f"{argument}: write an override as --config.section.key=value")
    section: Any = config
    for depth, key in enumerate(keys[:-1], start=1):
        inner = section.get(key)
        if isinstance(inner, tuple | list) or (inner is not None and not isinstance(inner, dict)):
            raise ConfigError(f"{'.'.join(['config', *keys[:depth]])} holds {inner!r}: it has no keys of its own")
        section = section.setdefault(key, {}) if inner is None else inner
        section = _attach(config, keys[:depth], section)
    if keys[-1] in DURATIONS:
        for sibling in DURATIONS:
            section.pop(sibling, None)
    section[keys[-1]] = literal(text)


def _attach(config: dict[str, Any], keys: Sequence[str], section: dict[str, Any]) -> dict[str, Any]:
    """Puts ``section`` at ``keys`` in ``config`` (a section given as None becomes a dict here)."""
    parent = config
    for key in keys[:-1]:
        parent = parent[key]
    parent[keys[-1]] = section
    return section


def literal(text: str) -> Any:
    """Returns a Python literal (numbers, tuples, quoted strings, None, true/false in any case) or keeps the text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return plain(ast.literal_eval(text))
    except (ValueError, SyntaxError):
        return text
