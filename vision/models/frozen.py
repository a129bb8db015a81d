"""Running the frozen parts of a network as in evaluation, inside a training step."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import flax.linen as nn
import jax

from vision.models.layers import Dropout, Residual

Path = tuple[str, ...]


def holding(frozen: Iterable[str], params: Any, *, train: bool) -> AbstractContextManager[Any]:
    """Returns a context in which a network runs as its frozen parameters ask for; see :func:`held`.

    Args:
      frozen: paths of parameters that are not trained.
      params: all parameters.
      train: whether this is a training step; else nothing is held.
    """
    if not (train and frozen):
        return nullcontext()
    flat, _ = jax.tree_util.tree_flatten_with_path(params)
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in flat]
    return held(frozen_modules(frozen, paths))


def frozen_modules(frozen: Iterable[str], paths: Iterable[str]) -> frozenset[Path]:
    """Returns the modules all of whose parameters are frozen; the whole network is ``()``.

    Args:
      frozen: paths of parameters such as ``block00/conv1/kernel``.
      paths: of all parameters.
    """
    trained: set[Path] = set()
    inside: set[Path] = set()
    kept = set(frozen)
    for path in paths:
        *parents, _ = path.split("/")
        (inside if path in kept else trained).update(tuple(parents[:depth]) for depth in range(len(parents) + 1))
    return frozenset(inside - trained)


def held(modules: frozenset[Path]) -> AbstractContextManager[Any]:
    """Returns a context in which these modules, and all within them, run as in evaluation.

    Their batch normalisation uses and keeps its running statistics, and nothing in them is dropped: a layer that does
    not learn computes one function. What a network draws outside of any frozen module, such as dropout between its
    layers, stays as it is, unless all of the network is frozen.
    """

    def intercept(next_fun: Callable[..., Any], args: Any, kwargs: dict[str, Any], context: Any) -> Any:
        path = context.module.path
        if context.method_name == "__call__" and any(path[: len(each)] == each for each in modules):
            if isinstance(context.module, nn.BatchNorm):
                kwargs = {**kwargs, "use_running_average": True}
            elif isinstance(context.module, Dropout | Residual):
                kwargs = {**kwargs, "keys": None}
        return next_fun(*args, **kwargs)

    return nn.intercept_methods(intercept)
