"""A pull towards the parameters that training starts from, beside any objective."""

import re
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vision.objectives.base import Objective, copied

PyTree = Any
HEADS = r"(^|/)(distillation_)?head/"


def with_l2_sp(objective: Objective, *, alpha: float, beta: float, new: tuple[str, ...] = (HEADS,)) -> Objective:
    """Returns the objective with ``alpha / 2 ||w - w0||^2 + beta / 2 ||w'||^2`` added to its loss.

    This is L2-SP of Li, Grandvalet and Davoine 2018 (equation 4): w are the parameters that there were before, with
    their values w0 at the start of training, and w' those that are new, such as the head of other classes. The start
    is carried in ``extra["start"]``, in float32 at least, so that a resumed run is pulled to the same place.

    Args:
      objective: any.
      alpha: weight of the distance from the start.
      beta: weight of the squared norm of what is new.
      new: regular expressions over paths of parameters; what they match is new.

    Raises:
      ValueError: a negative weight.
    """
    for name, value in (("alpha", alpha), ("beta", beta)):
        if not 0.0 <= value < float("inf"):
            raise ValueError(f"{name} must be a number >= 0, got {value}")

    def is_new(path: str) -> bool:
        return any(re.search(pattern, path) for pattern in new)

    def init(key, batch_spec):
        params, extra = objective.init(key, batch_spec)
        return params, start(params, extra)

    def start(params, extra):
        known = {path: leaf for path, leaf in _by_path(params).items() if not is_new(path)}
        return {**objective.start(params, extra), "start": copied(known)}

    def loss(params, outputs, extra, batch, step):
        value, (extra, metrics) = objective.loss(params, outputs, extra, batch, step)
        leaves = _by_path(params)
        moved = _squares([leaves[path].astype(leaf.dtype) - leaf for path, leaf in extra["start"].items()])
        fresh = _squares([leaf for path, leaf in leaves.items() if is_new(path)])
        metrics = {**metrics, "distance_from_start": (jnp.sqrt(moved), jnp.ones(()))}
        return value + alpha / 2 * moved + beta / 2 * fresh, (extra, metrics)

    return objective._replace(init=init, start=start, loss=loss)


def _by_path(params: PyTree) -> dict[str, Array]:
    flat, _ = jax.tree_util.tree_flatten_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in flat}


def _squares(leaves: list[Array]) -> Float[Array, ""]:
    return sum((jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in leaves), jnp.zeros((), jnp.float32))
