"""Each augmentation does what its name says, as often as it says."""

import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision.data.augment import AUGMENTATIONS, compose, resolve
from vision.data.augment.base import Draw, OverVisits
from vision.data.augment.flip import random_flip
from vision.data.augment.shift import random_shift
from vision.errors import ConfigError

KEYS = jax.random.split(jax.random.key(0), 3000)


def of_key(augmentation):
    """An augmentation as a function of (key, image), at an example's third visit where visits matter."""
    if not isinstance(augmentation, OverVisits):
        return augmentation
    return lambda key, image: augmentation.apply(Draw(key, jax.random.fold_in(key, 1), jnp.int32(2)), image)


def draws(keys):
    """Draws of first visits."""
    return Draw(keys, keys, jnp.zeros(len(keys), jnp.int32))


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize(("shape", "dtype"), [((5, 7, 3), np.uint8), ((5, 7, 3), np.float32), ((1, 1, 1), np.uint8)])
def test_contract_pure_shape_and_type_kept_batched_by_vmap(name, shape, dtype):
    assert inspect.getdoc(AUGMENTATIONS[name])
    augmentation = of_key(AUGMENTATIONS[name]())
    alone, batched = jax.jit(augmentation), jax.jit(jax.vmap(augmentation))
    levels = np.random.default_rng(0).integers(0, 256, (4, *shape), dtype=np.uint8)
    images = jnp.asarray(levels if dtype == np.uint8 else levels / np.float32(255))
    made = batched(KEYS[:4], images)
    assert made.shape == (4, *shape)
    assert made.dtype == dtype
    for row in (0, 3):
        np.testing.assert_array_equal(alone(KEYS[row], images[row]), made[row])
    np.testing.assert_array_equal(batched(KEYS[:4], images), made)


def test_shift_moves_by_every_offset_equally_often_and_fills_with_zero():
    image = jnp.zeros((5, 5, 1), jnp.uint8).at[2, 2].set(9)
    shifted = np.asarray(jax.vmap(random_shift(pixels=1), (0, None))(KEYS, image))
    assert (shifted.sum((1, 2, 3)) == 9).all()
    places = np.argmax(shifted.reshape(len(KEYS), -1), axis=1)
    counts = np.bincount(places, minlength=25).reshape(5, 5)
    assert counts[1:4, 1:4].sum() == len(KEYS)
    chi_square = np.sum((counts[1:4, 1:4] - len(KEYS) / 9) ** 2 / (len(KEYS) / 9))
    assert chi_square < 31.8, "99.99% quantile of chi-square with 8 degrees of freedom"


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_flip_mirrors_left_to_right_at_its_rate(probability):
    image = jnp.arange(6, dtype=jnp.uint8).reshape(2, 3, 1)
    flipped = np.asarray(jax.vmap(random_flip(probability=probability), (0, None))(KEYS, image))
    mirrored = (flipped == image[:, ::-1]).all((1, 2, 3))
    assert (mirrored | (flipped == image).all((1, 2, 3))).all()
    deviation = np.sqrt(probability * (1 - probability) / len(KEYS))
    assert abs(mirrored.mean() - probability) <= 4 * deviation


def test_steps_of_a_list_have_keys_of_their_own():
    sections = resolve(({"name": "random_flip"}, {"name": "random_flip"}), "augment")
    image = jnp.arange(3, dtype=jnp.uint8).reshape(1, 3, 1)
    twice = np.asarray(jax.vmap(compose(sections, "augment"), (0, None))(draws(KEYS), image))
    kept = (twice == image).all((1, 2, 3)).mean()
    assert abs(kept - 0.5) < 0.04, "with one key for both the second flip would always undo the first"


@pytest.mark.parametrize(
    "section", [{"name": "random_shift", "pixels": -1}, {"name": "random_flip", "probability": 1.5}]
)
def test_impossible_values_name_the_place(section):
    with pytest.raises(ConfigError, match=r"augment\[0\]"):
        compose((section,), "augment")


def test_alternating_flip_mirrors_half_at_first_and_every_image_at_every_second_visit():
    image = jnp.arange(6, dtype=jnp.uint8).reshape(2, 3, 1)
    flip = AUGMENTATIONS["alternating_flip"]().apply
    at = [
        np.asarray(jax.vmap(flip, (0, None))(Draw(KEYS[::-1], KEYS, jnp.full(len(KEYS), visit)), image))
        for visit in range(4)
    ]
    mirrored = [(each == image[:, ::-1]).all((1, 2, 3)) for each in at]
    assert abs(mirrored[0].mean() - 0.5) < 4 * 0.5 / np.sqrt(len(KEYS))
    for earlier, later in itertools.pairwise(mirrored):
        np.testing.assert_array_equal(earlier, ~later)
