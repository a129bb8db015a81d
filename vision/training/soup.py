"""Weight soups: the average of fine-tuned networks in place of one of them.

Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned models improves accuracy without
increasing inference time" (arXiv:2203.05482). Everything here is a pure function of states; what evaluates a state
evaluates a soup.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vision.errors import UserError
from vision.models.frozen import frozen_modules
from vision.models.interface import Model, Variables
from vision.training.rules import path_of
from vision.training.state import TrainState

PyTree = Any
STATISTICS = "batch_stats"
Note = Callable[[str], None]


class Greedy(NamedTuple):
    """What a greedy soup was made of.

    Attributes:
      state: the soup.
      kept: positions of its ingredients, the best first.
      alone: the metric of each ingredient by itself.
      value: the metric of the soup.
    """

    state: TrainState
    kept: tuple[int, ...]
    alone: tuple[float, ...]
    value: float


def average(states: Sequence[TrainState], names: Sequence[str]) -> TrainState:
    """Returns the mean of each array of parameters and collections; sums are in float64, types stay.

    The optimizers' memories are left behind: they belong to no average.

    Args:
      states: of one architecture.
      names: of each, for messages.

    Raises:
      UserError: an array is not in all of them in one shape and type, or differs where it holds whole numbers.
    """
    check_same_arrays(states, names)
    trees = [jax.device_get((state.params, state.extra)) for state in states]
    params, extra = jax.tree_util.tree_map_with_path(partial(_mean, names), *trees)
    return TrainState(0, params, extra, ())


def _mean(names: Sequence[str], path: Any, *leaves: Any) -> np.ndarray:
    first = np.asarray(leaves[0])
    if not jnp.issubdtype(first.dtype, jnp.inexact):
        for name, leaf in zip(names, leaves, strict=True):
            if not np.array_equal(first, leaf):
                raise UserError(
                    f"{_told(path)} holds whole numbers, which have no mean, and differs in {names[0]} and {name}"
                )
        return first
    total = np.zeros(first.shape, np.float64)
    for leaf in leaves:
        total += np.asarray(leaf, np.float64)
    return (total / len(leaves)).astype(first.dtype)


def check_same_arrays(states: Sequence[TrainState], names: Sequence[str]) -> None:
    """Raises a UserError, with both sides named, where two states have not the same arrays."""
    first, *others = (_described(state) for state in states)
    for name, other in zip(names[1:], others, strict=True):
        parts = [
            f"{label}: {', '.join(paths[:3])}{' ...' if len(paths) > 3 else ''}"
            for label, paths in (
                (f"only in {names[0]}", [path for path in first if path not in other]),
                (f"only in {name}", [path for path in other if path not in first]),
                ("other", [f"{p} ({first[p]} and {other[p]})" for p in first if first[p] != other.get(p, first[p])]),
            )
            if paths
        ]
        if parts:
            raise UserError(f"{names[0]} and {name} are of different architectures; {'; '.join(parts)}")


def _described(state: TrainState) -> dict[str, str]:
    leaves, _ = jax.tree_util.tree_flatten_with_path((state.params, state.extra))
    return {_told(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def _told(path: Any) -> str:
    return path_of(path).removeprefix("0/").removeprefix("1/")


def greedy(
    states: Sequence[TrainState],
    names: Sequence[str],
    metric: Callable[[TrainState], float],
    *,
    more_is_better: bool = True,
    finish: Callable[[TrainState], TrainState] = lambda state: state,
    note: Note = lambda text: None,
) -> Greedy:
    """Returns the greedy soup, recipe 1 of the paper: from the best ingredient down, one stays if it does no harm.

    The soup is never worse than its best ingredient on the data that ``metric`` looks at. As these choose, they must
    be neither what the ingredients learned from nor what the soup is judged by.

    Args:
      states: the ingredients.
      names: of each.
      metric: of a state on held-out data.
      more_is_better: else less is, as of a loss.
      finish: done to an average of several before it is judged, such as :func:`recalibrated`.
      note: told of each trial.

    Raises:
      UserError: see :func:`average`.
    """
    check_same_arrays(states, names)
    sign = 1.0 if more_is_better else -1.0
    alone = tuple(float(metric(state)) for state in states)
    order = sorted(range(len(states)), key=lambda position: -sign * alone[position])
    kept, soup, best = order[:1], states[order[0]], alone[order[0]]
    note(f"{names[order[0]]}: {best:.4f}, the first")
    for position in order[1:]:
        mixed = [*kept, position]
        trial = finish(average([states[each] for each in mixed], [names[each] for each in mixed]))
        value = float(metric(trial))
        stays = sign * value >= sign * best
        note(f"{names[position]}: {alone[position]:.4f} alone, soup {value:.4f}, {'stays' if stays else 'left out'}")
        if stays:
            kept, soup, best = mixed, trial, value
    return Greedy(soup, tuple(kept), alone, best)


def same_in_all(states: Sequence[TrainState]) -> frozenset[str]:
    """Returns the paths of parameters that no ingredient has moved away from the others: frozen ones."""
    flat = [jax.tree_util.tree_flatten_with_path(jax.device_get(state.params))[0] for state in states]
    return frozenset(
        path_of(leaves[0][0])
        for leaves in zip(*flat, strict=True)
        if all(np.array_equal(leaves[0][1], leaf) for _, leaf in leaves[1:])
    )


def recalibrated(
    model: Model,
    state: TrainState,
    batches: Iterable[Float[Array, "batch height width channels"]],
    *,
    frozen: frozenset[str] = frozenset(),
) -> TrainState:
    """Returns the state with the statistics of its batch normalisation taken anew.

    The mean of its ingredients' statistics is not what an average of weights sees; a pass over training data gives
    that (Izmailov et al. 2018, arXiv:1803.05407, section 3.2). Every batch counts the same, whatever the layer's
    momentum; nothing is dropped. Of a layer whose parameters are all frozen the statistics stay.

    Args:
      model: whose weights these are.
      state: its ``extra`` has ``collections``.
      batches: prepared images of training.
      frozen: paths of parameters that are as in all ingredients, see :func:`same_in_all`.

    Raises:
      UserError: the model has no such statistics, or there is no batch.
    """
    collections = state.extra["collections"]
    if STATISTICS not in collections:
        raise UserError("the network has no batch normalisation, whose statistics could be taken anew")
    leaves = [path_of(path) for path, _ in jax.tree_util.tree_flatten_with_path(state.params)[0]]
    modules = frozen_modules(frozen, leaves)
    held = replace(model, frozen=frozen)

    def is_held(path: Any) -> bool:
        words = tuple(path_of(path).split("/"))
        return any(words[: len(module)] == module for module in modules)

    @jax.jit
    def of_batch(params: Variables, images: Float[Array, "batch height width channels"]) -> tuple[PyTree, PyTree]:
        def moved(start: float) -> PyTree:
            """What a step leaves of statistics that were all ``start``: momentum * start + (1 - momentum) * batch's."""
            old = jax.tree_util.tree_map_with_path(
                lambda path, leaf: leaf if is_held(path) else jnp.full_like(leaf, start), collections[STATISTICS]
            )
            return held.apply(params, {**collections, STATISTICS: old}, images, keys=None, train=True)[2][STATISTICS]

        zero, one = moved(0.0), moved(1.0)
        return zero, jax.tree.map(lambda a, b: jnp.mean(b - a), zero, one)

    total: PyTree = None
    count = 0
    for images in batches:
        found = jax.device_get(of_batch(state.params, images))
        taken = jax.tree.map(lambda zero, momentum: np.asarray(zero, np.float64) / _rest(momentum), *found)
        total = taken if total is None else jax.tree.map(np.add, total, taken)
        count += 1
    if not count:
        raise UserError("statistics need at least one batch of training images")
    fresh = jax.tree_util.tree_map_with_path(
        lambda path, old, new: old if is_held(path) else (new / count).astype(old.dtype), collections[STATISTICS], total
    )
    extra = {**state.extra, "collections": {**collections, STATISTICS: fresh}}
    return TrainState(state.step, state.params, extra, state.opt_state)


def _rest(momentum: np.ndarray) -> float:
    """One minus a momentum, without the rounding of its measurement; of what is held it is 0, and not used."""
    return (1.0 - round(float(momentum), 4)) or 1.0
