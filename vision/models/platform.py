"""What a model is compiled for: the kind of device, and how examples are divided over several of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
from jaxtyping import Array, Float

Divide = Callable[[Array], Array]
_COMPILED_FOR: ContextVar[str | None] = ContextVar("compiled_for", default=None)
_DIVIDE: ContextVar[Divide | None] = ContextVar("divide", default=None)


def platform() -> str:
    """Returns ``cpu``, ``gpu``, ``cuda`` or ``tpu``: that of :func:`compiled_for`, else JAX's default.

    To be called while tracing; forms that it chooses between give the same numbers up to rounding.
    """
    return _COMPILED_FOR.get() or jax.default_backend()


@contextmanager
def compiled_for(name: str | None, divide: Divide | None = None) -> Iterator[None]:
    """Within it, what is traced is for another platform than the one that traces; None changes nothing.

    Args:
      name: of the platform.
      divide: pins an array to the division of its first axis, the examples, over the devices.
    """
    token, other = _COMPILED_FOR.set(name or _COMPILED_FOR.get()), _DIVIDE.set(divide or _DIVIDE.get())
    try:
        yield
    finally:
        _COMPILED_FOR.reset(token)
        _DIVIDE.reset(other)


def rows_divided(x: Float[Array, "batch ..."]) -> Float[Array, "batch ..."]:
    """Returns activations, pinned to the devices of their examples.

    Left to itself, a compiler that finds a layer's weights divided may divide activations the same way and exchange
    them at every layer; in the body of a scan XLA does.
    """
    divide = _DIVIDE.get()
    return x if divide is None else divide(x)


def computed_once(x: Array) -> Array:
    """Returns ``x``, which a compiler for a TPU is kept from computing again, from its summands, for every reader."""
    return jax.lax.optimization_barrier(x) if platform() == "tpu" else x


def recomputed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns an elementwise function that keeps its inputs alone for the backward pass, and computes the rest again.

    The exact GELU keeps three arrays otherwise, some of them in float32; for a ViT-B/16 in bfloat16 on a TPU v5e this
    was a third of the memory of activations. A CPU keeps them: there the error function is what takes time. On a
    TPU nothing keeps the compiler from fusing what is computed again with the products before it (``prevent_cse``).
    """
    return function if platform() == "cpu" else jax.checkpoint(function, prevent_cse=platform() != "tpu")
