"""Where arrays live: a mesh, and tactics chosen by regular expressions over the paths of the whole state."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from vision.errors import ConfigError, did_you_mean
from vision.training.rules import check_pattern, path_of, paths_of
from vision.training.strategies import STRATEGIES, TacticRule

PyTree = Any
AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")
Strategy = str | tuple[TacticRule | str, ...]
_TACTIC = re.compile(
    r"^(?:replicate|fsdp\((?P<fsdp>\w+)(?:, *(?P<size>\d+))?\)|split\((?P<dim>-?\d+), *(?P<split>\w+)\))$"
)


class _Part(NamedTuple):
    """One part of a tactic: its kind, a mesh axis, and a dimension or the smallest size."""

    kind: str
    axis: str = ""
    number: int = 0


class _Resolved(NamedTuple):
    """A rule that has been read; ``lenient`` where it comes from a name, and so cannot know the arrays."""

    pattern: str
    parts: tuple[_Part, ...]
    text: str
    lenient: bool


def make_mesh(*, data: int = -1, fsdp: int = 1, tensor: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns a mesh over all devices of all processes, or those given; one axis may be -1, "what is left".

    Raises:
      ValueError: the sizes do not multiply to the number of devices.
    """
    sizes = {"data": data, "fsdp": fsdp, "tensor": tensor}
    count = jax.device_count() if devices is None else len(devices)
    free = [name for name, size in sizes.items() if size == -1]
    if len(free) > 1 or any(size < 1 and size != -1 for size in sizes.values()):
        raise ValueError(f"axis sizes must be positive, at most one of them -1, got {sizes}")
    known = int(np.prod([size for size in sizes.values() if size != -1]))
    if free and count % known == 0:
        sizes[free[0]] = count // known
    if int(np.prod(list(sizes.values()))) != count:
        raise ValueError(f"axes {sizes} do not fit {count} devices")
    return jax.make_mesh(tuple(sizes.values()), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a batch's leading axis: over ``data`` and ``fsdp`` together."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def over_rows(mesh: Mesh) -> Callable[[Array], Array]:
    """Returns what pins the first axis of an array inside a step to :func:`batch_sharding`; its other axes are free.

    Where the axis does not divide, nothing is pinned.
    """
    parts = math.prod(mesh.shape[axis] for axis in BATCH_AXES)

    def divide(x: Array) -> Array:
        if parts == 1 or x.shape[0] % parts:
            return x
        free = (PartitionSpec.UNCONSTRAINED,) * (x.ndim - 1)
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(BATCH_AXES, *free)))

    return divide


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def state_shardings(state: PyTree, mesh: Mesh, strategy: str | Sequence[Any], where: str) -> PyTree:
    """Resolves a strategy over a state of shapes; init, step and restore share the result.

    A strategy is a name of :data:`vision.training.strategies.STRATEGIES`, or ``(regex, tactic)`` rules with such names
    among them, which stand for their rules. The first rule that matches a path such as ``params/head/kernel`` or
    ``opt_state/0/mu/head/kernel`` decides; without one an array is replicated. Tactics:

    - ``replicate``;
    - ``fsdp(axis)``: split the largest dimension that the mesh axis divides, replicate where there is none;
      ``fsdp(axis, size)`` leaves arrays of fewer numbers whole;
    - ``split(dim, axis)``: split that dimension; for arrays without it, such as an optimizer's counter, replicate;
    - ``split(-1, tensor) + fsdp(fsdp)``: one after the other, each a dimension that those before it left whole.

    A rule of one's own must match an array and its split must divide; rules of a name do what they can.

    Raises:
      ConfigError: an unknown name, tactic or axis, a regex that matches nothing, or a dimension that does not divide.
    """
    paths = paths_of(state)
    rules: list[_Resolved] = []
    for position, rule in enumerate([strategy] if isinstance(strategy, str) else strategy):
        here = where if isinstance(strategy, str) else f"{where}[{position}]"
        if isinstance(rule, str):
            if rule not in STRATEGIES:
                known = ", ".join(STRATEGIES)
                raise ConfigError(f"{here}: unknown strategy {rule!r}{did_you_mean(rule, STRATEGIES)}; known: {known}")
            rules += [_Resolved(pattern, _parse(tactic, here), tactic, True) for pattern, tactic in STRATEGIES[rule]]
            continue
        if not (isinstance(rule, tuple) and len(rule) == 2 and all(isinstance(part, str) for part in rule)):
            raise ConfigError(f"{here}: write a rule as (regex, tactic), or a strategy's name, got {rule!r}")
        check_pattern(rule[0], paths, here)
        rules.append(_Resolved(rule[0], _parse(rule[1], here), rule[1], False))

    def resolve(path, leaf):
        name = path_of(path)
        rule = next((rule for rule in rules if re.search(rule.pattern, name)), None)
        spec = PartitionSpec()
        if rule is not None:
            spec = _spec(leaf.shape, rule, mesh, f"{where}: {rule.text} of {name} {leaf.shape}")
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(resolve, state)


def with_shardings(state: PyTree, shardings: PyTree) -> PyTree:
    """Returns the shapes of a state, each with its sharding: the explicit target of a restore."""
    return jax.tree.map(lambda s, sharding: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding), state, shardings)


def check_batch(batch_size: int, mesh: Mesh, microbatches: int, where: str = "config.batch_size") -> None:
    """Raises a ConfigError where the batch does not divide over devices and microbatches."""
    devices = int(np.prod([mesh.shape[axis] for axis in BATCH_AXES]))
    if batch_size < 1 or batch_size % (devices * microbatches):
        raise ConfigError(f"{where}: {batch_size} does not divide over {devices} devices x {microbatches} microbatches")


def _parse(tactic: str, where: str) -> tuple[_Part, ...]:
    parts = []
    for text in tactic.split("+"):
        match = _TACTIC.match(text.strip())
        axis = (match["fsdp"] or match["split"] or "") if match else ""
        if match is None or (axis and axis not in AXES):
            raise ConfigError(
                f"{where}: unknown tactic {text.strip()!r}; write replicate, fsdp(axis), fsdp(axis, size) or "
                f"split(dim, axis), or some of them with + between, axes {AXES}"
            )
        if match["fsdp"]:
            parts.append(_Part("fsdp", axis, int(match["size"] or 0)))
        elif match["split"]:
            parts.append(_Part("split", axis, int(match["dim"])))
    return tuple(parts)


def _spec(shape: Sequence[int], rule: _Resolved, mesh: Mesh, where: str) -> PartitionSpec:
    spec: list[str | None] = [None] * len(shape)
    for kind, axis, number in rule.parts:
        size = mesh.shape[axis]
        if size == 1 or axis in spec:
            continue
        free = [d for d, length in enumerate(shape) if spec[d] is None and length % size == 0]
        if kind == "fsdp":
            if free and math.prod(shape) >= number:
                spec[max(free, key=lambda d: shape[d])] = axis
        elif -len(shape) <= number < len(shape):
            if number % len(shape) in free:
                spec[number % len(shape)] = axis
            elif not rule.lenient:
                raise ConfigError(f"{where}: dimension {number} does not divide over {size} devices")
    return PartitionSpec(*spec) if any(spec) else PartitionSpec()


def describe(mesh: Mesh) -> Mapping[str, int]:
    """Returns the axes larger than 1, for people."""
    return {axis: size for axis, size in mesh.shape.items() if size > 1}
