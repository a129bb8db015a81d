"""The examples that excite each feature map most, kept while examples stream by."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int


class Strongest(NamedTuple):
    """The strongest responses of every map so far, one for each example.

    Attributes:
      values: in falling order, ``[maps, k]``; -inf where fewer examples have been seen.
      examples: which ones they are of, ``[maps, k]``; -1 likewise.
      places: where in the map, counted row by row, ``[maps, k]``.
      seen: how many examples.
      mean: of each example's largest response, ``[maps]``.
      squares: sum of its squared deviations from the mean, ``[maps]``.
    """

    values: Float[Array, "maps k"]
    examples: Int[Array, "maps k"]
    places: Int[Array, "maps k"]
    seen: Int[Array, ""]
    mean: Float[Array, " maps"]
    squares: Float[Array, " maps"]


def none_yet(maps: int, k: int) -> Strongest:
    """Returns the state before the first example."""
    nobody = jnp.full((maps, k), -1)
    zeros = jnp.zeros(maps)
    return Strongest(jnp.full((maps, k), -jnp.inf), nobody, nobody, jnp.zeros((), int), zeros, zeros)


@jax.jit
def updated(
    strongest: Strongest,
    responses: Float[Array, "batch places maps"],
    examples: Int[Array, " batch"],
    there: Bool[Array, " batch"],
) -> Strongest:
    """Returns the state after a batch.

    An example counts with its largest response, as in the top-9 pictures of Zeiler and Fergus (2014, figure 2): nine
    different images. Of equal responses the earlier stays in front.

    Args:
      strongest: state before.
      responses: of the maps at every place.
      examples: number of each example.
      there: False for rows that only fill up the batch.
    """
    largest = jnp.max(responses, axis=1).astype(jnp.float32)
    ranked = jnp.where(there[:, None], largest, -jnp.inf)
    place = jnp.argmax(responses, axis=1)
    number = jnp.where(there, examples, -1)[:, None]
    values, order = lax.top_k(jnp.concatenate([strongest.values, ranked.T], axis=1), strongest.values.shape[1])
    of_batch = (jnp.broadcast_to(number, place.shape), place)
    kept_examples, kept_places = (
        jnp.take_along_axis(jnp.concatenate([before, now.T], axis=1), order, axis=1)
        for before, now in zip((strongest.examples, strongest.places), of_batch, strict=True)
    )
    # The moments of two parts together (Chan et al. 1979).
    count = jnp.sum(there)
    total = strongest.seen + count
    weight = there[:, None] / jnp.maximum(count, 1)
    mean = jnp.sum(largest * weight, axis=0)
    squares = jnp.sum(jnp.where(there[:, None], jnp.square(largest - mean), 0), axis=0)
    apart = mean - strongest.mean
    share = count / jnp.maximum(total, 1)
    return Strongest(
        values,
        kept_examples,
        kept_places,
        total,
        strongest.mean + apart * share,
        strongest.squares + squares + jnp.square(apart) * strongest.seen * share,
    )


def most_varied(strongest: Strongest, most: int) -> list[int]:
    """Returns the maps whose largest responses vary most between examples, as far as they vary, in that order."""
    order = jnp.argsort(-strongest.squares, stable=True)[:most].tolist()
    return [number for number in order if strongest.squares[number] > 0] or order[:1]
