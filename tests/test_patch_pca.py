"""Patch features as colours: the components, their sign, and the foreground."""

import numpy as np
import pytest

from vision.analysis.patch_pca import components_of, foreground, patch_colors


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape) * np.linspace(3, 0.5, shape[-1])


def by_hand(rows):
    """Eigenvectors of the covariance, each with its largest loading positive."""
    centred = rows - rows.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    vectors = vectors[:, ::-1][:, :3].T
    return np.stack([vector * np.sign(vector[np.abs(vector).argmax()]) for vector in vectors])


@pytest.mark.parametrize("shape", [(40, 6), (5, 9)], ids=["many rows", "more features than rows"])
def test_components_are_eigenvectors_with_their_largest_loading_positive(shape):
    rows = draw(*shape)
    np.testing.assert_allclose(components_of(rows, 3).components_, by_hand(rows), atol=1e-8)


def test_colours_are_the_scores_over_all_images_together_scaled_to_0_and_1():
    features = draw(3, 4, 5, 8).astype(np.float32)
    rows = features.reshape(-1, 8).astype(float)
    scores = (rows - rows.mean(axis=0)) @ by_hand(rows).T
    expected = (scores - scores.min(axis=0)) / (scores.max(axis=0) - scores.min(axis=0))
    colors = patch_colors(features)
    np.testing.assert_allclose(colors.rgb.reshape(-1, 3), expected, atol=1e-5)
    variance = np.linalg.eigvalsh(np.cov(rows.T))[::-1]
    np.testing.assert_allclose(colors.explained, variance[:3] / variance.sum(), rtol=1e-5)


def test_mirrored_features_have_mirrored_colours_as_the_components_keep_their_sign():
    features = draw(2, 3, 3, 5)
    np.testing.assert_allclose(patch_colors(-features).rgb, 1 - patch_colors(features).rgb, atol=1e-9)


def test_components_that_are_not_there_or_do_not_vary_are_in_the_middle():
    plane = np.zeros((1, 2, 2, 4))
    plane[..., 1] = [[0, 1], [2, 4]]
    np.testing.assert_allclose(patch_colors(plane).rgb[0, ..., 0], [[0, 0.25], [0.5, 1]])
    np.testing.assert_array_equal(patch_colors(plane).rgb[..., 1:], 0.5)
    np.testing.assert_array_equal(patch_colors(np.full((1, 2, 2, 4), 0.1)).rgb, 0.5)
    assert patch_colors(draw(1, 1, 2, 1)).rgb.shape == (1, 1, 2, 3)
    with pytest.raises(ValueError, match="two patches"):
        patch_colors(draw(1, 1, 1, 8))


@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_the_foreground_is_the_object_whatever_the_sign_of_its_features(direction):
    features = 0.01 * draw(2, 6, 6, 4)
    inside = np.zeros((2, 6, 6), bool)
    inside[:, 2:5, 1:4] = True
    features[inside, 2] += direction
    np.testing.assert_array_equal(foreground(features), inside)
    assert not foreground(features, threshold=5.0).any()
    colors = patch_colors(features, inside).rgb
    assert (colors[~inside] == 0).all()
    np.testing.assert_allclose(colors[inside].max(axis=0), 1)
