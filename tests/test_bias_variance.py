"""Bias, variance and noise are those of closed forms, and add up to the error on observations no fit has seen."""

import json

import numpy as np
import pytest
from report_pages import look
from sklearn.neighbors import KNeighborsRegressor

from experiments import bias_variance
from vision.studies.bias_variance import digits, families, neighbours, networks, polynomial, report, trees
from vision.studies.bias_variance.decomposition import decompose
from vision.studies.bias_variance.problem import Problem, wave

SIGMA, SIZE, RESAMPLES = 0.5, 24, 600
FIXED = Problem(wave, sigma=SIGMA, dimensions=1, design="fixed")


@pytest.fixture(scope="module")
def drawn():
    return FIXED.draw(resamples=RESAMPLES, size=SIZE, points=0, seed=0)


def decomposed(drawn, fit, knob, sigma=SIGMA):
    at_points, at_training = fit(drawn.x, drawn.y, drawn.points, knob=knob)
    own = float(np.square(at_training - drawn.y).mean())
    return decompose(at_points, drawn.truth, drawn.observed, noise=sigma**2, train_error=own)


def spread(variance: float, degrees: float) -> float:
    """Four standard errors of an estimated variance that averages over so many free normal numbers."""
    return 4 * variance * np.sqrt(2 / (degrees * (RESAMPLES - 1)))


@pytest.mark.parametrize("k", [1, 2, 3, 6, 12, 24])
def test_variance_of_neighbours_is_sigma_squared_over_k(drawn, k):
    found = decomposed(drawn, neighbours.fit, k)
    # Answers at the 24 points share observations: about n / k of them are free.
    assert found.variance == pytest.approx(SIGMA**2 / k, abs=spread(SIGMA**2 / k, SIZE / k))
    assert neighbours.variance(sigma=SIGMA, size=SIZE, knob=k) == SIGMA**2 / k


@pytest.mark.parametrize("degree", [0, 1, 3, 7, 23])
def test_variance_of_least_squares_is_sigma_squared_p_over_n(drawn, degree):
    found = decomposed(drawn, polynomial.fit, degree)
    expected = SIGMA**2 * (degree + 1) / SIZE
    assert found.variance == pytest.approx(expected, abs=spread(expected, degree + 1))
    assert polynomial.variance(sigma=SIGMA, size=SIZE, knob=degree) == expected
    # Mallows: the error on the training data falls short of sigma^2 by as much as the variance adds (without bias).
    if degree >= 7:
        own = SIGMA**2 * (1 - (degree + 1) / SIZE)
        assert found.train_error == pytest.approx(own, abs=spread(max(own, 1e-9), SIZE - degree) + 1e-6)


def test_bias_of_a_constant_is_the_spread_of_the_truth(drawn):
    expected = np.square(drawn.truth - drawn.truth.mean()).mean()
    for found in (
        decomposed(drawn, polynomial.fit, 0),
        decomposed(drawn, trees.fit, 0),
        decomposed(drawn, neighbours.fit, SIZE),
    ):
        assert found.bias2 == pytest.approx(expected, abs=0.005)


def test_a_learner_that_contains_the_truth_has_no_bias():
    line = Problem(lambda x: 2 * x[:, 0] - 1, sigma=SIGMA, dimensions=1, design="fixed")
    found = decomposed(line.draw(resamples=RESAMPLES, size=SIZE, points=0, seed=1), polynomial.fit, 1)
    # Squared means of 24 answers that share two numbers, each with the deviation sqrt(variance / resamples).
    assert abs(found.bias2) < 5 * found.variance / RESAMPLES


@pytest.mark.parametrize(("fit", "knob"), [(polynomial.fit, 5), (neighbours.fit, 4), (trees.fit, 3)])
@pytest.mark.parametrize("design", ["fixed", "random"])
def test_the_parts_add_up_to_the_test_error(fit, knob, design):
    problem = Problem(wave, sigma=SIGMA, dimensions=1, design=design)
    drawn = problem.draw(resamples=100, size=SIZE, points=50, seed=2)
    found = decomposed(drawn, fit, knob)
    assert found.total == pytest.approx(found.test_error, abs=4 * found.tolerance)
    assert found.tolerance < 0.05 * found.total
    # Without the noise of the test observations nothing is left between them.
    at_points, _ = fit(drawn.x, drawn.y, drawn.points, knob=knob)
    exact = decompose(at_points, drawn.truth, np.broadcast_to(drawn.truth, at_points.shape), noise=0.0, train_error=0.0)
    assert exact.bias2 + exact.variance == pytest.approx(exact.test_error, rel=1e-12)


def test_bias_is_freed_of_what_few_resamples_add():
    # Two fits around a truth of 0 with unit variance: the plain estimate of the squared bias has the mean 1 / 2.
    random = np.random.default_rng(3)
    found = [
        decompose(random.standard_normal((2, 1)), np.zeros(1), np.zeros((2, 1)), noise=0.0, train_error=0.0)
        for _ in range(4000)
    ]
    # mean^2 - s^2 / 2 = x y for the two draws: mean 0, variance 1.
    assert np.mean([each.bias2 for each in found]) == pytest.approx(0.0, abs=4 / np.sqrt(4000))
    assert np.mean([each.variance for each in found]) == pytest.approx(1.0, abs=4 * np.sqrt(2 / 4000))


@pytest.mark.parametrize(("function", "size"), [(wave, 8), (lambda x: 0 * x[:, 0], 40)])
def test_the_tolerance_is_the_spread_of_the_difference(function, size):
    # Fits far from the truth, where the product with the noise spreads, and near to it, where the squared noise does.
    problem = Problem(function, sigma=SIGMA, dimensions=1, design="fixed")
    differences, tolerances = [], []
    for seed in range(400):
        found = decomposed(problem.draw(resamples=3, size=size, points=0, seed=seed), polynomial.fit, 0)
        differences.append(found.test_error - found.total)
        tolerances.append(found.tolerance)
    # A deviation of 400 normal numbers has itself a deviation of 1 / sqrt(800) = 3.5%.
    assert np.std(differences) == pytest.approx(np.mean(tolerances), rel=0.15)


def test_one_resample_is_refused(drawn):
    with pytest.raises(ValueError, match="at least 2"):
        decompose(np.zeros((1, 4)), np.zeros(4), np.zeros((1, 4)), noise=0.0, train_error=0.0)
    with pytest.raises(ValueError, match="from 1 to the 24"):
        neighbours.fit(drawn.x, drawn.y, drawn.points, knob=25)


def test_neighbours_are_those_of_scikit_learn():
    random = np.random.default_rng(4)
    x, y, points = random.random((2, 30, 3)), random.random((2, 30)), random.random((10, 3))
    ours, own = neighbours.fit(x, y, points, knob=4)
    for row in range(2):
        theirs = KNeighborsRegressor(4).fit(x[row], y[row])
        np.testing.assert_allclose(ours[row], theirs.predict(points))
        np.testing.assert_allclose(own[row], theirs.predict(x[row]))


def test_random_features_are_of_smallest_norm_and_interpolate():
    random = np.random.default_rng(5)
    x, y, points = random.uniform(-1, 1, (3, 10, 2)), random.random((3, 10)), random.uniform(-1, 1, (5, 2))
    _, few = networks.fit_random_features(x, y, points, knob=3)
    _, many = networks.fit_random_features(x, y, points, knob=200)
    assert np.square(few - y).mean() > 1e-3
    np.testing.assert_allclose(many, y, atol=1e-8)


def test_networks_are_trained_each_on_its_own_set():
    random = np.random.default_rng(6)
    x = random.uniform(-1, 1, (3, 12, 1))
    slopes = np.array([1.0, -1.0, 3.0])
    points = np.array([[-0.5], [0.5]])
    at_points, at_training = networks.fit(x, slopes[:, None] * x[..., 0], points, knob=8, steps=300)
    np.testing.assert_allclose(at_points, slopes[:, None] * points[:, 0], atol=0.2)
    np.testing.assert_allclose(at_training, slopes[:, None] * x[..., 0], atol=0.2)


def test_classes_that_a_training_set_lacks_have_probability_zero():
    x = np.array([[[0.0], [1.0], [2.0], [3.0]]])
    shares, own = trees.probabilities(x, np.array([[1, 1, 3, 3]]), np.array([[0.2], [2.8]]), knob=1, num_classes=4)
    np.testing.assert_array_equal(shares[0], [[0, 1, 0, 0], [0, 0, 0, 1]])
    assert own.shape == (1, 4, 4)
    found = digits.measure(
        1, x[0], np.array([1, 1, 3, 3]), x[0], np.array([1, 1, 3, 3]), rows=np.array([[0, 1, 2, 3], [3, 2, 1, 0]])
    )
    assert found.test_error == found.total == 0.0


def test_every_value_of_a_family_sees_the_same_training_sets_and_the_page_has_all(tmp_path):
    names = ("polynomial", "neighbours")
    first = {name: families.run(name, resamples=5, seed=0, note=lambda text: None) for name in names}
    again = families.run("polynomial", resamples=5, seed=0, note=lambda text: None)
    assert first["polynomial"] == json.loads(json.dumps(again))
    # n neighbours of n and a polynomial of degree 0 are both the mean of the same kind of training set.
    assert first["neighbours"]["rows"][0]["knob"] == first["neighbours"]["size"]
    geometry = {
        "noise": [{"dimensions": 1, "contrast": 9.0}, {"dimensions": 10, "contrast": 1.0}],
        "datasets": [
            {
                "name": "<digits>",
                "images": 100,
                "pixels": 64,
                "contrast": 3.0,
                "noise_contrast": 0.5,
                "maximum_likelihood": 7.4,
                "two_nearest": 8.6,
            }
        ],
    }
    path = tmp_path / "page.html"
    path.write_text(report.render(first, geometry, resamples=5))
    page = look(path)
    assert "<digits>" in page.text
    assert "7.4 8.6" in page.text
    assert page.count("svg") == 2 * len(names) + 2
    for name in names:
        winner = report.best(first[name])
        assert f"Smallest test error {winner['test_error']:.3f}" in page.text


def test_the_program_knows_every_family():
    assert bias_variance.FAMILIES == families.NAMES


def test_a_wrong_family_is_one_line(program, tmp_path):
    done = program("experiments.bias_variance", "--family", "polinomial", "--workdir", tmp_path / "run", check=2)
    (line,) = done.stderr.strip().splitlines()
    assert "polynomial" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_program_resumes_by_family(program, tmp_path):
    command = ["experiments.bias_variance", "--resamples", "3", "--workdir", tmp_path / "run", "--json"]
    result = json.loads(program(*command).stdout.splitlines()[-1])
    assert set(result["families"]) == set(families.NAMES)
    assert result == json.loads((tmp_path / "run" / "bias_variance.json").read_text())
    look(tmp_path / "run" / "bias_variance.html")
    (tmp_path / "run" / "parts" / "tree.json").unlink()
    again = program(*command)
    assert again.stderr.count("done before") == len(families.NAMES)  # all families but one, and the geometry
    assert json.loads(again.stdout.splitlines()[-1]) == result
