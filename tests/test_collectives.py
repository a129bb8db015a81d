"""Collectives are read from a compiled program's text: a wrong count would plan a pod that waits for its links."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mesh_of
from jax.sharding import NamedSharding, PartitionSpec

from vision.analysis import hlo
from vision.analysis.collectives import UNKNOWN, Collective, axes_of, collectives_of


def module(*lines: str, before: str = "") -> str:
    body = "\n".join(f"  {line}" for line in lines)
    return f"HloModule m\n\n{before}\nENTRY %main.1 (p: f32[8]) -> f32[8] {{\n{body}\n}}\n"


GROUPS = {
    # Of a mesh data=2, fsdp=2, tensor=2 whose partitions count in this order, in the three ways that XLA writes them.
    "fsdp": ("{{0,2},{1,3},{4,6},{5,7}}", "[4,2]<=[2,2,2]T(0,2,1)", "mesh['a'=2,'b'=2,'c'=2] {'b'}"),
    "data": ("{{0,4},{1,5},{2,6},{3,7}}", "[4,2]<=[2,4]T(1,0)", "mesh['a'=2,'b'=4] {'a'}"),
    "tensor": ("{{0,1},{2,3},{4,5},{6,7}}", "[4,2]<=[8]", "mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'a'}"),
    "data fsdp": ("{{0,2,4,6},{1,3,5,7}}", "[2,4]<=[4,2]T(1,0)", "mesh['a'=4,'b'=2] {'a'}"),
    "data fsdp tensor": ("{{0,1,2,3,4,5,6,7}}", "[1,8]<=[8]", "mesh['a'=8] {'a'}"),
}


@pytest.mark.parametrize("axes", GROUPS)
@pytest.mark.parametrize("form", range(3))
def test_axes_come_from_any_form_of_groups(axes, form):
    line = f"ROOT %r = f32[8]{{0}} all-reduce(%p), channel_id=1, replica_groups={GROUPS[axes][form]}, to_apply=%add"
    names = tuple(axes.split())
    expected = Collective("all-reduce", names, 2 ** len(names), 1, 32)
    assert collectives_of(module(line), mesh_of(8, data=2, fsdp=2, tensor=2)) == [expected]


@pytest.mark.parametrize(
    ("line", "kind", "payload"),
    [
        ("%r = (f32[4]{0}, bf16[2,3]{1,0:T(8,128)(2,1)}) all-reduce(%p, %q), replica_groups={}", "all-reduce", 28),
        ("%r = f32[4]{0} all-reduce-start(%p), replica_groups={}", "all-reduce", 16),
        ("%r = bf16[16,4]{1,0} all-gather(%p), replica_groups=[1,8]<=[8], dimensions={0}", "all-gather", 128),
        ("%r = (f32[2]{0}, f32[16]{0}) all-gather-start(%p), replica_groups=[1,8]<=[8]", "all-gather", 64),
        ("%r = f32[2]{0} reduce-scatter(%p), replica_groups=[1,8]<=[8], dimensions={0}", "reduce-scatter", 64),
        ("%r = (s8[4]{0}, s8[4]{0}) all-to-all(%p, %q), replica_groups=[1,8]<=[8]", "all-to-all", 8),
        (
            "%r = (f32[3]{0}, f32[3]{0}, u32[], u32[]) collective-permute-start(%p), source_target_pairs={{0,1},{1,0}}",
            "collective-permute",
            12,
        ),
    ],
)
def test_payload_is_the_whole_array_of_a_device(line, kind, payload):
    (found,) = collectives_of(module(line), mesh_of(8))
    assert (found.kind, found.payload, found.axes) == (kind, payload, ("data",))


def test_what_a_ring_sends():
    # Patarasuk and Yuan 2009: an all-reduce of n numbers over p processes sends 2 n (p - 1) / p.
    assert Collective("all-reduce", ("data",), 4, 1, 1000).sent == 1500
    assert Collective("all-gather", ("data",), 4, 1, 1000).sent == 750
    assert Collective("reduce-scatter", ("data",), 4, 1, 1000).sent == 750
    assert Collective("collective-permute", ("data",), 2, 1, 1000).sent == 1000


LOOP = """
%body (b: f32[8]) -> f32[8] {
  %b = f32[8]{0} parameter(0)
  ROOT %r = f32[8]{0} all-reduce(%b), channel_id=2, replica_groups=[1,8]<=[8], to_apply=%add
}

%condition (c: (s32[], f32[8])) -> pred[] {
  %limit = s32[]{:T(128)} constant(12)
  %c = (s32[], f32[8]{0}) parameter(0)
  %counter = s32[]{:T(128)} get-tuple-element(%c), index=0
  ROOT %lt = pred[]{:T(512)} compare(%counter, %limit), direction=LT
}
"""
TURNS = ', backend_config={"known_trip_count":{"n":"5"}}'


@pytest.mark.parametrize(("known", "turns"), [(TURNS, 5), ("", 12)])
def test_a_loop_counts_as_often_as_it_turns(known, turns):
    line = f"ROOT %w = (s32[], f32[8]{{0}}) while(%p), condition=%condition, body=%body{known}"
    (found,) = collectives_of(module(line, before=LOOP), mesh_of(8))
    assert (found.count, found.payload) == (turns, 32 * turns)


def test_what_a_tpu_does_in_pieces_or_under_another_name_counts_once():
    pieces = "\n".join(
        f"%piece.{n} (q: f32[1]) -> f32[8] {{\n  ROOT %g.{n} = f32[8]{{0}} all-gather(%q), channel_id=3, "
        "replica_groups=[1,8]<=[8], dimensions={0}\n}\n"
        for n in range(3)
    )
    scatter = (
        "%all-reduce-scatter.7 (q: f32[8]) -> f32[1] {\n  %s = f32[8]{0} all-reduce(%q), channel_id=4, "
        "replica_groups=[1,8]<=[8], to_apply=%add\n  ROOT %d = f32[1]{0} dynamic-slice(%s)\n}\n"
    )
    fusions = [f"%f.{n} = f32[8]{{0}} fusion(%p), kind=kCustom, calls=%piece.{n}" for n in range(3)]
    last = "ROOT %t = f32[1]{0} fusion(%p), kind=kCustom, calls=%all-reduce-scatter.7"
    found = collectives_of(module(*fusions, last, before=pieces + scatter), mesh_of(8))
    assert [(each.kind, each.count, each.payload) for each in found] == [
        ("all-gather", 1, 32),
        ("reduce-scatter", 1, 32),
    ]


def test_groups_that_are_no_axes_are_not_called_so():
    mesh = mesh_of(8, data=4, fsdp=2)
    assert axes_of(((0, 1, 2), (3, 4, 5)), mesh) == UNKNOWN
    assert axes_of(((0, 99),), mesh) == UNKNOWN
    assert axes_of(((0, 1),), None) == UNKNOWN
    assert collectives_of(module("ROOT %r = f32[8]{0} all-reduce(%p), replica_groups={{0},{1}}"), mesh) == []


def test_a_compiled_program_of_known_collectives():
    mesh = mesh_of(8, data=4, fsdp=2)
    spread, split = NamedSharding(mesh, PartitionSpec(("data", "fsdp"))), NamedSharding(mesh, PartitionSpec("fsdp"))

    def turn(x, _):
        return jax.lax.psum(x, "data") @ jnp.eye(16), None

    def run(x, y):
        looped = jax.shard_map(
            lambda x: jax.lax.scan(turn, x, None, length=3)[0],
            mesh=mesh,
            in_specs=PartitionSpec(("data", "fsdp")),
            out_specs=PartitionSpec("fsdp"),
            check_vma=False,
        )(x)
        return looped, jax.lax.with_sharding_constraint(y, NamedSharding(mesh, PartitionSpec()))

    x = jax.ShapeDtypeStruct((64, 16), np.float32, sharding=spread)
    y = jax.ShapeDtypeStruct((32, 32), np.float32, sharding=split)
    text = jax.jit(run).lower(x, y).compile().as_text()
    found = collectives_of(text, mesh)
    assert Collective("all-reduce", ("data",), 4, 3, 3 * 8 * 16 * 4) in found
    assert Collective("all-gather", ("fsdp",), 2, 1, 32 * 32 * 4) in found
    assert hlo.read(text).loops() == [3]
