"""A config section is a call: its keys are held against the signature of the function that will take them.

The signature is the schema: its parameters are the known keys, its annotations the types, its ``Literal``
annotations the allowed values, its defaults the values of keys that the section leaves out. A key that no
parameter takes is a key that no code reads, and is an error.
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from beartype import BeartypeConf
from beartype.door import is_bearable

from vision.errors import ConfigError, did_you_mean

T = TypeVar("T")
_MANY = 40
_INT_IS_A_FLOAT = BeartypeConf(is_pep484_tower=True)


def fill(
    function: Callable[..., Any],
    section: Any,
    path: str,
    *,
    provided: Collection[str] = (),
    common: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    """Returns the complete keyword arguments of ``function``: the section's, and defaults for the rest.

    Args:
      function: what the section configures.
      section: the keys and values a person wrote.
      path: where the section stands, for messages: ``"config.optimizer"``.
      provided: parameters that the code supplies; a section may not name them.
      common: a second function whose parameters the section holds too.

    Raises:
      ConfigError: an unknown key, a missing key, a wrong type or a value that is not allowed.
    """
    if not isinstance(section, Mapping):
        raise ConfigError(f"{path}: expected a section of keys, got {section!r}")
    parameters = {
        name: parameter
        for each in (common, function)
        if each is not None
        for name, parameter in inspect.signature(each).parameters.items()
        if name not in provided and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }
    for key in section:
        if key not in parameters:
            raise ConfigError(_unknown(f"{path}.{key}", key, parameters))
    filled = {}
    for name, parameter in parameters.items():
        if name in section:
            filled[name] = _checked(f"{path}.{name}", section[name], parameter.annotation)
        elif parameter.default is not parameter.empty:
            filled[name] = parameter.default
        else:
            raise ConfigError(f"{path}.{name}: missing; it has no default")
    return filled


def fill_named(
    registry: Mapping[str, Callable[..., Any]],
    section: Any,
    path: str,
    *,
    kind: str,
    provided: Collection[str] = (),
    common: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    """Like :func:`fill` for a section whose key ``name`` chooses the function; the result keeps ``name``."""
    if not isinstance(section, Mapping) or "name" not in section:
        raise ConfigError(f"{path}.name: missing; known {kind}s: {', '.join(sorted(registry))}")
    function = lookup(registry, section["name"], f"{path}.name", kind=kind)
    rest = {key: value for key, value in section.items() if key != "name"}
    return {"name": section["name"], **fill(function, rest, path, provided=provided, common=common)}


def lookup(registry: Mapping[str, T], name: Any, path: str, *, kind: str) -> T:
    """Returns ``registry[name]``; an unknown name is an error that gives the nearest and all known names."""
    if not isinstance(name, str) or name not in registry:
        raise ConfigError(f"{path}: unknown {kind} {name!r}{did_you_mean(str(name), registry)}; {_known(registry)}")
    return registry[name]


def call(function: Callable[..., T], section: Mapping[str, Any], path: str, **provided: Any) -> T:
    """Calls ``function`` with a filled section; a ``ValueError`` it raises becomes a ConfigError at ``path``."""
    arguments = {key: value for key, value in section.items() if key != "name"}
    try:
        return function(**arguments, **provided)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _known(registry: Collection[str]) -> str:
    if len(registry) <= _MANY:
        return f"known: {', '.join(sorted(registry))}"
    return f"{len(registry)} are known, of the families {', '.join(sorted({name.split('/')[0] for name in registry}))}"


def _unknown(path: str, key: str, known: Collection[str]) -> str:
    keys = ", ".join(sorted(known)) or "none"
    return f"{path}: unknown key, no code reads it{did_you_mean(key, known)}; known keys: {keys}"


def _checked(path: str, value: Any, annotation: Any) -> Any:
    """Returns the value if its annotation admits it (an int where a float is asked for becomes a float).

    Unions and tuples are taken apart here, because beartype looks at one item of a tuple only, drawn at random.
    """
    arguments = get_args(annotation)
    if annotation is inspect.Parameter.empty:
        return value
    if get_origin(annotation) is Literal:
        if value not in arguments:
            allowed = ", ".join(map(repr, arguments))
            raise ConfigError(f"{path}: {value!r} is not one of {allowed}{did_you_mean(str(value), arguments)}")
        return value
    if get_origin(annotation) in (Union, UnionType) and NoneType in arguments:
        rest = [argument for argument in arguments if argument is not NoneType]
        return None if value is None else _checked(path, value, Union[tuple(rest)])  # noqa: UP007
    if get_origin(annotation) is tuple and isinstance(value, tuple):
        kinds = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        if len(kinds) != len(value):
            raise ConfigError(f"{path}: expected {len(kinds)} values, got {value!r}")
        return tuple(
            _checked(f"{path}[{i}]", item, kind) for i, (item, kind) in enumerate(zip(value, kinds, strict=True))
        )
    wrong_bool = isinstance(value, bool) and annotation in (int, float)
    if wrong_bool or not is_bearable(value, annotation, conf=_INT_IS_A_FLOAT):
        raise ConfigError(f"{path}: expected {_readable(annotation)}, got {value!r} ({type(value).__name__})")
    return float(value) if annotation is float else value


def _readable(annotation: Any) -> str:
    if get_origin(annotation) is Mapping:
        return "a section of keys"
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(map(_readable, get_args(annotation)))
    return annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
