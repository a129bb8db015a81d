"""Networks of one hidden layer and a given width, many at once, and least squares over random features."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vision import models
from vision.objectives.regress import regress
from vision.training.optimizers import OPTIMIZERS
from vision.training.ruled import with_rules


def fit(
    x: np.ndarray,
    y: np.ndarray,
    points: np.ndarray,
    *,
    knob: int,
    steps: int = 3000,
    learning_rate: float = 0.01,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Trains a ReLU network of ``knob`` hidden units on every training set, all in one program.

    Full-batch Adam with a learning rate that falls to zero by a cosine. The networks start from different weights, so
    that the variance is over training sets and initialisations together.

    Args:
      x: ``[resamples, n, dimensions]``.
      y: ``[resamples, n]``.
      points: ``[m, dimensions]``.
      knob: the width.
      steps: of training.
      learning_rate: at the start.
      seed: of the initial weights.

    Returns:
      Predictions at the points ``[resamples, m]`` and at the training inputs ``[resamples, n]``.
    """
    images = lambda inputs: jnp.asarray(inputs, jnp.float32)[..., None, None, :]  # noqa: E731
    objective = regress(models.build("mlp/128", num_classes=1, hidden_sizes=(knob,)))
    spec = {"image": jax.ShapeDtypeStruct((1, 1, 1, x.shape[-1]), jnp.float32)}
    rate = optax.cosine_decay_schedule(learning_rate, steps)
    start = lambda key: objective.init(key, spec)  # noqa: E731
    shapes = jax.eval_shape(start, jax.random.key(0))[0]
    optimizer = with_rules(
        lambda decay: OPTIMIZERS["adam"](rate, decay),
        shapes,
        weight_decay=0.0,
        rules=(),
        where="adam",
    )

    def train(key, image, target):
        batch = {"image": image, "target": target[:, None]}
        params, extra = start(key)

        def loss(params):
            outputs, _ = objective.forward(params, extra, batch, None, True)
            return objective.loss(params, outputs, extra, batch, jnp.zeros((), jnp.int32))[0]

        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=steps)
        answer = lambda inputs: objective.encode(params, extra, {"image": inputs})["output"][:, 0]  # noqa: E731
        return answer(images(points)), answer(image)

    keys = jax.random.split(jax.random.key(seed), len(x))
    at_points, at_training = jax.jit(jax.vmap(train))(keys, images(x), jnp.asarray(y, jnp.float32))
    return np.asarray(at_points), np.asarray(at_training)


def fit_random_features(
    x: np.ndarray, y: np.ndarray, points: np.ndarray, *, knob: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Least squares over ``knob`` random ReLU features, of the smallest norm where there are several solutions.

    The network above with its first layer left as it was drawn and its second solved for, which is where double
    descent is sharpest: at as many features as training examples (Belkin et al. 2019, section 2).

    Args:
      x: ``[resamples, n, dimensions]``.
      y: ``[resamples, n]``.
      points: ``[m, dimensions]``.
      knob: the number of features.
      seed: of the features, other ones for each training set.

    Returns:
      Predictions at the points ``[resamples, m]`` and at the training inputs ``[resamples, n]``.
    """
    random = np.random.default_rng(seed)
    weights = random.standard_normal((len(x), x.shape[-1], knob))
    biases = random.uniform(-1.0, 1.0, (len(x), 1, knob))
    features = lambda inputs: np.maximum(inputs @ weights + biases, 0.0) / np.sqrt(knob)  # noqa: E731
    training = features(x)
    solution = np.linalg.pinv(training) @ y[..., None]
    return (features(points) @ solution)[..., 0], (training @ solution)[..., 0]
