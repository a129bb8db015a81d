"""A linear model trained to the end is the solution of least squares, with an L2 penalty that of ridge regression."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge

from vision import models
from vision.objectives.regress import regress
from vision.training import state
from vision.training.optimizers import OPTIMIZERS
from vision.training.ruled import with_rules
from vision.training.step import Constants, make_steps, make_train_step

EXAMPLES, OUTPUTS = 60, 10


@pytest.fixture(scope="module")
def digits():
    """60 digits of 4 x 4 pixels, each the mean of 2 x 2, centred and scaled as a whole, and their classes."""
    data = load_digits()
    pixels = data.images[:EXAMPLES].reshape(EXAMPLES, 4, 2, 4, 2).mean(axis=(2, 4))
    pixels = (pixels - pixels.mean()) / pixels.std()
    return pixels[..., None].astype(np.float32), data.target[:EXAMPLES].astype(np.int32)


def trained(images, labels, *, l2: float, steps: int = 6000):
    """Weights, intercept and predictions after full-batch training through the train step."""
    objective = regress(models.build("linear", num_classes=OUTPUTS), l2=l2)
    flat = np.concatenate([images.reshape(EXAMPLES, -1), np.ones((EXAMPLES, 1))], axis=1)
    curvature = 2.0 * (np.linalg.norm(flat, 2) ** 2 / EXAMPLES + l2)
    schedule = optax.constant_schedule(1.0 / curvature)
    spec = {"image": jax.ShapeDtypeStruct(images.shape, jnp.float32)}
    keys = state.make_keys(0)
    optimizer = with_rules(
        lambda decay: OPTIMIZERS["sgd"](rate=schedule, decay=decay, momentum=0.99, nesterov=True),
        objective.init(keys.init, spec)[0],
        weight_decay=0.0,
        rules=(),
        where="here",
    )
    start = state.create(objective, optimizer, spec, keys.init)

    def prepare(batch, resident, key, step):
        return {name: array[batch["index"]] for name, array in resident.items()}

    steps_of = jax.jit(make_steps(make_train_step(objective, optimizer, schedule, prepare)))
    constants = Constants(keys, {"image": jnp.asarray(images), "label": jnp.asarray(labels)})
    batches = {"index": jnp.tile(jnp.arange(EXAMPLES, dtype=jnp.int32), (steps, 1))}
    end, metrics = steps_of(start, batches, constants)
    assert int(end.step) == steps
    assert metrics["gradient_norm"][0][-1] < 1e-4 * metrics["gradient_norm"][0][0]  # it has come to rest
    head = jax.tree.map(np.asarray, end.params["head"])
    output = objective.encode(end.params, end.extra, {"image": jnp.asarray(images)})["output"]
    return head["kernel"], head["bias"], np.asarray(output)


def closed_form(x, y, alpha: float):
    """``W = (Xc' Xc + alpha I)^-1 Xc' Yc`` of centred data: the intercept is free."""
    centred, target = x - x.mean(axis=0), y - y.mean(axis=0)
    weights = np.linalg.solve(centred.T @ centred + alpha * np.eye(x.shape[1]), centred.T @ target)
    return weights, y.mean(axis=0) - x.mean(axis=0) @ weights


@pytest.mark.parametrize("l2", [0.01, 0.3])
def test_training_with_l2_ends_at_ridge_regression(digits, l2):
    images, labels = digits
    kernel, bias, output = trained(images, labels, l2=l2)
    x, y = images.reshape(EXAMPLES, -1).astype(np.float64), np.eye(OUTPUTS)[labels]
    weights, intercept = closed_form(x, y, alpha=EXAMPLES * l2)
    library = Ridge(alpha=EXAMPLES * l2).fit(x, y)
    for expected_weights, expected_intercept in ((weights, intercept), (library.coef_.T, library.intercept_)):
        np.testing.assert_allclose(kernel, expected_weights, atol=1e-4 * np.abs(weights).max())
        np.testing.assert_allclose(bias, expected_intercept, atol=1e-4 * np.abs(intercept).max())
    np.testing.assert_allclose(output, library.predict(x), atol=1e-4)


def test_training_without_penalty_ends_at_least_squares(digits):
    images, labels = digits
    kernel, bias, output = trained(images, labels, l2=0.0)
    x = np.concatenate([images.reshape(EXAMPLES, -1), np.ones((EXAMPLES, 1))], axis=1).astype(np.float64)
    solution, _, rank, _ = np.linalg.lstsq(x, np.eye(OUTPUTS)[labels])
    assert rank == x.shape[1]  # so there is one solution
    np.testing.assert_allclose(kernel, solution[:-1], atol=1e-4 * np.abs(solution).max())
    np.testing.assert_allclose(bias, solution[-1], atol=1e-4 * np.abs(solution).max())
    np.testing.assert_allclose(output, x @ solution, atol=1e-4)
