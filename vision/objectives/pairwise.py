"""What every image has of every text, and the other way round, in three forms that differ in memory and in place.

A loss over all pairs of a batch needs of its matrix of logits only what each row and each column adds up to. So the
matrix is taken block by block, and what two blocks have is joined: nobody needs to hold all of it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

Form = Literal["dense", "chunked", "ring"]
# The mesh axes that a batch's examples are spread over (vision.training.sharding); nothing down here knows of those.
BATCH_AXES = ("data", "fsdp")


class Rows(NamedTuple):
    """Embeddings with their places in the batch."""

    embeddings: Float[Array, "rows size"]
    places: Int[Array, " rows"]


class Found(NamedTuple):
    """What each row has of the columns seen so far.

    Attributes:
      total: the sum, of whichever kind the loss needs.
      best: the largest logit.
      match: the place of the column that has it; of several the first.
    """

    total: Float[Array, " rows"]
    best: Float[Array, " rows"]
    match: Int[Array, " rows"]


class Add(NamedTuple):
    """A kind of sum.

    Attributes:
      join: of two.
      zero: what adds nothing.
    """

    join: Callable[[Array, Array], Array]
    zero: float


PLAIN = Add(jnp.add, 0.0)
LOG_OF_EXPONENTIALS = Add(jnp.logaddexp, -np.inf)
Block = Callable[[Any, Rows, Rows], tuple[Found, Found]]


def over_pairs(
    block: Block,
    add: Add,
    scalars: Any,
    image: Float[Array, "n size"],
    text: Float[Array, "n size"],
    *,
    form: Form,
    chunk_size: int | None,
    mesh: Mesh | None,
) -> tuple[Found, Found]:
    """Returns what each image has of all texts, and each text of all images.

    - ``dense`` takes the whole matrix at once; under ``jit`` with a sharded batch each device has its own rows.
    - ``chunked`` takes ``chunk_size`` rows at a time and makes them again in the backward pass, so that memory grows
      as chunk x n and not as n x n. Chunk k is the rows ``k::n / chunk_size``, as with microbatches: where a chunk
      divides over the devices, each works on its own rows.
    - ``ring``: every device keeps its images and hands the texts on to its neighbour until they are home again, so a
      device holds n / devices x n / devices logits at a time. The backward pass holds all texts, ``n x size``.

    Args:
      block: ``(scalars, images, texts) -> (of the images, of the texts)`` for any rows of the batch.
      add: joins two totals.
      scalars: what the loss is differentiated by beside the embeddings.
      image: embeddings.
      text: those of the texts; row i belongs to image i.
      form: see above.
      chunk_size: rows of a chunk, for ``chunked`` alone.
      mesh: the devices, for ``ring``.

    Raises:
      ValueError: the form is unknown, or the batch does not divide.
    """
    places = jnp.arange(len(image), dtype=jnp.int32)
    rows, columns = Rows(image, places), Rows(text, places)
    if (chunk_size is not None) != (form == "chunked"):
        raise ValueError(f"chunk_size and form 'chunked' go together, got chunk_size {chunk_size} and form {form!r}")
    if form == "dense":
        return block(scalars, rows, columns)
    if form == "chunked":
        return _chunked(block, add, scalars, rows, columns, chunk_size or 0)
    if form == "ring":
        return _ring(block, add, scalars, rows, columns, mesh)
    raise ValueError(f"form must be dense, chunked or ring, got {form!r}")


def nothing(size: int, add: Add) -> Found:
    """Returns what rows have of no columns at all."""
    return Found(
        jnp.full(size, add.zero), jnp.full(size, -jnp.inf), jnp.full(size, jnp.iinfo(jnp.int32).max, jnp.int32)
    )


def joined(one: Found, other: Found, add: Add) -> Found:
    """Returns what rows have of the columns of both; of equally large logits the one at the earlier place wins."""
    earlier = (other.best == one.best) & (other.match < one.match)
    taken = (other.best > one.best) | earlier
    return Found(
        add.join(one.total, other.total),
        jnp.where(taken, other.best, one.best),
        jnp.where(taken, other.match, one.match),
    )


def _chunked(block: Block, add: Add, scalars: Any, rows: Rows, columns: Rows, chunk_size: int) -> tuple[Found, Found]:
    size = len(rows.places)
    if chunk_size < 1 or size % chunk_size:
        raise ValueError(f"chunk_size {chunk_size} does not divide the batch of {size}")
    again = jax.checkpoint(block, prevent_cse=False)

    def next_chunk(theirs, part):
        own, more = again(scalars, part, columns)
        return joined(theirs, more, add), own

    split = lambda x: jnp.moveaxis(x.reshape(chunk_size, size // chunk_size, *x.shape[1:]), 1, 0)  # noqa: E731
    theirs, own = jax.lax.scan(next_chunk, nothing(size, add), jax.tree.map(split, rows))
    return jax.tree.map(lambda x: x.T.reshape(size), own), theirs


def _ring(block: Block, add: Add, scalars: Any, rows: Rows, columns: Rows, mesh: Mesh | None) -> tuple[Found, Found]:
    if mesh is None:
        raise ValueError("form 'ring' needs a mesh")
    size, devices = len(rows.places), int(np.prod([mesh.shape[axis] for axis in BATCH_AXES]))
    if size % devices:
        raise ValueError(f"a batch of {size} does not divide over {devices} devices")
    again = jax.checkpoint(block, prevent_cse=False)
    to_neighbour = [(here, (here + 1) % devices) for here in range(devices)]
    hand_on = partial(jax.lax.ppermute, axis_name=BATCH_AXES, perm=to_neighbour)

    def on_each(scalars, rows, columns):
        def hop(carry, _):
            own, columns, theirs = carry
            more_own, more = again(scalars, rows, columns)
            return (joined(own, more_own, add), *jax.tree.map(hand_on, (columns, joined(theirs, more, add)))), None

        # The type of what differs between devices says so.
        empty = jax.tree.map(lambda x: jax.lax.pcast(x, BATCH_AXES, to="varying"), nothing(size // devices, add))
        (own, _, theirs), _ = jax.lax.scan(hop, (empty, columns, empty), length=devices)
        return own, theirs  # after as many hops as there are devices, what the texts have found is home

    spread = PartitionSpec(BATCH_AXES)
    specs: dict[str, Any] = {"in_specs": (PartitionSpec(), spread, spread), "out_specs": (spread, spread)}
    return jax.shard_map(on_each, mesh=mesh, **specs)(scalars, rows, columns)
