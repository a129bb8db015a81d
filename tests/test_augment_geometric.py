"""Affine maps equal Pillow's and torchvision's; maps and erasures are drawn as often and as far as they say."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from tools.golden_cases.geometric import AFFINE, ANGLES, ERASED, QUANTILES, statistics
from vision.data.augment.affine import affine_matrix, warp
from vision.data.augment.erase import cutout, draw_center, draw_erasing, random_erasing
from vision.data.augment.geometric import draw_affine, random_affine, random_rotate, random_shear, random_translate

GOLDENS = np.load(Path(__file__).parent / "goldens" / "augment_geometric.npz")
KEYS = jax.random.split(jax.random.key(7), 4000)
PILLOW = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR}
SHAPES = [(5, 7, 3), (32, 32, 1), (61, 200, 3), (1, 1, 3)]


def noise(shape, seed=0):
    return np.random.Generator(np.random.Philox(seed)).integers(0, 256, shape, dtype=np.uint8)


def matrices(height, width, count=40, seed=1):
    """Maps about the middle: turned and sheared ones, then those that only scale and move."""
    random = np.random.Generator(np.random.Philox(seed))
    for number in range(count):
        angle, *shear = random.uniform(-1, 1, 3) * (180, 40, 40) if number < count // 2 else (0, 0, 0)
        move = tuple(random.uniform(-3, 3, 2))
        yield affine_matrix(
            angle=angle, translate=move, scale=random.uniform(0.5, 2), shear=tuple(shear), height=height, width=width
        )


def pillow_warp(image, matrix, interpolation, fill):
    channels = image.shape[2]
    picture = Image.fromarray(image if channels == 3 else image[:, :, 0])
    moved = picture.transform(
        picture.size,
        Image.Transform.AFFINE,
        [float(value) for value in matrix],
        PILLOW[interpolation],
        fillcolor=(fill,) * channels if channels == 3 else fill,
    )
    return np.asarray(moved).reshape(image.shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_nearest_equals_pillow_bit_for_bit(shape):
    image = noise(shape)
    moved = jax.jit(lambda matrix: warp(jnp.asarray(image), matrix, interpolation="nearest", fill=77.0))
    for matrix in matrices(*shape[:2]):
        np.testing.assert_array_equal(moved(matrix), pillow_warp(image, matrix, "nearest", 77))


@pytest.mark.parametrize("shape", SHAPES)
def test_bilinear_differs_from_pillow_by_rounding_only(shape):
    image = noise(shape)
    moved = jax.jit(lambda matrix: warp(jnp.asarray(image), matrix, interpolation="bilinear", fill=77.0))
    turned = list(matrices(*shape[:2]))[:20]
    differences = np.stack([moved(each) - pillow_warp(image, each, "bilinear", 77).astype(int) for each in turned])
    assert np.abs(differences).max() <= 1
    assert (differences != 0).mean() < 0.002


def test_bilinear_of_floats_equals_pillow_and_keeps_fractions():
    image = noise((20, 30, 1)).astype(np.float32) / 255
    for matrix in matrices(20, 30):
        picture = Image.fromarray(image[:, :, 0])
        there = picture.transform((30, 20), Image.Transform.AFFINE, list(map(float, matrix)), PILLOW["bilinear"])
        # Coordinates are taken to 2**-17 of a pixel; Pillow's own edge test may see a border pixel the other way.
        moved = warp(jnp.asarray(image), matrix, interpolation="bilinear", fill=0.0)[:, :, 0]
        np.testing.assert_allclose(moved, np.asarray(there), atol=2**-16 + 1e-6)


def test_matrix_is_the_inverse_of_the_composed_maps():
    def at(values):
        return np.array([[values[0], values[1], values[2]], [values[3], values[4], values[5]], [0, 0, 1]], np.float64)

    for angle, (right, down), scale, (shear_x, shear_y) in AFFINE:
        turn, x, y = np.radians([angle, shear_x, shear_y])
        rotation = at([np.cos(turn), -np.sin(turn), 0, np.sin(turn), np.cos(turn), 0])
        sheared = at([1, 0, 0, -np.tan(y), 1, 0]) @ at([1, -np.tan(x), 0, 0, 1, 0])
        to_middle = at([1, 0, 18, 0, 1, 20])
        moved = at([1, 0, right, 0, 1, down]) @ to_middle
        forward = moved @ rotation @ np.diag([scale, scale, 1]) @ sheared @ np.linalg.inv(to_middle)
        matrix = affine_matrix(
            angle=angle, translate=(right, down), scale=scale, shear=(shear_x, shear_y), height=40, width=36
        )
        np.testing.assert_allclose(at(matrix), np.linalg.inv(forward), atol=1e-5)


@pytest.mark.parametrize("interpolation", PILLOW)
def test_torchvision_affine_and_rotate(interpolation):
    image = jnp.asarray(GOLDENS["image"])
    height, width, _ = image.shape
    maps = [
        ("affine", 200.0, number, {"angle": angle, "translate": move, "scale": scale, "shear": shear})
        for number, (angle, move, scale, shear) in enumerate(AFFINE)
    ]
    maps += [("rotate", 10.0, number, {"angle": -angle}) for number, angle in enumerate(ANGLES)]
    differences = []
    for name, fill, number, options in maps:
        matrix = affine_matrix(**options, height=height, width=width)
        moved = warp(image, matrix, interpolation=interpolation, fill=fill)
        differences.append(np.abs(moved.astype(int) - GOLDENS[f"{name}/{interpolation}"][number]))
    if interpolation == "nearest":
        assert np.max(differences) == 0
    else:
        assert np.max(differences) == 1
        assert np.count_nonzero(differences) < 0.002 * np.size(differences)


@pytest.mark.parametrize("interpolation", PILLOW)
@pytest.mark.parametrize("angle", [0, 90, 180, -90, 360])
def test_quarter_turns_only_permute_the_pixels(interpolation, angle):
    image = noise((9, 9, 3))
    matrix = affine_matrix(angle=angle, height=9, width=9)
    np.testing.assert_array_equal(
        warp(jnp.asarray(image), matrix, interpolation=interpolation), np.rot90(image, -angle // 90)
    )


@pytest.mark.slow
@pytest.mark.parametrize("interpolation", PILLOW)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_bits_do_not_depend_on_the_size_of_the_batch(interpolation, dtype):
    images = noise((64, 23, 31, 3)).astype(dtype) / (1 if dtype == np.uint8 else np.float32(255))
    batch = jax.jit(jax.vmap(random_affine(interpolation=interpolation, fill=99.0)))
    whole = np.asarray(batch(KEYS[:64], images.astype(dtype)))
    for size in (1, 4, 7):
        np.testing.assert_array_equal(batch(KEYS[:size], images[:size].astype(dtype)), whole[:size])


def coordinates(height, width):
    """An image whose two channels are the coordinates of its pixels, from which a map can be read off."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return jnp.asarray(np.stack([columns, rows], axis=2))


def slopes(augmentation, keys=KEYS[:1000]):
    """The linear parts ``[keys, 2, 2]`` of the maps from output to input, at the middle of the image."""
    mapped = np.asarray(jax.vmap(augmentation, (0, None))(keys, coordinates(32, 32)))
    middle = mapped[:, 15:17, 15:17]
    return np.stack([middle[:, 0, 1] - middle[:, 0, 0], middle[:, 1, 0] - middle[:, 0, 0]], axis=2)


def test_rotation_turns_by_uniform_angles_at_its_rate():
    maps = slopes(random_rotate(degrees=(-20.0, 40.0), probability=0.6, interpolation="bilinear"))
    angles = np.degrees(np.arctan2(maps[:, 0, 1], maps[:, 0, 0]))
    turned = np.abs(angles) > 1e-3
    assert abs(turned.mean() - 0.6) < 4 * np.sqrt(0.24 / 1000)
    assert stats.kstest(angles[turned], stats.uniform(-20, 60).cdf).pvalue > 1e-4
    np.testing.assert_allclose(np.linalg.det(maps), 1.0, atol=1e-3)


def test_shear_tilts_both_axes_by_uniform_angles():
    maps = slopes(random_shear(horizontal=(-10.0, 20.0), vertical=(-30.0, 0.0), interpolation="bilinear"))
    # The inverse of SHy(y) SHx(x) is [[1 + tan x tan y, tan x], [tan y, 1]].
    horizontal, vertical = (np.degrees(np.arctan(tangent)) for tangent in (maps[:, 0, 1], maps[:, 1, 0]))
    assert stats.kstest(horizontal, stats.uniform(-10, 30).cdf).pvalue > 1e-4
    assert stats.kstest(vertical, stats.uniform(-30, 30).cdf).pvalue > 1e-4
    np.testing.assert_allclose(maps[:, 1, 1], 1.0, atol=1e-3)
    assert np.abs(np.corrcoef(horizontal, vertical)[0, 1]) < 4 / np.sqrt(1000)


def test_translation_moves_by_rounded_uniform_pixels():
    image = jnp.zeros((9, 11, 1), jnp.uint8).at[4, 5].set(200)
    moved = np.asarray(
        jax.vmap(random_translate(horizontal=3 / 11, vertical=0.2), (0, None))(KEYS, image)  # 3 and 1.8 pixels
    )
    assert (moved.sum((1, 2, 3)) == 200).all()
    rows, columns = np.unravel_index(moved.reshape(len(KEYS), -1).argmax(1), (9, 11))
    shares = {3.0: columns - 5, 1.8: rows - 4}
    for reach, moves in shares.items():
        most = round(reach)
        ends = np.clip(np.arange(-most, most + 2) - 0.5, -reach, reach)
        counts = np.bincount(moves + most, minlength=2 * most + 1)
        assert stats.chisquare(counts, np.diff(ends) / (2 * reach) * len(KEYS)).pvalue > 1e-4


def test_affine_draws_are_uniform_and_independent():
    ranges = {
        "degrees": (-30.0, 10.0),
        "scale": (0.5, 2.0),
        "horizontal_shear": (-5.0, 15.0),
        "vertical_shear": (0.0, 25.0),
    }
    drawn = jax.vmap(lambda key: draw_affine(key, 1000, 2000, translate=(0.1, 0.3), **ranges))(KEYS)
    values = [drawn.angle, *drawn.translate, drawn.scale, *drawn.shear]
    ends = [ranges["degrees"], (-200, 200), (-300, 300), *list(ranges.values())[1:]]
    for value, (low, high) in zip(values, ends, strict=True):
        # Whole pixels out of 400 and more: the steps are far below what the test can tell.
        assert stats.kstest(np.asarray(value), stats.uniform(low, high - low).cdf).pvalue > 1e-4
    correlation = np.corrcoef(np.stack(values)) - np.eye(len(values))
    assert np.abs(correlation).max() < 4.5 / np.sqrt(len(KEYS))


def test_affine_scales_as_drawn():
    options = {"degrees": (0.0, 0.0), "translate": (0.0, 0.0)}
    options |= {"horizontal_shear": (0.0, 0.0), "vertical_shear": (0.0, 0.0)}
    maps = slopes(random_affine(**options, scale=(0.8, 1.6), interpolation="bilinear"))
    assert stats.kstest(1 / maps[:, 0, 0], stats.uniform(0.8, 0.8).cdf).pvalue > 1e-4


def close_to_quantiles(values, quantiles, draws=20_000):
    """Whether values come from a distribution of which another ``draws`` values had these quantiles (KS at 1e-4)."""
    bound = 2.23 * np.sqrt(1 / len(values) + 1 / draws) + 1 / draws
    ordered = np.sort(values.astype(np.float32))
    below = np.searchsorted(ordered, quantiles, "left") / len(values)
    up_to = np.searchsorted(ordered, quantiles, "right") / len(values)
    return (below <= QUANTILES + bound).all() and (up_to >= QUANTILES - bound).all()


def boxes_of(erased):
    """Top, left, height and width of what is erased in ``[images, height, width]``; all of them rectangles."""
    rows, columns = erased.any(2), erased.any(1)
    boxes = np.stack([rows.argmax(1), columns.argmax(1), rows.sum(1), columns.sum(1)], axis=1)
    assert (erased.sum((1, 2)) == boxes[:, 2] * boxes[:, 3]).all()
    return boxes


def test_erasing_draws_boxes_as_torchvision_does_at_its_rate():
    height, width, scale, ratio = ERASED
    image = jnp.full((height, width, 1), 255, jnp.uint8)
    erase = random_erasing(probability=0.4, scale=scale, ratio=ratio)
    keys = jax.random.split(jax.random.key(1), 20_000)
    erased = np.asarray(jax.jit(jax.vmap(erase, (0, None)))(keys, image))[..., 0] == 0
    happened = erased.any((1, 2))
    assert abs(happened.mean() - 0.4) < 4 * np.sqrt(0.24 / len(keys))
    measured = statistics(boxes_of(erased[happened]))
    for name, values, quantiles in zip(
        ("top", "left", "area", "ratio"), measured, GOLDENS["boxes/erased"], strict=True
    ):
        assert close_to_quantiles(values, quantiles), name


def test_erasing_gives_up_where_no_rectangle_fits():
    drawn = jax.vmap(lambda key: jnp.stack(draw_erasing(key, 4, 4, (1.0, 1.0), (1.0, 1.0))))(KEYS)
    assert (np.asarray(drawn)[:, 2:] == 0).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_erased_values(dtype):
    image = jnp.asarray(noise((24, 24, 3)) // 2 + 1).astype(dtype) / (1 if dtype == np.uint8 else 255)
    image = image.astype(dtype)
    one = 1 if dtype == np.uint8 else 1 / 255
    mean = jax.vmap(random_erasing(probability=1.0, value="mean", mean=(200.0, 210.0, 220.0)), (0, None))
    changed = np.asarray(mean(KEYS[:50], image))
    touched = (changed != np.asarray(image)).all(3)
    np.testing.assert_allclose(changed[touched], np.tile(np.array([200, 210, 220]) * one, (touched.sum(), 1)), 1e-6)
    random = jax.vmap(random_erasing(probability=1.0, value="noise", scale=(0.9, 0.9), ratio=(1.0, 1.0)), (0, None))
    erased = np.asarray(random(KEYS[:50], jnp.zeros_like(image)))
    values = np.round(erased[erased.any(3)] / one).astype(int).ravel()
    assert stats.chisquare(np.bincount(values, minlength=256)).pvalue > 1e-4


def test_cutout_is_a_square_about_a_uniform_pixel_cut_off_at_the_border():
    image = jnp.full((7, 9, 1), 255, jnp.uint8)
    centers = np.asarray(jax.vmap(cutout(size=1), (0, None))(KEYS, image))[..., 0] == 0
    assert (centers.sum((1, 2)) == 1).all()
    assert stats.chisquare(centers.sum(0).ravel()).pvalue > 1e-4
    squares = np.asarray(jax.vmap(cutout(size=4), (0, None))(KEYS[:200], image))[..., 0] == 0
    rows, columns = np.mgrid[:7, :9]
    for center, square in zip(centers[:200], squares, strict=True):
        row, column = np.argwhere(center)[0]
        near = (rows >= row - 2) & (rows < row + 2) & (columns >= column - 2) & (columns < column + 2)
        np.testing.assert_array_equal(square, near)
    assert {int(each) for each in squares.sum((1, 2))} >= {4, 16}


def test_centers_reach_every_pixel():
    rows, columns = jax.vmap(lambda key: draw_center(key, 2, 3))(KEYS)
    assert stats.chisquare(np.bincount(np.asarray(3 * rows + columns), minlength=6)).pvalue > 1e-4


@pytest.mark.parametrize(
    ("factory", "options", "named"),
    [
        (random_affine, {"scale": (0.0, 1.0)}, "scale"),
        (random_affine, {"translate": (0.1, 1.5)}, "translate"),
        (random_affine, {"horizontal_shear": (-90.0, 0.0)}, "shears"),
        (random_affine, {"probability": 2.0}, "probability"),
        (random_rotate, {"degrees": (10.0, -10.0)}, "degrees"),
        (random_rotate, {"fill": 256.0}, "fill"),
        (random_shear, {"vertical": (5.0, 1.0)}, "vertical_shear"),
        (random_translate, {"horizontal": -0.1}, "translate"),
        (random_erasing, {"probability": -0.1}, "probability"),
        (random_erasing, {"scale": (0.0, 0.5)}, "scale"),
        (random_erasing, {"scale": (0.2, 0.1)}, "scale"),
        (random_erasing, {"ratio": (0.0, 1.0)}, "ratio"),
        (random_erasing, {"value": "mean"}, "mean"),
        (random_erasing, {"mean": (1.0,)}, "mean"),
        (random_erasing, {"value": "mean", "mean": (1.0, 300.0, 2.0)}, "mean"),
        (cutout, {"size": -1}, "size"),
        (cutout, {"value": "mean", "mean": ()}, "mean"),
    ],
)
def test_impossible_values_are_named(factory, options, named):
    with pytest.raises(ValueError, match=named):
        factory(**options)


def test_mean_must_fit_the_channels():
    erase = random_erasing(value="mean", mean=(1.0, 2.0))
    with pytest.raises(ValueError, match="mean has 2 values, the images have 3 channels"):
        erase(KEYS[0], jnp.zeros((4, 4, 3)))
