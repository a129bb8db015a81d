"""Optimizers, initialisations and networks of the study behave as closed forms and papers say."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from report_pages import look
from scipy.optimize import rosen, rosen_der

from vision import models
from vision.studies import parts
from vision.studies.optimization import depth_width, initialisation, regularisation, report
from vision.studies.optimization.methods import METHODS, Method
from vision.studies.optimization.paths import best_rate, descend
from vision.studies.optimization.small_runs import Data, train
from vision.studies.optimization.surfaces import quadratic, rosenbrock
from vision.training.schema import resolve

CONDITION, RATE, STEPS = 50.0, 0.5, 60


@pytest.fixture(scope="module")
def bowl():
    surface = quadratic(condition=CONDITION)
    inputs = surface.examples[:, :2].astype(np.float64)
    return surface, inputs.T @ inputs / len(inputs)


def errors(surface, path):
    return np.asarray(path, np.float64) - np.asarray(surface.minimum)


def test_the_quadratic_is_what_it_says(bowl):
    surface, hessian = bowl
    np.testing.assert_allclose(np.linalg.eigvalsh(hessian), [1 / CONDITION, 1.0], rtol=1e-5)
    points = jnp.asarray(np.random.default_rng(0).uniform(-3, 3, (5, 2)), jnp.float32)
    away = errors(surface, points)
    expected = np.einsum("pi,ij,pj->p", away, hessian, away) / 2
    np.testing.assert_allclose(jax.jit(surface.value)(points), expected, rtol=1e-4, atol=1e-5)


def test_the_valley_is_rosenbrocks():
    surface = rosenbrock()
    points = jnp.asarray(np.random.default_rng(1).uniform(-1.5, 1.5, (6, 2)), jnp.float32)
    np.testing.assert_allclose(
        jax.jit(surface.value)(points), rosen(np.asarray(points, np.float64).T), rtol=1e-4, atol=1e-3
    )
    gradients = jax.jit(jax.vmap(jax.grad(surface.value)))(points)
    np.testing.assert_allclose(gradients, rosen_der(np.asarray(points, np.float64).T).T, rtol=1e-3, atol=1e-2)
    assert surface.examples.std() > 0.05  # single examples do differ


def test_gradient_descent_has_the_closed_form(bowl):
    surface, hessian = bowl
    rates = (0.1, RATE, 1.9)
    paths = descend(surface, METHODS["gradient descent"], rates=rates, steps=STEPS, seed=0)
    assert paths.shape == (3, STEPS + 1, 2)
    for rate, path in zip(rates, paths, strict=True):
        away = errors(surface, path)
        for step in (0, 1, 7, STEPS):
            expected = np.linalg.matrix_power(np.eye(2) - rate * hessian, step) @ away[0]
            np.testing.assert_allclose(away[step], expected, atol=2e-5)


def test_momentum_converges_at_its_known_rate(bowl):
    surface, hessian = bowl
    # Polyak 1964: the best rate and momentum for eigenvalues from 1 / condition to 1.
    root = np.sqrt(CONDITION)
    momentum, rate = ((root - 1) / (root + 1)) ** 2, 4 / (1 + 1 / root) ** 2
    method = Method("sgd", {"momentum": float(momentum)}, "all")
    (path,) = descend(surface, method, rates=(rate,), steps=STEPS, seed=0)
    away = errors(surface, path)
    expected = [away[0], away[0] - rate * hessian @ away[0]]
    for _ in range(STEPS - 1):
        expected.append((1 + momentum) * expected[-1] - momentum * expected[-2] - rate * hessian @ expected[-1])
    np.testing.assert_allclose(away, expected, atol=5e-5)
    # (root - 1) / (root + 1) per step up to a factor that grows with the step, where descent has (c - 1) / (c + 1).
    length = np.linalg.norm(away, axis=1)
    assert length[40] < 4 * 40 * ((root - 1) / (root + 1)) ** 40 * length[0]
    assert length[40] < 0.01 * ((CONDITION - 1) / (CONDITION + 1)) ** 40 * length[0]


def test_a_single_example_is_one_of_them_and_a_batch_their_mean(bowl):
    surface, _ = bowl
    start, inputs, outputs = np.asarray(surface.start), surface.examples[:, :2], surface.examples[:, 2]
    each = inputs * (inputs @ start - outputs)[:, None]
    (one,) = descend(surface, METHODS["single-example SGD"], rates=(RATE,), steps=1, seed=3)
    step = (start - np.asarray(one[1])) / RATE
    assert np.abs(each - step).sum(axis=1).min() < 1e-4
    assert np.abs(each.mean(axis=0) - step).sum() > 1e-2


def test_the_best_rate_ends_lowest_and_never_leaves_the_numbers():
    heights = np.ones((4, 20))
    heights[0, -1] = np.nan
    heights[1, :10] = 0.0
    heights[2, -2:] = 0.5
    heights[3, -1] = np.inf
    assert best_rate(heights) == 2


# Signals in deep networks.

WIDE, DEEP, DRAWS = 128, 8, 16


def signals(scheme, activation, *, scale=1.0, architecture="plain", depth=DEEP, draws=DRAWS):
    """Activations and gradients ``[draws, depth]`` for inputs of root mean square ``scale``."""
    random = np.random.default_rng(5)
    inputs = jnp.asarray(scale * random.choice([-1.0, 1.0], (32, WIDE)), jnp.float32)
    labels = jnp.asarray(random.integers(0, 10, 32))
    options = {"initialisation": scheme, "activation": activation, "architecture": architecture}
    found = [
        initialisation.measure(inputs, labels, **options, depth=depth, width=WIDE, key=jax.random.key(draw))
        for draw in range(draws)
    ]
    return tuple(np.asarray(each) for each in zip(*found, strict=True))


def test_he_keeps_the_second_moment_of_relu():
    # He et al. 2015, equation 10. One layer multiplies the mean square by 1 with the variance 5 / width, as the
    # square of a rectified normal number has the mean 1 / 2 and the fourth moment 3 / 2; after l layers that is at
    # most l times as much, and draws are independent.
    squares = np.square(signals("He", "relu")[0])
    for layer, mean in enumerate(squares.mean(axis=0), start=1):
        assert mean == pytest.approx(1.0, abs=4 * np.sqrt(((1 + 5 / WIDE) ** layer - 1) / DRAWS))
    # ReLU passes factors on: LeCun's and Xavier's draws (equal here but for the last layer) halve the mean square.
    layers = np.arange(1, DEEP + 1)
    for scheme, factor in (("LeCun", 0.5), ("Xavier", 0.5), ("too small (He / 2)", 0.25), ("too large (2 He)", 4.0)):
        other = np.square(signals(scheme, "relu", draws=1)[0])
        np.testing.assert_allclose(other[0], factor**layers * squares[0], rtol=1e-4)


def test_xavier_keeps_the_second_moment_of_tanh_near_zero():
    # Glorot and Bengio 2010, equation 10 with tanh'(0) = 1; a layer's factor has the variance 2 / width.
    squares = np.square(signals("Xavier", "tanh", scale=0.01)[0] / 0.01)
    for layer, mean in enumerate(squares.mean(axis=0), start=1):
        assert mean == pytest.approx(1.0, abs=4 * np.sqrt(((1 + 2 / WIDE) ** layer - 1) / DRAWS))


def test_sigmoid_passes_at_most_a_quarter_of_the_gradient():
    # sigmoid' <= 1/4, and square draws of variance 1 / width keep the length of a vector in the mean.
    gradients = signals("LeCun", "sigmoid", draws=4)[1]
    factor = (gradients[:, 0] / gradients[:, -1]) ** (1 / (DEEP - 1))
    assert factor.mean() < 0.25 * 1.03
    assert factor.mean() > 0.15


def test_zeros_stop_every_signal():
    activations, gradients = signals("zeros", "relu", draws=1)
    assert not activations.any()
    assert not gradients.any()


def test_residual_and_normalised_layers_carry_gradients_through_any_depth():
    plain = signals("LeCun", "relu", depth=DEEP, draws=1)[1][0]
    carried = signals("He", "relu", architecture="residual and normalised", depth=4 * DEEP, draws=1)[1][0]
    assert plain[0] < plain[-1] / 10
    assert 1 / 30 < carried[0] / carried[-1] < 30


def test_normalised_layers_do_not_see_the_scale_of_their_input():
    normalised = [signals("He", "relu", architecture="normalised", scale=scale, draws=1)[0][0] for scale in (1.0, 8.0)]
    np.testing.assert_allclose(normalised[0][1:], normalised[1][1:], rtol=1e-3)


# Small networks.


@pytest.fixture(scope="module")
def blobs():
    """Two classes of 2 x 2 pixels that lie apart."""
    random = np.random.default_rng(6)
    labels = random.integers(0, 2, 60).astype(np.int32)
    images = (random.standard_normal((60, 2, 2, 1)) + 3.0 * (2 * labels - 1)[:, None, None, None]).astype(np.float32)
    return Data(images[:40], labels[:40], images[40:], labels[40:])


def test_runs_together_are_the_runs_one_by_one(blobs):
    model = models.build("linear", num_classes=2, zero_init=False)
    options = {"steps": 20, "every": 10, "few": 8}
    pairs = [(0.01, 0), (0.1, 0), (0.1, 1)]
    together = train(
        model, blobs, METHODS["momentum"], rates=[p[0] for p in pairs], seeds=[p[1] for p in pairs], **options
    )
    assert together.steps.tolist() == [0, 10, 20]
    assert together.losses.shape == (3, 3)
    assert together.losses[0, 0] == pytest.approx(together.losses[1, 0])  # the same seed starts alike
    assert together.losses[1, 0] != together.losses[2, 0]
    assert together.losses[0, -1] > together.losses[1, -1]
    alone = train(model, blobs, METHODS["momentum"], rates=[0.1], seeds=[1], **options)
    np.testing.assert_allclose(together.losses[2], alone.losses[0], rtol=1e-5)
    np.testing.assert_array_equal(together.test_correct[2], alone.test_correct[0])
    assert alone.test_correct.shape == (1, 20)
    assert alone.test_correct.mean() > 0.9
    assert alone.train_accuracy[0] > 0.9
    with pytest.raises(ValueError, match="no multiple"):
        train(model, blobs, METHODS["momentum"], rates=[0.1], seeds=[1], steps=5, every=2, few=8)


def test_depth_and_width_come_to_the_same_number_of_parameters():
    inputs, outputs = 64, 10
    for depth in depth_width.DEPTHS:
        width = depth_width.width_for(depth, inputs=inputs, outputs=outputs, parameters=depth_width.PARAMETERS)
        parameters = depth_width.count(depth, width, inputs=inputs, outputs=outputs)
        assert parameters == pytest.approx(depth_width.PARAMETERS, rel=0.03)
    model = models.build("mlp/128", num_classes=outputs, hidden_sizes=(7, 7, 7))
    spec = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)
    shapes = jax.eval_shape(lambda key: model.init(key, spec)[0], jax.random.key(0))
    built = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert built == depth_width.count(3, 7, inputs=inputs, outputs=outputs)


@pytest.mark.parametrize("name", regularisation.ROWS)
def test_every_row_is_a_config_that_changes_what_it_says(name):
    changes = regularisation.ROWS[name]
    full = resolve(regularisation.config("digits", changes, seed=2))
    plain = resolve(regularisation.config("digits", {}, seed=2))
    assert full["seed"] == 2
    changed = {key for key in full if full[key] != plain[key]}
    # Early stopping needs images to look at, and keeps the best checkpoint.
    expected = set(changes) | ({"evals", "checkpoint"} if "early_stopping" in changes else set())
    assert changed == expected
    assert regularisation.config("digits", {}, seed=2)["data"].get("augment") is None


# What is written.


def test_a_part_is_computed_once_for_the_same_options(tmp_path):
    said, calls = [], []

    def compute():
        calls.append(1)
        return {"values": (1, 2)}

    for options in ({"seed": 0, "sizes": (1, 2)}, {"seed": 0, "sizes": (1, 2)}, {"seed": 1, "sizes": (1, 2)}):
        assert parts.done_or_new(tmp_path, "one", options, compute, note=said.append) == {"values": [1, 2]}
    assert len(calls) == 2
    assert "done before" in said[1]
    (tmp_path / "one.json").write_text('{"options": ')
    parts.done_or_new(tmp_path, "one", {"seed": 1}, compute, note=said.append)
    assert len(calls) == 3


def test_the_page_has_what_was_computed_and_no_more(tmp_path):
    table = {
        "parameters": 100,
        "steps": 5,
        "seeds": 2,
        "rows": [
            {
                "depth": 1,
                "width": 7,
                "parameters": 99,
                "learning_rate": 0.01,
                "train_accuracy": [1.0, 1.0],
                "test_accuracy": [0.9, 0.94],
            }
        ],
    }
    gaps = {
        "dataset": "digits",
        "examples": 20,
        "held_out": 10,
        "steps": 5,
        "rows": [{"name": "<none>", "train_accuracy": [1.0, 0.98], "test_accuracy": [0.9, 0.9], "steps": [5, 4]}],
        "seeds": 2,
    }
    path = [[-2.0, 2.5], [0.0, 0.0]] * 10
    rows = [{"method": "Adam", "learning_rate": 0.1, "path": path, "height": [1.0] * 20, "final": 0.5}]
    surfaces = {"steps": 19, "few": 8, "surfaces": {"quadratic": {"about": "A bowl.", "rows": rows}}}
    file = tmp_path / "page.html"
    file.write_text(report.render({"surfaces": surfaces, "depth_width": table, "regularisation": gaps}))
    page = look(file)
    assert "92.0 ± 2.8" in page.text
    assert "<none> 99.0 ± 1.4 90.0 ± 0.0 9.0 ± 1.4" in page.text
    assert page.count("svg") == 2
    assert "small network" not in page.text


def test_a_wrong_part_is_one_line(program, tmp_path):
    done = program("experiments.optimizers", "--part", "surface", "--workdir", tmp_path / "run", check=2)
    (line,) = done.stderr.strip().splitlines()
    assert "surfaces" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_program_resumes_by_part(program, tmp_path):
    command = ["experiments.optimizers", "--seeds", "1", "--workdir", tmp_path / "run", "--json"]
    result = json.loads(program(*command, timeout=900).stdout.splitlines()[-1])
    assert result == json.loads((tmp_path / "run" / "optimizers.json").read_text())
    page = look(tmp_path / "run" / "optimizers.html")
    for word in ("rosenbrock", "Adagrad", "residual and normalised", "early stopping", "digits"):
        assert word in page.text
    rows = {row["name"]: row for row in result["parts"]["regularisation"]["rows"]}
    assert rows["nothing"]["train_accuracy"] == [1.0]
    assert rows["nothing"]["test_accuracy"][0] > 0.75
    assert rows["early stopping"]["steps"][0] < rows["nothing"]["steps"][0]
    (tmp_path / "run" / "parts" / "depth_width.json").unlink()
    again = program(*command, timeout=900)
    assert again.stderr.count("done before") == len(result["parts"]) - 1
