"""Where arrays live: a mesh, and tactics chosen by regular expressions over the paths of the whole state."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vision.errors import ConfigError
from vision.training.rules import check_pattern, path_of, paths_of

PyTree = Any
AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")
TacticRule = tuple[str, str]
_TACTIC = re.compile(r"^(?:(replicate)|fsdp\((\w+)\)|split\((-?\d+), *(\w+)\))$")


def make_mesh(*, data: int = -1, fsdp: int = 1, tensor: int = 1) -> Mesh:
    """Returns a mesh over all devices of all processes; one axis may be -1, "what is left".

    Raises:
      ValueError: the sizes do not multiply to the number of devices.
    """
    sizes = {"data": data, "fsdp": fsdp, "tensor": tensor}
    count = jax.device_count()
    free = [name for name, size in sizes.items() if size == -1]
    if len(free) > 1 or any(size < 1 and size != -1 for size in sizes.values()):
        raise ValueError(f"axis sizes must be positive, at most one of them -1, got {sizes}")
    known = int(np.prod([size for size in sizes.values() if size != -1]))
    if free and count % known == 0:
        sizes[free[0]] = count // known
    if int(np.prod(list(sizes.values()))) != count:
        raise ValueError(f"axes {sizes} do not fit {count} devices")
    return jax.make_mesh(tuple(sizes.values()), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a batch's leading axis: over ``data`` and ``fsdp`` together."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def state_shardings(state: PyTree, mesh: Mesh, rules: Sequence[Any], where: str) -> PyTree:
    """Resolves ``(regex, tactic)`` rules over a state of shapes; init, step and restore share the result.

    The first rule that matches a path such as ``params/head/kernel`` or ``opt_state/0/mu/head/kernel`` decides;
    without one an array is replicated. Tactics:

    - ``replicate``;
    - ``fsdp(axis)``: split the largest dimension that the mesh axis divides, replicate where there is none;
    - ``split(dim, axis)``: split that dimension; for arrays without it, such as an optimizer's counter, replicate.

    Raises:
      ConfigError: an unknown tactic or axis, a regex that matches nothing, or a dimension that does not divide.
    """
    paths = paths_of(state)
    for position, rule in enumerate(rules):
        here = f"{where}[{position}]"
        if not (isinstance(rule, tuple) and len(rule) == 2 and all(isinstance(part, str) for part in rule)):
            raise ConfigError(f"{here}: write a rule as (regex, tactic), got {rule!r}")
        check_pattern(rule[0], paths, here)
        _parse(rule[1], here)

    def resolve(path, leaf):
        name = path_of(path)
        tactic = next((tactic for pattern, tactic in rules if re.search(pattern, name)), "replicate")
        return NamedSharding(mesh, _spec(leaf.shape, tactic, mesh, f"{where}: {tactic} of {name} {leaf.shape}"))

    return jax.tree_util.tree_map_with_path(resolve, state)


def with_shardings(state: PyTree, shardings: PyTree) -> PyTree:
    """Returns the shapes of a state, each with its sharding: the explicit target of a restore."""
    return jax.tree.map(lambda s, sharding: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding), state, shardings)


def check_batch(batch_size: int, mesh: Mesh, microbatches: int, where: str = "config.batch_size") -> None:
    """Raises a ConfigError where the batch does not divide over devices and microbatches."""
    devices = int(np.prod([mesh.shape[axis] for axis in BATCH_AXES]))
    if batch_size < 1 or batch_size % (devices * microbatches):
        raise ConfigError(f"{where}: {batch_size} does not divide over {devices} devices x {microbatches} microbatches")


def _parse(tactic: str, where: str) -> tuple[str, int, str]:
    match = _TACTIC.match(tactic)
    axis = (match.group(2) or match.group(4) or "") if match else ""
    if match is None or (axis and axis not in AXES):
        raise ConfigError(
            f"{where}: unknown tactic {tactic!r}; write replicate, fsdp(axis) or split(dim, axis), axes {AXES}"
        )
    return ("replicate" if match.group(1) else "split" if match.group(3) else "fsdp"), int(match.group(3) or 0), axis


def _spec(shape: Sequence[int], tactic: str, mesh: Mesh, where: str) -> PartitionSpec:
    kind, dimension, axis = _parse(tactic, where)
    if kind == "replicate" or mesh.shape[axis] == 1:
        return PartitionSpec()
    size = mesh.shape[axis]
    if kind == "fsdp":
        divisible = [d for d, length in enumerate(shape) if length % size == 0]
        if not divisible:
            return PartitionSpec()
        dimension = max(divisible, key=lambda d: shape[d])
    elif not -len(shape) <= dimension < len(shape):
        return PartitionSpec()
    elif shape[dimension] % size:
        raise ConfigError(f"{where}: dimension {dimension} does not divide over {size} devices")
    spec: list[str | None] = [None] * len(shape)
    spec[dimension] = axis
    return PartitionSpec(*spec)


def describe(mesh: Mesh) -> Mapping[str, int]:
    """Returns the axes larger than 1, for people."""
    return {axis: size for axis, size in mesh.shape.items() if size > 1}
