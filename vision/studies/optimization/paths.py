"""Paths of optimizers over a surface, each at the learning rate that suits it best."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from vision.studies.optimization.methods import METHODS, Method, build
from vision.studies.optimization.surfaces import SURFACES, Surface

STEPS = 400
FEW = 8
# What tells these apart from gradient descent is what they do with a gradient, not its noise.
FULL = ("momentum", "Adagrad", "RMSProp", "Adam")
RATES = tuple(float(rate) for rate in 10.0 ** np.arange(-4.0, 0.76, 0.25))


def descend(
    surface: Surface, method: Method, *, rates: Sequence[float], steps: int, seed: int
) -> Float[Array, "rates steps 2"]:
    """Returns the path for each learning rate, its start included; every rate sees the same examples.

    Args:
      surface: what to go down.
      method: how; its batch is drawn with replacement at each step.
      rates: learning rates, all in one program.
      steps: of each path, which has one point more.
      seed: of the examples.
    """
    examples, start = jnp.asarray(surface.examples), jnp.asarray(surface.start, jnp.float32)
    size = {"all": len(examples), "one": 1, "few": FEW}[method.batch]

    def loss(point: Array, batch: Array) -> Array:
        return jnp.mean(jax.vmap(surface.loss, (None, 0))(point, batch))

    def path(rate: Array) -> Array:
        optimizer = build(method, rate, start)

        def step(carry, key):
            point, state = carry
            chosen = jax.random.randint(key, (size,), 0, len(examples))
            batch = examples if method.batch == "all" else examples[chosen]
            updates, state = optimizer.update(jax.grad(loss)(point, batch), state, point)
            point = optax.apply_updates(point, updates)
            return (point, state), point

        keys = jax.random.split(jax.random.key(seed), steps)
        return jnp.concatenate([start[None], jax.lax.scan(step, (start, optimizer.init(start)), keys)[1]])

    return jax.jit(jax.vmap(path))(jnp.asarray(rates, jnp.float32))


def best_rate(heights: np.ndarray) -> int:
    """Returns the row with the lowest mean height over its last tenth; rows that leave the numbers never win.

    Args:
      heights: ``[rates, steps]``.
    """
    tail = heights[:, -max(1, heights.shape[1] // 10) :].mean(axis=1)
    return int(np.argmin(np.where(np.isfinite(tail), tail, np.inf)))


def run(*, seed: int, note: Callable[[str], None]) -> dict[str, Any]:
    """Returns every method's path over every surface, at its best learning rate of :data:`RATES`."""
    result: dict[str, Any] = {}
    for name, make in SURFACES.items():
        surface = make()
        heights_of = jax.jit(surface.value)
        rows = []
        for label, method in METHODS.items():
            method = method._replace(batch="all") if label in FULL else method
            paths = descend(surface, method, rates=RATES, steps=STEPS, seed=seed)
            heights = np.asarray(heights_of(paths))
            chosen = best_rate(heights)
            rows.append(
                {
                    "method": label,
                    "learning_rate": RATES[chosen],
                    "path": np.asarray(paths[chosen]).round(5).tolist(),
                    "height": [float(f"{height:.4g}") for height in heights[chosen]],
                    "final": float(heights[chosen, -STEPS // 10 :].mean()),
                }
            )
            note(f"{name}: {label}: {rows[-1]['final']:.2g} above the minimum at rate {RATES[chosen]:.3g}")
        result[name] = {"about": surface.about, "rows": rows}
    return {"steps": STEPS, "few": FEW, "surfaces": result}
