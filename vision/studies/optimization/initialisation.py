"""What a first pass forward and backward does to signals, by initialisation, activation and architecture."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

DEPTH, WIDTH, BATCH = 30, 128, 256

# Standard deviation of a weight, from the inputs and outputs of its layer.
INITIALISATIONS: dict[str, Callable[[int, int], float]] = {
    "zeros": lambda inputs, outputs: 0.0,
    "too small (He / 2)": lambda inputs, outputs: float(np.sqrt(2.0 / inputs)) / 2.0,
    "LeCun": lambda inputs, outputs: float(np.sqrt(1.0 / inputs)),
    "Xavier": lambda inputs, outputs: float(np.sqrt(2.0 / (inputs + outputs))),
    "He": lambda inputs, outputs: float(np.sqrt(2.0 / inputs)),
    "too large (2 He)": lambda inputs, outputs: float(np.sqrt(2.0 / inputs)) * 2.0,
}
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
}
# name -> (whether a layer is added to its input, whether its input is normalised first).
ARCHITECTURES: dict[str, tuple[bool, bool]] = {
    "plain": (False, False),
    "normalised": (False, True),
    "residual": (True, False),
    "residual and normalised": (True, True),
}


class Signals(NamedTuple):
    """What was measured at each hidden layer, the first one first.

    Attributes:
      activations: root mean square of the layer's output, over examples and units.
      gradients: root mean square, likewise, of the gradient of the summed loss with respect to that output.
    """

    activations: Float[Array, " depth"]
    gradients: Float[Array, " depth"]


def measure(
    inputs: Float[Array, "batch features"],
    labels: Int[Array, " batch"],
    *,
    initialisation: str,
    activation: str,
    architecture: str = "plain",
    depth: int = DEPTH,
    width: int = WIDTH,
    num_classes: int = 10,
    key: Key[Array, ""],
) -> Signals:
    """Returns the signals of a fresh network of ``depth`` equal hidden layers with biases of zero.

    A hidden layer is ``f(W x)``; normalised, ``f(W norm(x))`` with layer normalisation without parameters (Ba, Kiros
    and Hinton 2016); residual, its input plus that (He et al. 2016, identity mappings). The first layer, which changes
    the width, is ``f(W x)`` always. The loss is softmax cross-entropy. The gradient is that with respect to zeros
    added to each layer's output.

    Args:
      inputs: images as rows, standardised.
      labels: their classes.
      initialisation: one of :data:`INITIALISATIONS`, for all layers.
      activation: one of :data:`ACTIVATIONS`.
      architecture: one of :data:`ARCHITECTURES`.
      depth: number of hidden layers.
      width: their units.
      num_classes: of the labels.
      key: of the weights.
    """
    deviation = INITIALISATIONS[initialisation]
    residual, normalised = ARCHITECTURES[architecture]
    first, middle, last = jax.random.split(key, 3)
    draw = lambda key, *shape: deviation(shape[-2], shape[-1]) * jax.random.normal(key, shape)  # noqa: E731
    weights = (
        draw(first, inputs.shape[1], width),
        draw(middle, depth - 1, width, width),
        draw(last, width, num_classes),
    )

    return _pass(weights, inputs, labels, activation=activation, residual=residual, normalised=normalised)


@partial(jax.jit, static_argnames=("activation", "residual", "normalised"))
def _pass(weights, inputs, labels, *, activation: str, residual: bool, normalised: bool) -> Signals:
    function = ACTIVATIONS[activation]
    depth, width = weights[1].shape[0] + 1, weights[1].shape[1]

    def forward(probes):
        x = function(inputs @ weights[0]) + probes[0]

        def layer(x, given):
            kernel, probe = given
            y = function((_layer_norm(x) if normalised else x) @ kernel)
            y = (x + y if residual else y) + probe
            return y, y

        end, others = jax.lax.scan(layer, x, (weights[1], probes[1:]))
        logits = end @ weights[2]
        loss = -jnp.sum(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1))
        return loss, jnp.concatenate([x[None], others])

    gradients, outputs = jax.grad(forward, has_aux=True)(jnp.zeros((depth, len(inputs), width)))
    rms = lambda x: jnp.sqrt(jnp.mean(jnp.square(x), axis=(1, 2)))  # noqa: E731
    return Signals(rms(outputs), rms(gradients))


def _layer_norm(x: Float[Array, "batch width"]) -> Float[Array, "batch width"]:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + 1e-6)


def run(images: np.ndarray, labels: np.ndarray, *, seed: int, note: Callable[[str], None]) -> dict[str, Any]:
    """Returns the signals of every initialisation with every activation, and of every architecture with He's draws.

    Args:
      images: float32 ``[n, height, width, channels]``, normalised; the first :data:`BATCH` are used.
      labels: int32 ``[n]``.
      seed: of the weights.
      note: told about progress.
    """
    rows_of_pixels = images[:BATCH].reshape(min(BATCH, len(images)), -1)
    inputs = jnp.asarray((rows_of_pixels - rows_of_pixels.mean()) / rows_of_pixels.std(), jnp.float32)
    classes = jnp.asarray(labels[:BATCH])
    cases = [(scheme, activation, "plain") for activation in ACTIVATIONS for scheme in INITIALISATIONS]
    cases += [("He", activation, each) for activation in ("relu", "tanh") for each in ARCHITECTURES if each != "plain"]
    rows = []
    for scheme, activation, architecture in cases:
        found = measure(
            inputs,
            classes,
            initialisation=scheme,
            activation=activation,
            architecture=architecture,
            num_classes=int(labels.max()) + 1,
            key=jax.random.key(seed),
        )
        short = lambda values: [float(f"{value:.4g}") for value in np.asarray(values)]  # noqa: E731
        rows.append(
            {
                "initialisation": scheme,
                "activation": activation,
                "architecture": architecture,
                "activations": short(found.activations),
                "gradients": short(found.gradients),
            }
        )
    note(f"initialisation: {len(rows)} networks of {DEPTH} layers")
    return {"depth": DEPTH, "width": WIDTH, "rows": rows}
