"""What the devices of a compiled program tell each other: kind, axis of the mesh, how often, how many bytes."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jax.sharding import Mesh

from vision.analysis.hlo import Instruction, Program, members_of, read, size_of

KINDS = ("all-reduce", "reduce-scatter", "all-gather", "all-to-all", "collective-permute", "collective-broadcast")
UNKNOWN = ("?",)
Axes = tuple[str, ...]
Groups = tuple[tuple[int, ...], ...]

_LISTED = re.compile(r"(?:replica_groups|source_target_pairs)=\{((?:\{[\d,]*\},?)*)\}")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? ?\{([^}]*)\}")


@dataclass(frozen=True)
class Collective:
    """The collectives of one kind over the same axes.

    Attributes:
      kind: one of :data:`KINDS`.
      axes: of the mesh; :data:`UNKNOWN` where the groups are no product of axes, or the mesh is not known.
      devices: in a group.
      count: how often in a run of the program.
      payload: bytes of the whole array on one device, summed over the count: what is reduced, what is gathered
        altogether, what is scattered, sent or exchanged.
    """

    kind: str
    axes: Axes
    devices: int
    count: int
    payload: int

    @property
    def sent(self) -> float:
        """Bytes that a device sends where data go round a ring, the least there can be.

        These are ``2 (n - 1) / n`` of what n devices reduce (Patarasuk and Yuan 2009, section 3) and ``(n - 1) / n`` of
        what they scatter, gather or exchange; a permuted or broadcast array is sent once.
        """
        share = (self.devices - 1) / self.devices
        factors = {"all-reduce": 2 * share, "collective-permute": 1.0, "collective-broadcast": 1.0}
        return self.payload * factors.get(self.kind, share)


def collectives_of(program: Program | str, mesh: Mesh | None = None) -> list[Collective]:
    """Returns the collectives of a program, those over the same axes together, the largest first.

    What is in the body of a loop counts as often as the loop turns, as far as that is known; a collective that TPUs
    do in pieces, beside computation, counts once.

    Args:
      program: the optimised module, or its text as ``compiled.as_text()`` gives it.
      mesh: devices in the order of the program's partitions, for the names of the axes.
    """
    program = read(program) if isinstance(program, str) else program
    sums: dict[tuple[str, Axes, int], list[int]] = {}
    for each, kind, times in _all_of(program):
        groups = _groups(each.rest)
        devices = max((len(group) for group in groups), default=mesh.size if mesh is not None else 1)
        if devices == 1:
            continue  # one device alone: nothing is sent
        entry = sums.setdefault((kind, axes_of(groups, mesh), devices), [0, 0])
        entry[0] += times
        entry[1] += times * _payload(each, kind)
    rows = [Collective(*key, count, payload) for key, (count, payload) in sums.items()]
    return sorted(rows, key=lambda row: (-row.payload, row.kind, row.axes))


def axes_of(groups: Groups, mesh: Mesh | None) -> Axes:
    """Returns the axes of the mesh along which devices of a group differ; all axes where no groups are given."""
    if mesh is None:
        return UNKNOWN
    sizes = dict(mesh.shape)
    if not groups:
        return tuple(name for name, size in sizes.items() if size > 1)
    if max(map(max, groups)) >= mesh.size:
        return UNKNOWN
    places = np.stack(np.unravel_index(np.arange(mesh.size), tuple(sizes.values())), axis=1)
    varying = {int(axis) for group in groups for axis in np.flatnonzero(np.ptp(places[list(group)], axis=0))}
    names = tuple(name for axis, name in enumerate(sizes) if axis in varying)
    whole = math.prod(sizes[name] for name in names)
    # The pairs of a permutation go along an axis without reaching all of it.
    return names if all(len(group) in (whole, 2) for group in groups) else UNKNOWN


def _all_of(program: Program) -> Iterator[tuple[Instruction, str, int]]:
    """Every collective, its kind and how often it takes place."""
    seen: set[str] = set()
    for name, instructions in program.computations.items():
        for each in instructions:
            kind = each.opcode.removesuffix("-start")
            times = program.times[name]
            if kind not in KINDS or not times:
                continue
            channel = re.search(r"channel_id=(\d+)", each.rest)
            if name in program.fused and channel is not None:
                if channel.group(1) in seen:
                    continue
                seen.add(channel.group(1))
            # TPUs write a reduction of which each device keeps a part as a fusion of this name.
            scattered = kind == "all-reduce" and name.startswith("all-reduce-scatter")
            yield each, "reduce-scatter" if scattered else kind, times


def _payload(each: Instruction, kind: str) -> int:
    members = members_of(each.shape)
    if each.opcode in ("all-gather-start", "collective-permute-start") and len(members) > 1:
        return size_of(members[1])  # the first is what goes in
    size = size_of(each.shape)
    if each.opcode.startswith("reduce-scatter"):
        size *= max((len(group) for group in _groups(each.rest)), default=1)
    return size


def _groups(rest: str) -> Groups:
    """The devices that talk to each other, as numbers of partitions; empty for all of them."""
    if match := _LISTED.search(rest):
        return tuple(_numbers(part) for part in re.findall(r"\{([\d,]+)\}", match.group(1)))
    if match := _IOTA.search(rest):
        shape, dimensions, order = (_numbers(part or "") for part in match.groups())
        return _rows(_iota(dimensions, order).reshape(shape))
    if match := _MESH.search(rest):
        axes = dict(re.findall(r"'([^']*)'=(\d+)", match.group(1)))
        sizes = tuple(map(int, axes.values()))
        dimensions = _numbers(match.group(2)) if match.group(2) else (math.prod(sizes),)
        ids = _iota(dimensions, _numbers(match.group(3) or "")).reshape(sizes)
        together = [list(axes).index(name) for name in re.findall(r"'([^']*)'", match.group(4))]
        apart = [axis for axis in range(len(sizes)) if axis not in together]
        return _rows(ids.transpose(apart + together).reshape(-1, math.prod(sizes[axis] for axis in together)))
    return ()


def _iota(dimensions: Sequence[int], order: Sequence[int]) -> np.ndarray:
    numbers = np.arange(math.prod(dimensions)).reshape(dimensions)
    return numbers.transpose(order) if order else numbers


def _rows(array: np.ndarray) -> Groups:
    return tuple(tuple(map(int, row)) for row in array)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)
