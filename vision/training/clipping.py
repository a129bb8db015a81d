"""Bounds on the norm of a gradient: of all parameters together, of each tensor, or of each part of the network."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from vision.training.rules import map_paths

PyTree = Any
Over = Literal["all", "tensor", "module"]
_EPSILON = 1e-6


def clip_norms(most: float, over: Over, frozen: PyTree) -> optax.GradientTransformation:
    """Returns a transformation that scales gradients down to a norm of ``most``.

    ``all`` is the usual ``min(1, most / ||g||)`` of the whole gradient. ``tensor`` takes the norm of each parameter
    on its own (DINO) and ``module`` that of each entry at the top of the tree, such as backbone and head (DINOv2);
    both multiply by ``min(1, most / (norm + 1e-6))``, as PyTorch's ``clip_grad_norm_`` and DINO's code do.

    Args:
      most: the bound, above 0.
      over: what a norm is of.
      frozen: for each parameter whether it is not trained; its gradient becomes 0 and counts nowhere.
    """
    groups = map_paths(lambda path: path if over == "tensor" else path.split("/")[0], frozen)

    def apply(updates: PyTree, params: PyTree) -> PyTree:
        updates = jax.tree.map(lambda g, off: jnp.zeros_like(g) if off else g, updates, frozen)
        if over == "all":
            return optax.clip_by_global_norm(most).update(updates, optax.EmptyState())[0]
        squares: dict[str, Any] = {}
        for name, leaf in zip(jax.tree.leaves(groups), jax.tree.leaves(updates), strict=True):
            squares[name] = squares.get(name, 0.0) + jnp.sum(jnp.square(leaf.astype(jnp.float32)))
        scales = {name: jnp.minimum(1.0, most / (jnp.sqrt(square) + _EPSILON)) for name, square in squares.items()}
        return jax.tree.map(lambda g, name: (g * scales[name]).astype(g.dtype), updates, groups)

    return optax.stateless(apply)
