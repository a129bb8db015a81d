"""Intrinsic dimensions are those of sets whose dimension is known; distances concentrate as theory says."""

import numpy as np
import pytest
from sklearn.datasets import make_swiss_roll

from vision.studies.bias_variance.distances import of_noise, relative_contrast
from vision.studies.bias_variance.intrinsic_dimension import maximum_likelihood, neighbour_distances, two_nearest

ESTIMATORS = [maximum_likelihood, two_nearest]


@pytest.mark.parametrize("dimension", [1, 2, 5, 10])
def test_estimates_are_unbiased_for_even_points(dimension):
    # Around a point of a Poisson process the volumes T_j^d are sums of exponential variables: no edges, no curvature.
    n = 4000
    volumes = np.cumsum(np.random.default_rng(dimension).exponential(size=(n, 20)), axis=1)
    distances = volumes ** (1 / dimension)
    # sum of k - 1 logarithms ~ Gamma(k - 1): the inverse has the variance d^2 / (k - 3); the mean over k has no more.
    assert maximum_likelihood(distances) == pytest.approx(dimension, abs=4 * dimension / np.sqrt(7 * n))
    assert maximum_likelihood(distances, smallest_k=5, largest_k=5) == pytest.approx(
        dimension, abs=4 * dimension / np.sqrt(2 * n)
    )
    # A line through the origin weighs log-ratios by themselves; its spread is below twice that of the likelihood's.
    assert two_nearest(distances) == pytest.approx(dimension, abs=8 * dimension / np.sqrt(n))


@pytest.mark.parametrize("estimate", ESTIMATORS)
@pytest.mark.parametrize("dimension", [2, 4])
def test_linear_subspace_has_its_own_dimension_in_any_space(estimate, dimension):
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.standard_normal((30, dimension)))[0]
    points = random.standard_normal((1500, dimension)) @ basis.T
    assert estimate(neighbour_distances(points, k=20)) == pytest.approx(dimension, rel=0.1)


@pytest.mark.parametrize("estimate", ESTIMATORS)
def test_swiss_roll_has_two_dimensions(estimate):
    points, _ = make_swiss_roll(1500, random_state=0)
    assert estimate(neighbour_distances(points, k=20)) == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize("estimate", ESTIMATORS)
def test_the_scale_of_the_data_does_not_matter(estimate):
    points = np.random.default_rng(1).standard_normal((200, 3))
    near, far = (estimate(neighbour_distances(points * scale, k=20)) for scale in (1.0, 1000.0))
    assert near == pytest.approx(far, rel=1e-9)


def test_equal_points_are_counted_once():
    points = np.random.default_rng(2).standard_normal((100, 3))
    twice = neighbour_distances(np.concatenate([points, points]), k=20)
    assert twice.shape == (100, 20)
    assert twice.min() > 0
    np.testing.assert_allclose(np.sort(twice, axis=0), np.sort(neighbour_distances(points, k=20), axis=0))


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match="there are 20"):
        neighbour_distances(np.arange(20.0)[:, None], k=20)
    with pytest.raises(ValueError, match="between 3 and 5"):
        maximum_likelihood(np.ones((4, 5)))


@pytest.mark.parametrize("dimension", [1.0, 2.5, 7.0])
def test_two_nearest_is_exact_where_ratios_follow_their_law(dimension):
    # F(mu) = 1 - mu^-d, so the i-th of 10 ratios is (1 - i / 10)^(-1 / d); the largest is among those left out.
    ratios = np.append((1 - np.arange(1, 10) / 10) ** (-1 / dimension), 1e9)
    distances = np.stack([np.full(10, 3.0), 3.0 * ratios], axis=1)
    assert two_nearest(np.random.default_rng(0).permutation(distances)) == pytest.approx(dimension, rel=1e-9)


def test_contrast_by_hand():
    # From 0 the distances are 1, 2 and 4, from 3 they are 2, 1 and 1: (3 / 1 + 1 / 1) / 2.
    points = np.array([[1.0], [2.0], [4.0]])
    assert relative_contrast(points, np.array([[0.0], [3.0]])) == pytest.approx(2.0)
    assert relative_contrast(points, np.array([[0.0], [2.0]])) == pytest.approx(3.0)  # a point itself has no ratio
    with pytest.raises(ValueError, match="distance 0"):
        relative_contrast(points, points)


def test_distances_of_noise_concentrate():
    options = {"points": 200, "queries": 50, "seed": 0}
    low, middle, high = (of_noise(size, **options) for size in (2, 20, 2000))
    assert low > 10 > middle > 0.5 > high
    # Squared distances have mean d / 6 and variance 7 d / 180; the range of 200 normal draws is 5.49 deviations.
    deviation = np.sqrt(7 / 180 * 2000) / (2000 / 6) / 2
    assert high == pytest.approx(5.49 * deviation, rel=0.15)
