"""Which kind of device a model is compiled for, where one form of a computation suits it better than another."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax

_COMPILED_FOR: ContextVar[str | None] = ContextVar("compiled_for", default=None)


def platform() -> str:
    """Returns ``cpu``, ``gpu``, ``cuda`` or ``tpu``: that of :func:`compiled_for`, else JAX's default.

    To be called while tracing; forms that it chooses between give the same numbers up to rounding.
    """
    return _COMPILED_FOR.get() or jax.default_backend()


@contextmanager
def compiled_for(name: str | None) -> Iterator[None]:
    """Within it, what is traced is for another platform than the one that traces; None changes nothing."""
    token = _COMPILED_FOR.set(name or _COMPILED_FOR.get())
    try:
        yield
    finally:
        _COMPILED_FOR.reset(token)


def recomputed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns an elementwise function that keeps its inputs alone for the backward pass, and computes the rest again.

    The exact GELU keeps three arrays otherwise, some of them in float32; for a ViT-B/16 in bfloat16 on a TPU v5e this
    was a third of the memory of activations. A CPU keeps them: there the error function is what takes time.
    """
    return function if platform() == "cpu" else jax.checkpoint(function)
