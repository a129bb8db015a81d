"""The gradients of a network of one hidden layer are those of the back-propagation equations, written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision import models
from vision.objectives.regress import regress
from vision.training.accumulate import loss_and_gradients

BATCH, SIDE, HIDDEN, OUTPUTS = 6, 3, 5, 4


def by_hand(x, y, w1, b1, w2, b2, *, l2: float = 0.0) -> tuple[float, dict]:
    """Rumelhart, Hinton and Williams 1986, for ReLU units and the mean over n of ``||o - y||^2``, in float64."""
    n = len(x)
    a = x @ w1 + b1  # what the hidden units receive
    z = np.maximum(a, 0.0)  # and what they give
    o = z @ w2 + b2
    loss = np.sum((o - y) ** 2) / n + l2 * (np.sum(w1**2) + np.sum(w2**2))
    delta_o = 2.0 * (o - y) / n
    delta_h = (delta_o @ w2.T) * (a > 0.0)
    return loss, {
        "hidden_0": {"kernel": x.T @ delta_h + 2.0 * l2 * w1, "bias": delta_h.sum(axis=0)},
        "head": {"kernel": z.T @ delta_o + 2.0 * l2 * w2, "bias": delta_o.sum(axis=0)},
    }


@pytest.fixture
def problem():
    """Images, targets and parameters; some hidden units are off, some on."""
    rng = np.random.default_rng(11)
    images, targets = rng.normal(size=(BATCH, SIDE, SIDE, 1)), rng.normal(size=(BATCH, OUTPUTS))
    params = {
        "hidden_0": {"kernel": rng.normal(size=(SIDE * SIDE, HIDDEN)), "bias": rng.normal(size=HIDDEN)},
        "head": {"kernel": rng.normal(size=(HIDDEN, OUTPUTS)), "bias": rng.normal(size=OUTPUTS)},
    }
    return jax.tree.map(lambda array: array.astype(np.float32), (images, targets, params))


def ours(images, targets, params, *, l2: float = 0.0, microbatches: int = 1):
    model = models.build("mlp/128", num_classes=OUTPUTS, hidden_sizes=(HIDDEN,))
    batch = {"image": jnp.asarray(images), "target": jnp.asarray(targets)}
    keys, step = jax.random.split(jax.random.key(0), BATCH), jnp.zeros((), jnp.int32)
    params = jax.tree.map(jnp.asarray, params)
    extra = {"collections": {}}
    loss, gradients, _, _ = loss_and_gradients(
        regress(model, l2=l2), params, extra, batch, keys, step, microbatches=microbatches
    )
    return loss, gradients


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("microbatches", [1, 3])
def test_gradients_are_those_of_the_back_propagation_equations(problem, l2, microbatches):
    images, targets, params = problem
    loss, gradients = ours(images, targets, params, l2=l2, microbatches=microbatches)
    x, y, hidden, head = jax.tree.map(
        lambda array: array.astype(np.float64),
        (images.reshape(BATCH, -1), targets, params["hidden_0"], params["head"]),
    )
    active = x @ hidden["kernel"] + hidden["bias"] > 0.0
    assert 0.2 < active.mean() < 0.8  # else the derivative of the ReLU would not be seen
    layers = (hidden["kernel"], hidden["bias"], head["kernel"], head["bias"])
    expected_loss, expected = by_hand(x, y, *layers, l2=l2)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    for layer, leaves in expected.items():
        for name, value in leaves.items():
            scale = np.abs(value).max()
            np.testing.assert_allclose(
                gradients[layer][name], value, rtol=1e-5, atol=1e-5 * scale, err_msg=f"{layer}/{name}"
            )


def test_gradients_are_the_slopes_of_the_loss(problem):
    """The equations above share our reading of the network; differences of the loss share nothing."""
    images, targets, params = problem
    _, gradients = ours(images, targets, params)
    x, y = images.reshape(BATCH, -1).astype(np.float64), targets.astype(np.float64)
    double = jax.tree.map(lambda array: array.astype(np.float64), params)

    def loss(p):
        hidden = np.maximum(x @ p["hidden_0"]["kernel"] + p["hidden_0"]["bias"], 0.0)
        return np.sum((hidden @ p["head"]["kernel"] + p["head"]["bias"] - y) ** 2) / BATCH

    for layer, name in (("hidden_0", "kernel"), ("hidden_0", "bias"), ("head", "kernel"), ("head", "bias")):
        for index in np.ndindex(double[layer][name].shape):
            slopes = []
            for sign in (1.0, -1.0):
                moved = jax.tree.map(np.copy, double)
                moved[layer][name][index] += sign * 1e-6
                slopes.append(sign * loss(moved) / 2e-6)
            np.testing.assert_allclose(gradients[layer][name][index], sum(slopes), rtol=1e-4, atol=1e-4)
