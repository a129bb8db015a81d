"""Activations that networks here share, in the forms that run fast."""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vision.models.platform import platform

Activation = Literal["gelu", "gelu_tanh", "quick_gelu"]


def relu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns the positive part of ``x`` (Nair and Hinton 2010); its slope at 0 is 0.

    On a CPU it is a choice between two arrays. A maximum with a constant is so cheap to XLA that each reader computes
    it again, and with it the sums and normalisations before it, down to the first block of a residual network; the
    train step of a ResNet-20 took half as long again.
    """
    return jnp.where(x <= 0, jnp.zeros((), x.dtype), x) if platform() == "cpu" else jax.nn.relu(x)


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns ``x Phi(x)``, Phi being the distribution function of the standard normal (Hendrycks and Gimpel 2016).

    In float32 it is written with the error function, as in PyTorch: within 1e-6 of the exact value, where JAX's own
    form, with the complementary one, keeps more digits far below zero and takes some times as long on a CPU. Types of
    fewer bits keep JAX's form: there ``1 + erf`` would round the tail away.
    """
    if jnp.finfo(x.dtype).bits < 32:
        return jax.nn.gelu(x, approximate=False)
    return 0.5 * x * (1.0 + jax.lax.erf(x * math.sqrt(0.5)))


def activation_function(name: Activation) -> Callable[[Float[Array, "*shape"]], Float[Array, "*shape"]]:
    """Returns the exact GELU, its approximation by tanh (Hendrycks and Gimpel 2016), or ``x sigmoid(1.702 x)``."""
    return {
        "gelu": gelu,
        "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
        "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    }[name]
