"""The Kozachenko-Leonenko entropy of a batch: features are to be spread evenly."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vision.models.projection import unit

_EPSILON = 1e-8


def koleo(features: Float[Array, "batch width"]) -> Float[Array, ""]:
    """Returns ``-mean_i log ||x_i - x_nn(i)||`` of features of length 1, nn(i) being i's nearest neighbour.

    In float32, over the global batch. Sablayrolles et al. 2019, equation 2; DINOv2 (Oquab et al. 2024), section 4,
    with its epsilons: 1e-8 is added to every difference and to every distance.
    """
    x = unit(features, axis=-1)
    similarity = jnp.where(jnp.eye(len(x), dtype=bool), -1.0, x @ x.T)
    nearest = jax.lax.stop_gradient(jnp.argmax(similarity, axis=1))
    distance = jnp.sqrt(jnp.sum(jnp.square(x - x[nearest] + _EPSILON), axis=-1))
    return -jnp.mean(jnp.log(distance + _EPSILON))
