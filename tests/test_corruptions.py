"""Corruptions do what they are named after, as NumPy, SciPy and scikit-image do it, and to each image on its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from images import noise as noisy
from images import smooth
from skimage import transform

from vision.data import corrupt
from vision.data.corrupt import cover, light, move
from vision.data.corrupt.severity import SEVERITIES, STRENGTHS

KEY = jax.random.key(3)
SIDE = 16
IMAGES = np.stack([noisy(SIDE, SIDE, seed=seed) for seed in range(5)])
COMPILED = jax.jit(corrupt.corrupt, static_argnames="name")
TRANSLATE, ROTATE, TILT = jax.jit(move.translate), jax.jit(move.rotate), jax.jit(move.tilt, static_argnums=1)
HIDE, LINE = jax.jit(cover.occlusion), jax.jit(cover.line, static_argnums=(1, 2))
SQUARE = jnp.asarray(smooth(SIDE, SIDE))


@pytest.fixture(scope="module")
def made():
    """Every corruption of the same images at strengths 0, 1 and 5."""

    def change(name, strength):
        index, others = jnp.arange(len(IMAGES)), jnp.asarray(IMAGES)
        return np.asarray(COMPILED(name, others, jnp.int32(strength), KEY, index=index, others=others))

    return {name: {strength: change(name, strength) for strength in (0, 1, 5)} for name in corrupt.CORRUPTIONS}


def test_the_table_has_a_line_for_every_corruption():
    assert list(SEVERITIES) == list(corrupt.CORRUPTIONS)
    for severity in SEVERITIES.values():
        steps = np.diff(severity.values)
        assert (steps > 0).all() or (steps < 0).all()


@pytest.mark.parametrize("name", corrupt.CORRUPTIONS)
def test_strength_0_is_the_identity_and_5_is_further_than_1(made, name):
    whole = made[name]
    np.testing.assert_array_equal(whole[0], IMAGES)
    far = [np.abs(whole[s].astype(int) - IMAGES).mean() for s in (1, 5)]
    assert 0 < far[0] < far[1]
    assert whole[5].dtype == np.uint8


@pytest.mark.parametrize("name", corrupt.CORRUPTIONS)
def test_an_image_is_corrupted_alike_in_every_batch(made, name):
    order, others = jnp.array([3, 1, 0, 4, 2]), jnp.asarray(IMAGES)
    again = COMPILED(name, others[order], jnp.int32(5), KEY, index=order, others=others)
    np.testing.assert_array_equal(again, made[name][5][order])


@pytest.mark.slow
@pytest.mark.parametrize("name", corrupt.CORRUPTIONS)
def test_no_bit_depends_on_the_size_of_the_batch(name):
    images = jnp.asarray(np.stack([noisy(28, 28, seed=seed) for seed in range(97)]))
    whole = COMPILED(name, images, jnp.int32(4), KEY, index=jnp.arange(97), others=images[:7])
    for size in (1, 16, 61):
        part = COMPILED(name, images[-size:], jnp.int32(4), KEY, index=jnp.arange(97)[-size:], others=images[:7])
        np.testing.assert_array_equal(part, whole[-size:])


def test_a_split_is_corrupted_in_pieces_as_it_is_at_once(monkeypatch):
    monkeypatch.setattr(corrupt, "_CHUNK", 2)
    others, key = jnp.asarray(IMAGES), jax.random.key(0)
    whole = COMPILED("occlusion", others, jnp.int32(2), key, index=jnp.arange(len(IMAGES)), others=others)
    np.testing.assert_array_equal(corrupt.corrupted("occlusion", IMAGES, 2), whole)


@pytest.mark.parametrize(("right", "down"), [(3, 0), (-2, 0), (0, 5), (-4, 1)])
def test_moving_by_whole_pixels_is_a_roll_with_zeros(right, down):
    expected = np.roll(IMAGES[0], (down, right), axis=(0, 1))
    rows, columns = np.arange(SIDE)[:, None] - down, np.arange(SIDE) - right
    expected[(rows < 0) | (rows >= SIDE) | (columns < 0) | (columns >= SIDE)] = 0
    np.testing.assert_array_equal(TRANSLATE(jnp.asarray(IMAGES[0]), right, down), expected)


def test_translation_is_one_of_four_moves_of_the_stated_length(made):
    whole = made["translation"]
    for image, moved in zip(IMAGES, whole[5], strict=True):
        candidates = [TRANSLATE(jnp.asarray(image), *step) for step in ((5, 0), (-5, 0), (0, 5), (0, -5))]
        assert sum(np.array_equal(moved, candidate) for candidate in candidates) == 1


@pytest.mark.parametrize(("degrees", "clockwise", "quarters"), [(90.0, True, -1), (90.0, False, 1), (180.0, True, 2)])
def test_quarter_turns_are_those_of_numpy(degrees, clockwise, quarters):
    turned = ROTATE(jnp.asarray(IMAGES[0]), degrees, clockwise)
    np.testing.assert_array_equal(turned, np.rot90(IMAGES[0], quarters))


def projected(image, degrees, side):
    """A camera that looks from one side's length at a plane, point by point, and scikit-image's bilinear warp."""
    radians, middle = np.deg2rad(degrees if side % 2 == 0 else -degrees), (SIDE - 1) / 2

    def source(points):
        u, v = (points - middle).T
        along, across = (u, v) if side < 2 else (v, u)
        # The ray (along, across, f) t meets the plane through (0, 0, f) whose normal is (-sin, 0, cos).
        t = SIDE * np.cos(radians) / (SIDE * np.cos(radians) - along * np.sin(radians))
        in_plane = np.hypot(along * t, SIDE * t - SIDE) * np.sign(along), across * t
        return np.stack(in_plane if side < 2 else in_plane[::-1], axis=1) + middle

    return transform.warp(image.astype(float), source, order=1, mode="constant", cval=0.0)


@pytest.mark.parametrize("side", range(4))
def test_tilting_is_a_perspective_view(side):
    tilted = np.asarray(TILT(SQUARE, 40.0, side)).astype(float)
    expected = projected(np.asarray(SQUARE), 40.0, side)
    # scikit-image takes the image to end at the middle of its outer pixels, so there they differ.
    inside = transform.warp(np.ones((SIDE, SIDE)), lambda p: p, order=1) > 0
    inside &= projected(np.ones((SIDE, SIDE, 1)), 40.0, side)[..., 0] == 1
    assert inside.sum() > SIDE**2 / 3
    assert np.abs(tilted - expected)[inside].max() < 1.5
    assert (tilted[expected.max(axis=-1) == 0] < 215).all()


def test_a_plane_that_is_not_tilted_stays():
    np.testing.assert_array_equal(TILT(jnp.asarray(IMAGES[0]), 0.0, 2), IMAGES[0])


def test_brightness_adds_a_share_of_the_scale(made):
    whole = made["brightness"]
    np.testing.assert_array_equal(whole[5], np.minimum(IMAGES + np.round(0.5 * 255), 255))


def test_contrast_shrinks_the_distance_to_the_mean(made):
    whole = made["contrast"]
    for image, flat in zip(IMAGES, whole[1], strict=True):
        grey = np.round(np.floor(image @ [0.299, 0.587, 0.114] + 0.5).mean())
        assert np.abs(flat - (grey + 0.4 * (image - grey))).max() <= 1 + 0.6  # cut off, and the mean in whole levels


def test_shade_leaves_one_side_and_takes_a_share_of_the_other():
    images = jnp.full((12, SIDE, SIDE, 1), 200, jnp.uint8)
    seen = set()
    for shaded in np.asarray(COMPILED("shade", images, jnp.int32(5), KEY))[..., 0]:
        turns = [np.rot90(shaded, k) for k in range(4)]
        ramp = np.broadcast_to(np.round(200 - np.round(200 * 0.95 * np.arange(SIDE) / (SIDE - 1))), (SIDE, SIDE))
        found = [k for k, turned in enumerate(turns) if np.abs(turned - ramp).max() <= 1]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) >= 3


def test_blur_keeps_a_constant_image_and_the_mean_of_a_point(made):
    constant = jnp.full((SIDE, SIDE, 1), 77, jnp.uint8)
    blur = jax.jit(light.blur)
    np.testing.assert_array_equal(blur(KEY, constant, jnp.int32(5)), constant)
    point = np.zeros((SIDE, SIDE, 1), np.uint8)
    point[8, 8] = 255
    blurred = np.asarray(blur(KEY, jnp.asarray(point), jnp.int32(5)), float)[..., 0]
    sigma = 0.1 * SIDE
    y, x = np.mgrid[-8:8, -8:8]
    gaussian = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    np.testing.assert_allclose(blurred, 255 * gaussian / gaussian.sum(), atol=0.6)


def test_noise_has_the_stated_deviation():
    image = jnp.full((64, 64, 1), 128, jnp.uint8)
    added = np.asarray(jax.jit(light.noise)(KEY, image, jnp.int32(1)), float) - 128
    deviation = 0.08 * 255
    assert abs(added.mean()) < 4 * deviation / 64
    np.testing.assert_allclose(added.std(), deviation, rtol=4 / np.sqrt(2 * 64**2))
    np.testing.assert_allclose((np.abs(added) < deviation).mean(), 0.683, atol=0.03)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_occlusion_hides_the_stated_share(strength):
    black = jnp.zeros((SIDE, SIDE, 3), jnp.uint8)
    hidden = np.asarray(HIDE(KEY, black, jnp.int32(strength)))
    side = 2 * strength
    assert (hidden == cover.GREY).sum() == 3 * side**2
    rows, columns, _ = np.nonzero(hidden)
    assert np.ptp(rows) == np.ptp(columns) == side - 1


def test_clutter_is_pieces_of_others_and_lines_around_an_object_that_stays():
    black, white = jnp.zeros((SIDE, SIDE, 1), jnp.uint8), jnp.full((3, SIDE, SIDE, 1), 255, jnp.uint8)
    counts, clutter = [], jax.jit(cover.clutter)
    for strength in STRENGTHS:
        cluttered = np.asarray(clutter(KEY, black, jnp.int32(strength), white))
        only_lines = np.asarray(clutter(KEY, black, jnp.int32(strength), jnp.zeros_like(white)))
        number = SEVERITIES["clutter"].values[strength - 1]
        assert 16 <= (cluttered == 255).sum() <= number * 16 + (only_lines == 255).sum()
        assert 0 < (only_lines > 0).sum() <= number * SIDE
        counts.append((cluttered > 0).sum())
        over = np.asarray(clutter(KEY, SQUARE[..., :1], jnp.int32(strength), white))
        np.testing.assert_array_equal(over, np.maximum(SQUARE[..., :1], cluttered))
        behind = np.asarray(clutter(KEY, SQUARE[..., :1], jnp.int32(strength), jnp.zeros_like(white)))
        np.testing.assert_array_equal(behind, np.maximum(SQUARE[..., :1], only_lines))
    assert (np.diff(counts) >= 0).all()
    assert counts[-1] > counts[0]


@pytest.mark.parametrize("ends", [((2, 3), (9, 14)), ((9, 14), (2, 3)), ((0, 5), (15, 5)), ((4, 4), (4, 4))])
def test_lines_join_their_ends_without_gaps(ends):
    drawn = np.asarray(LINE(jnp.array(ends), SIDE, SIDE))
    (y0, x0), (y1, x1) = ends
    length = max(abs(y1 - y0), abs(x1 - x0)) + 1
    assert drawn[y0, x0]
    assert drawn[y1, x1]
    assert length <= drawn.sum() <= 2 * length
    axis = 1 if abs(y1 - y0) >= abs(x1 - x0) else 0
    assert drawn.any(axis=axis).sum() == length


@pytest.mark.parametrize(
    ("names", "strengths", "message"),
    [
        (("blurr",), (1,), "unknown corruption 'blurr'; did you mean 'blur'"),
        (("blur",), (6,), "from 1 to 5, got 6"),
        ((), (1,), "at least one"),
        (("blur", "blur"), (1,), "none twice"),
    ],
)
def test_what_there_is_not_is_named(names, strengths, message):
    with pytest.raises(ValueError, match=message):
        corrupt.check(names, strengths)
