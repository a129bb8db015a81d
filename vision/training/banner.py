"""What a run says when it starts: what learns, on which devices, how it is divided, and what that takes."""

import os
from pathlib import Path
from typing import Any

import jax

from vision.models.precision import Precision
from vision.training.assemble import Experiment
from vision.training.sharding import BATCH_AXES, describe

PyTree = Any
# What the drivers of accelerators make, and how JAX is installed for each.
_DEVICES = {"nvidia[0-9]*": "cuda", "accel[0-9]*": "tpu", "vfio/[0-9]*": "tpu"}


def greeting(experiment: Experiment, *, reason: str, path: Path, step: int, per_dispatch: int) -> list[str]:
    """Returns the lines.

    Args:
      experiment: what is trained.
      reason: where it starts from.
      path: the run's folder.
      step: where it has got to.
      per_dispatch: steps in one dispatch.
    """
    config, state, mesh = experiment.config, experiment.abstract_state, experiment.mesh
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    devices = f"{mesh.size} x {jax.devices()[0].device_kind} ({jax.default_backend()})"
    lines = [
        f"{config['model']['name']}: {count:,} parameters, {len(experiment.source):,} examples, "
        f"{experiment.total_steps} steps on {devices}; {reason}; in {path}",
        f"{_division(experiment)}; {_types(config['precision'])}",
    ]
    lines += [warning for warning in (forgotten_accelerator(), _idle_axis(experiment)) if warning]
    special = experiment.describe(experiment.stage_at(step))
    if special:
        lines.append(f"at first {special}" if len(experiment.stages) > 1 else special)
    asked = config["steps_per_dispatch"]
    if per_dispatch < asked:
        possible = experiment.steps_per_dispatch == asked
        why = "something is due that often" if possible else "convolutions are slow in a loop on a CPU"
        lines.append(f"{per_dispatch} steps per dispatch instead of {asked}: {why}")
    return lines


def memory_of(program: Any, *arguments: PyTree) -> str:
    """Returns what a program that has run takes of a device's memory, as its compiler laid it out.

    Nothing is compiled again: JAX keeps the program by the shapes and shardings of its arguments.

    Args:
      program: jitted, a step or several in one dispatch.
      *arguments: such as it ran with; the state may be the one that it returned.
    """
    stats = program.lower(*arguments).compile().memory_analysis()
    if stats is None:
        return "the compiler does not say what memory a step takes"
    held = stats.argument_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes
    between = stats.temp_size_in_bytes
    return f"a step takes {size(held + between)} a device: {size(held)} of state and data, {size(between)} in between"


def bytes_of(state: PyTree, *, of_a_device: bool) -> int:
    """Returns the bytes of a state of shapes with shardings: of all of it, or of what one device holds."""

    def of(leaf: Any) -> int:
        shape = leaf.sharding.shard_shape(leaf.shape) if of_a_device else leaf.shape
        return jax.ShapeDtypeStruct(shape, leaf.dtype).size * leaf.dtype.itemsize

    return sum(of(leaf) for leaf in jax.tree.leaves(state))


def forgotten_accelerator(root: Path = Path("/dev")) -> str | None:
    """Returns a warning where JAX computes on the CPU, nobody asked for that, and an accelerator is there."""
    if jax.default_backend() != "cpu" or os.environ.get("JAX_PLATFORMS", "").split(",")[0] == "cpu":
        return None
    for pattern, extra in _DEVICES.items():
        for found in sorted(root.glob(pattern)):
            return (
                f"WARNING: ON THE CPU, although there is {found}: JAX here cannot use it; pip install -e '.[{extra}]', "
                "or say JAX_PLATFORMS=cpu"
            )
    return None


def _types(precision: str) -> str:
    types = Precision.parse(precision)
    same = types.params == types.compute == types.output
    return types.params.name if same else f"{types.params.name} computed in {types.compute.name}"


def _division(experiment: Experiment) -> str:
    config, mesh = experiment.config, experiment.mesh
    share, whole = (bytes_of(experiment.abstract_state, of_a_device=each) for each in (True, False))
    rows = config["batch_size"] // (mesh.shape[BATCH_AXES[0]] * mesh.shape[BATCH_AXES[1]])
    said = f"{rows} examples and {size(share)} of state a device"
    if mesh.size == 1:
        return said
    strategy = config["sharding"] if isinstance(config["sharding"], str) else "rules of its own"
    said += f" (of {size(whole)})" if share != whole else ""
    return f"{' '.join(f'{axis}={each}' for axis, each in describe(mesh).items())}, sharding {strategy}: {said}"


def _idle_axis(experiment: Experiment) -> str | None:
    """What to know where an axis of the mesh, which the batch is not divided over, divides nothing else either."""
    leaves = jax.tree.leaves(experiment.abstract_state)
    for axis, count in describe(experiment.mesh).items():
        if axis not in BATCH_AXES and not any(axis in leaf.sharding.spec for leaf in leaves):
            return f"warning: nothing is divided over {axis}: its {count} devices all compute the same"
    return None


def size(count: int) -> str:
    """Returns a number of bytes for people."""
    for unit, each in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= each:
            return f"{count / each:.1f} {unit}"
    return f"{count / 2**10:.1f} KiB"
