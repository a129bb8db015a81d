"""How far attention reaches, against closed forms and a plain loop."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from vision.analysis.attention_distance import mean_attention_distance, patch_distances

SQUARE = (2, 2)


def reach(weights, grid, patch_size=1):
    weights = jnp.asarray(weights, jnp.float32)[None, None]
    return mean_attention_distance(weights, jnp.asarray(patch_distances(grid, patch_size))).item()


def test_attention_to_oneself_reaches_nowhere():
    assert reach(np.eye(6), (2, 3), 16) == 0.0


def test_uniform_attention_on_a_square_of_four_is_a_closed_form():
    # Each patch is 0, 1, 1 and sqrt(2) patches away from the four.
    assert reach(np.full((4, 4), 0.25), SQUARE, 8) == pytest.approx(8 * (2 + math.sqrt(2)) / 4, rel=1e-6)


def test_a_shift_by_one_column_is_one_patch():
    # In a row of 4 every patch looks at its right neighbour, the last one at the first: (1 + 1 + 1 + 3) / 4 patches.
    assert reach(np.roll(np.eye(4), 1, axis=1), (1, 4), 5) == pytest.approx(5 * 6 / 4)


def test_any_attention_is_the_double_sum_over_patches_that_have_a_place():
    grid, size, prefix = (3, 2), 7, 2
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(8), size=(2, 3, 8)).astype(np.float32)
    found = mean_attention_distance(jnp.asarray(weights), jnp.asarray(patch_distances(grid, size)))
    assert found.shape == (2, 3)
    for image in range(2):
        for head in range(3):
            means = []
            for query in range(6):
                row = weights[image, head, prefix + query, prefix:].astype(float)
                far = [size * math.hypot(query // 2 - key // 2, query % 2 - key % 2) for key in range(6)]
                means.append(sum(w * d for w, d in zip(row, far, strict=True)) / sum(row))
            assert found[image, head].item() == pytest.approx(sum(means) / 6, rel=1e-5)


def test_what_a_class_token_takes_does_not_shorten_the_reach():
    uniform = np.full((5, 5), 0.05)
    uniform[:, 0] = 0.8
    assert reach(uniform, SQUARE) == pytest.approx((2 + math.sqrt(2)) / 4, rel=1e-6)


def test_patches_that_only_look_at_the_class_token_are_at_distance_0_and_not_nan():
    weights = np.zeros((5, 5))
    weights[:, 0] = 1.0
    assert reach(weights, SQUARE) == 0.0
