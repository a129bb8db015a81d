"""Parameters that an objective reads and does not learn."""

from collections.abc import Set
from typing import Any

import jax

from vision.objectives.base import Objective

PyTree = Any


def with_frozen(objective: Objective, frozen: Set[str]) -> Objective:
    """Returns the objective whose gradient with respect to some parameters is zero, and is not computed.

    Where all parameters up to a layer are frozen, the backward pass ends there, and nothing is kept for it.

    Args:
      objective: any.
      frozen: paths of parameters, such as ``block00/conv1/kernel``.
    """

    def held(params: PyTree) -> PyTree:
        def each(path: Any, leaf: Any) -> Any:
            is_frozen = jax.tree_util.keystr(path, simple=True, separator="/") in frozen
            return jax.lax.stop_gradient(leaf) if is_frozen else leaf

        return jax.tree_util.tree_map_with_path(each, params)

    def forward(params, extra, batch, keys, train):
        return objective.forward(held(params), extra, batch, keys, train)

    def loss(params, outputs, extra, batch, step):
        return objective.loss(held(params), outputs, extra, batch, step)

    return objective._replace(forward=forward, loss=loss) if frozen else objective
