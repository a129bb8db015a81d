"""Attention to patches, and the patches that hold most of it."""

import jax.numpy as jnp
import numpy as np
import pytest

from vision.analysis.attention_maps import attention_to_patches, mass_mask


@pytest.fixture
def weights():
    """Two images, two heads, a class token, a register and four patches."""
    return np.random.default_rng(0).dirichlet(np.ones(6), size=(2, 2, 6)).astype(np.float32)


def test_the_class_token_s_row_without_what_is_no_patch(weights):
    found = attention_to_patches(jnp.asarray(weights), 4, class_token=True)
    np.testing.assert_array_equal(found, weights[:, :, 0, 2:])


def test_without_a_class_token_it_is_the_mean_over_the_patches(weights):
    found = attention_to_patches(jnp.asarray(weights), 4, class_token=False)
    expected = sum(weights[:, :, 2 + query, 2:] for query in range(4)) / 4
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("keep", "mask"), [(0.4, [1, 0, 0]), (0.6, [1, 1, 0]), (0.75, [1, 1, 0]), (0.9, [1, 1, 1]), (1.0, [1, 1, 1])]
)
def test_the_mask_holds_the_fewest_patches_with_that_much(keep, mask):
    np.testing.assert_array_equal(mass_mask(np.array([5.0, 3.0, 2.0]) / 16, keep), np.array(mask, bool))


def test_the_mask_holds_its_share_and_would_not_without_its_smallest_patch():
    maps = np.random.default_rng(1).dirichlet(np.ones(49), size=(3, 4))
    for each, mask in zip(maps.reshape(-1, 49), mass_mask(maps, 0.6).reshape(-1, 49), strict=True):
        assert each[mask].sum() >= 0.6
        assert each[mask].sum() - each[mask].min() < 0.6
        assert each[mask].min() > each[~mask].max()


@pytest.mark.parametrize("keep", [0.0, 1.5])
def test_a_share_that_cannot_be(keep):
    with pytest.raises(ValueError, match="must be in"):
        mass_mask(np.ones(3), keep)
