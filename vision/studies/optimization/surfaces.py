"""Two classic surfaces over two parameters, each the mean of a loss over examples."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Surface(NamedTuple):
    """A loss over two parameters that is a mean over examples, so that a single example and a batch mean something.

    Attributes:
      about: one sentence for the page.
      loss: ``(point [2], example [k]) -> scalar``; the surface is its mean over the examples.
      examples: float32 ``[n, k]``.
      start: where every path begins.
      minimum: the lowest point.
      window: ``((x from, x to), (y from, y to))`` of the picture.
    """

    about: str
    loss: Callable[[Array, Array], Array]
    examples: np.ndarray
    start: tuple[float, float]
    minimum: tuple[float, float]
    window: tuple[tuple[float, float], tuple[float, float]]

    def value(self, point: Float[Array, "... 2"]) -> Float[Array, "..."]:
        """Returns the height of the surface above its lowest point."""
        over_examples = jax.vmap(self.loss, (None, 0))
        mean = lambda at: jnp.mean(over_examples(at, jnp.asarray(self.examples)))  # noqa: E731
        heights = jax.vmap(mean)(point.reshape(-1, 2)).reshape(point.shape[:-1])
        return heights - mean(jnp.asarray(self.minimum, jnp.float32))


def quadratic(*, condition: float = 50.0, examples: int = 64, seed: int = 0) -> Surface:
    """Least squares with two weights: a quadratic whose Hessian has eigenvalues 1 and ``1 / condition``, turned by 30°.

    Example i has ``(a_i . w - b_i)^2 / 2``. The inputs are whitened, then scaled, so that the mean of ``a a^T`` is the
    Hessian exactly; the residuals are orthogonal to the inputs, so that the minimum is where it is said to be.
    """
    random = np.random.default_rng(seed)
    drawn = random.standard_normal((examples, 2))
    white = drawn @ np.linalg.inv(np.linalg.cholesky(drawn.T @ drawn / examples)).T
    inputs = white @ np.diag(np.sqrt([1.0, 1.0 / condition])) @ _turn(np.pi / 6).T
    residual = random.standard_normal(examples)
    residual -= inputs @ np.linalg.lstsq(inputs, residual, rcond=None)[0]
    minimum = np.array([1.0, 0.5])
    outputs = inputs @ minimum + 0.3 * residual / residual.std()
    return Surface(
        about=f"Least squares with two weights: a quadratic valley, {condition:g} times as steep across as along it.",
        loss=lambda point, example: jnp.square(example[:2] @ point - example[2]) / 2,
        examples=np.column_stack([inputs, outputs]).astype(np.float32),
        start=(-2.0, 2.5),
        minimum=(1.0, 0.5),
        window=((-3.0, 3.5), (-2.5, 3.5)),
    )


def rosenbrock(*, spread: float = 0.1, examples: int = 64, seed: int = 0) -> Surface:
    """Rosenbrock's (1960) curved valley, ``(1 - x)^2 + 100 (y - x^2)^2``, up to a constant.

    Example i has ``(1 - x + u_i)^2 + 100 (y - x^2 + v_i)^2``; u and v have mean 0, so their squares alone remain in
    the mean, which do not depend on the point.
    """
    shifts = spread * np.random.default_rng(seed).standard_normal((examples, 2))
    return Surface(
        about="Rosenbrock's function: a narrow valley along a parabola, whose floor is almost flat.",
        loss=lambda point, example: (
            jnp.square(1.0 - point[0] + example[0]) + 100.0 * jnp.square(point[1] - point[0] ** 2 + example[1])
        ),
        examples=(shifts - shifts.mean(axis=0)).astype(np.float32),
        start=(-1.2, 1.0),
        minimum=(1.0, 1.0),
        window=((-1.8, 1.8), (-0.8, 2.4)),
    )


def _turn(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


SURFACES: dict[str, Callable[[], Surface]] = {"quadratic": quadratic, "rosenbrock": rosenbrock}
