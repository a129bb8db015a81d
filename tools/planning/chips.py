"""What a plan is for: so many chips of a kind, and the devices that stand for them."""

import importlib.metadata
import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from tools.planning.cuda import CUDA, topology_of
from vision.errors import UserError, did_you_mean
from vision.training.chips import CHIPS, Chip

# Of a TPU slice, how many lengths its topology has, and what libtpu calls the kind.
TPUS = {"v4": 3, "v5e": 2, "v5p": 3, "v6e": 2}
KINDS = (*TPUS, *CUDA, "cpu")
_EXAMPLES = "v5e:16x16, v5p:2x2x1, h100:8, h200, cpu:8"
_OF_A_HOST, _BETWEEN_HOSTS = 8, 50e9  # GPUs of a host; bytes a second of each one's 400 Gbit/s link to other hosts
# libtpu asks the host what machine it is, and complains where it is none.
_NO_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_STDERR_LOG_LEVEL": "3",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclass(frozen=True)
class Target:
    """Chips that a plan is for.

    Attributes:
      text: as given, such as ``v5e:4x4``.
      kind: one of :data:`KINDS`.
      count: of the chips.
      topology: of a TPU slice, else empty.
      chip: its published peaks; None for a CPU.
    """

    text: str
    kind: str
    count: int
    topology: str
    chip: Chip | None

    @property
    def extra(self) -> str:
        """The extra of this project that brings the compiler; empty where none is needed."""
        return "plan-tpu" if self.kind in TPUS else "plan-gpu" if self.kind in CUDA else ""


@dataclass(frozen=True)
class Devices:
    """What a program is compiled for.

    Attributes:
      devices: as many as there are chips.
      compiler: its name, for people.
      exact: whether it is the compiler of these chips; host devices stand for them otherwise.
    """

    devices: Sequence[Any]
    compiler: str
    exact: bool


def read_target(text: str) -> Target:
    """Returns the chips that a text such as ``v5e:16x16`` names.

    Raises:
      UserError: an unknown kind, or no number or topology that it can have.
    """
    kind, _, size = text.partition(":")
    if kind not in KINDS:
        raise UserError(f"--chip {text}: unknown kind{did_you_mean(kind, KINDS)}; write one such as {_EXAMPLES}")
    if kind in TPUS:
        lengths = [int(length) for length in size.split("x")] if re.fullmatch(r"\d+(x\d+)*", size) else []
        if len(lengths) != TPUS[kind] or not all(lengths):
            example = "x".join(["2", "2", "1"][: TPUS[kind]])
            raise UserError(f"--chip {text}: a slice of {kind} has {TPUS[kind]} lengths, as {kind}:{example}")
        count = 1
        for length in lengths:
            count *= length
        return Target(text, kind, count, size, CHIPS[kind])
    if not re.fullmatch(r"[1-9]\d*|", size):
        raise UserError(f"--chip {text}: write a number of chips, as {kind}:8")
    count = int(size or 1)
    if kind in CUDA and count > _OF_A_HOST and count % _OF_A_HOST:
        raise UserError(f"--chip {text}: more than {_OF_A_HOST} are whole hosts of {_OF_A_HOST}")
    return Target(text, kind, count, "", CHIPS.get(kind))


def links_of(target: Target, mesh: Mapping[str, int], kind: str, axes: Sequence[str]) -> float:
    """Returns the bytes a second that a chip sends in a collective; 0 for a CPU.

    Chips of a TPU slice, and cards within a host, send over the chip's links. Between hosts every card has a slower one
    of its own: what goes round a ring leaves a host over those of all its cards in the group, each for a part of the
    array (as NCCL's rings do); what is exchanged or permuted leaves over its own card's alone.

    Args:
      target: the chips.
      mesh: sizes of the axes, in their order, as :func:`vision.training.sharding.make_mesh` lays out devices.
      kind: one of :data:`vision.analysis.collectives.KINDS`.
      axes: along which the group goes; of others than the mesh's the slowest link is taken.
    """
    if target.chip is None:
        return 0.0
    if target.kind not in CUDA or target.count <= _OF_A_HOST:
        return target.chip.links
    if not set(axes) <= set(mesh):
        return _BETWEEN_HOSTS
    hosts = np.arange(target.count).reshape(tuple(mesh.values())) // _OF_A_HOST
    together = [place for place, axis in enumerate(mesh) if axis in axes]
    groups = np.moveaxis(hosts, together, range(len(together))).reshape(math.prod(mesh[axis] for axis in axes), -1)
    if (groups == groups[0]).all():
        return target.chip.links
    if kind in ("all-to-all", "collective-permute"):
        return _BETWEEN_HOSTS
    return min(target.chip.links, _BETWEEN_HOSTS * min(Counter(group).most_common()[-1][1] for group in groups.T))


def has_compiler(target: Target) -> bool:
    """Returns whether the compiler of these chips is installed."""
    package = {"plan-tpu": "libtpu", "plan-gpu": "jax_cuda12_plugin"}.get(target.extra)
    return package is not None and find_spec(package) is not None


def prepare(target: Target) -> None:
    """Sets the environment for a plan; must come before JAX is imported.

    No device of this machine is used but its CPU, split into as many devices as there are chips where it stands for
    them.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    for name, value in _NO_TPU.items() if target.kind in TPUS else ():
        os.environ.setdefault(name, value)
    if not has_compiler(target):
        flags = os.environ.get("XLA_FLAGS", "").split()
        flags = [flag for flag in flags if not flag.startswith("--xla_force_host_platform_device_count")]
        os.environ["XLA_FLAGS"] = " ".join([*flags, f"--xla_force_host_platform_device_count={target.count}"])


def devices_of(target: Target) -> Devices:
    """Returns the devices to compile for, none of which need be there.

    Raises:
      UserError: there is no such topology, or the host has too few devices to stand for the chips.
    """
    import jax
    from jax.experimental import topologies

    if not has_compiler(target):
        host = jax.devices("cpu")
        if len(host) < target.count:
            raise UserError(f"--chip {target.text}: JAX was started with {len(host)} devices of the CPU")
        return Devices(host[: target.count], f"XLA for CPU, {target.count} devices of the host", target.kind == "cpu")
    try:
        if target.kind in TPUS:
            found = topologies.get_topology_desc(platform="tpu", topology_name=target.text)
            name = f"libtpu {importlib.metadata.version('libtpu')}"
        else:
            options = {"target_config": CUDA[target.kind], "topology": topology_of(target.count, _OF_A_HOST)}
            found = topologies.get_topology_desc(platform="cuda", **options)
            name = f"XLA for CUDA {importlib.metadata.version('jax-cuda12-plugin')}"
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise UserError(f"--chip {target.text}: {str(error).splitlines()[0]}") from error
    if len(found.devices) != target.count:
        raise UserError(f"--chip {target.text}: the compiler knows it with {len(found.devices)} devices")
    return Devices(found.devices, name, True)
