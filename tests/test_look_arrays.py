"""What pictures of weights and embeddings are made from, against closed forms."""

import math

import numpy as np
import pytest

from vision.analysis import filters, heat
from vision.analysis.embedding import neighbour_agreement, tsne
from vision.analysis.position_similarity import position_similarity, shown_places
from vision.analysis.token_mixing import frequency, paired_order, unit_maps
from vision.models.positions import sincos_2d


def test_sin_cos_positions_are_alike_by_their_displacement_alone():
    width, grid = 16, (3, 4)
    found = position_similarity(sincos_2d(grid, width))
    speeds = [10_000.0 ** (-i / (width // 4 - 1)) for i in range(width // 4)]
    for place in np.ndindex(*grid, *grid):
        rows, columns = place[0] - place[2], place[1] - place[3]
        expected = sum(math.cos(rows * w) + math.cos(columns * w) for w in speeds) / (2 * len(speeds))
        assert found[place] == pytest.approx(expected, abs=1e-6)


def test_a_position_of_zeros_is_like_none():
    positions = np.zeros((1, 2, 3))
    positions[0, 1] = [3.0, 4.0, 0.0]
    np.testing.assert_allclose(position_similarity(positions)[0, :, 0], [[0, 0], [0, 1]])


def test_shown_places():
    assert shown_places(5, 14).tolist() == [0, 1, 2, 3, 4]
    assert shown_places(37, 3).tolist() == [0, 18, 36]


def wave(rows, columns, *, phase=0.0):
    y, x = np.mgrid[:8, :8]
    return np.cos(2 * np.pi * (rows * y + columns * x) / 8 + phase)


def test_the_frequency_of_a_wave_is_its_own():
    waves = np.stack([wave(0, 1), wave(3, 0), wave(2, 2), np.ones((8, 8)), np.zeros((8, 8))])
    np.testing.assert_allclose(frequency(waves), [1 / 8, 3 / 8, math.hypot(2, 2) / 8, 0, 0], atol=1e-12)


def test_units_of_opposing_phase_are_pairs_and_low_frequencies_come_first():
    pairs = {"high": wave(3, 2), "low": wave(0, 1), "middle": wave(2, 0)}
    units = [pairs["high"], pairs["low"], -0.5 * pairs["middle"], -2 * pairs["low"], -pairs["high"], pairs["middle"]]
    order = paired_order(np.stack(units)).tolist()
    assert [set(order[start : start + 2]) for start in (0, 2, 4)] == [{1, 3}, {2, 5}, {0, 4}]
    odd = paired_order(np.stack([*units, wave(1, 1)])).tolist()
    assert odd[-1] == 6
    assert sorted(odd) == list(range(7))


def test_a_column_of_a_token_mixing_matrix_is_one_unit():
    kernel = np.arange(12.0).reshape(6, 2)  # 2 x 3 patches, 2 units
    np.testing.assert_array_equal(unit_maps(kernel, (2, 3))[1], [[1, 3, 5], [7, 9, 11]])


def test_filters_keep_their_pixels_in_place():
    kernel = np.zeros((3, 2, 3, 4))
    kernel[2, 1, 0, 3] = -5.0
    pixels = filters.as_pixels(filters.convolution_filters(kernel))
    assert pixels.shape == (4, 3, 2, 3)
    assert pixels[3, 2, 1].tolist() == [0, 128, 128]
    assert (pixels[:3] == 128).all()
    dense = np.zeros((12, 5))
    dense[7, 4] = 2.0  # row 1, column 0, channel 1 of 2x2x3
    assert filters.dense_filters(dense, (2, 2, 3))[4, 1, 0].tolist() == [0, 2, 0]


def test_components_of_patch_filters_are_the_directions_that_the_filters_vary_along():
    direction = np.zeros((2, 2, 3))
    direction[0, 1, 2], direction[1, 0, 0] = 0.6, -0.8
    amounts = np.array([3.0, -1.0, 0.5, -2.5])
    kernel = 7.0 + direction.reshape(-1, 1) * amounts  # patch x width
    first = filters.patch_components(kernel, 2)[0]
    np.testing.assert_allclose(first, -direction, atol=1e-9)  # the largest loading is positive


def clusters():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    return np.eye(8)[labels] * 5 + rng.normal(size=(60, 8)) * 0.3, labels


def test_neighbours_of_tight_clusters_agree_and_those_of_an_alternating_line_do_not():
    points, labels = clusters()
    assert neighbour_agreement(points, labels, k=10, metric="cosine") == 1.0
    line = np.arange(10.0)[:, None]
    assert neighbour_agreement(line, np.arange(10) % 2, k=1, metric="euclidean") == 0.0
    # With k = 2 an inner point's neighbours are both of the other label, an end's second neighbour is of its own.
    assert neighbour_agreement(line, np.arange(10) % 2, k=2, metric="euclidean") == pytest.approx(2 / 20)
    assert neighbour_agreement(line, np.zeros(10, int), k=50, metric="euclidean") == 1.0


def test_the_map_keeps_clusters_apart_and_is_the_same_every_time():
    points, labels = clusters()
    found = tsne(points)
    np.testing.assert_array_equal(found, tsne(points))
    assert neighbour_agreement(found, labels, k=10, metric="euclidean") == 1.0
    with pytest.raises(ValueError, match="5 embeddings"):
        tsne(points[:4])


def test_a_map_lies_on_its_patches_where_they_do_not_divide_the_image():
    spread = heat.spread(np.array([[1, 2], [3, 4]]), (5, 4))
    np.testing.assert_array_equal(spread, [[1, 1, 2, 2]] * 3 + [[3, 3, 4, 4]] * 2)


def test_the_brightest_place_is_where_the_map_is_largest():
    values = np.zeros((3, 3))
    values[2, 0] = 0.01
    lit = heat.over_image(np.full((6, 6, 1), 100, np.uint8), values).sum(axis=-1)
    assert (lit[4:, :2] > 1.5 * lit[:4].max()).all()
    nothing = heat.over_image(np.zeros((6, 6, 3), np.uint8), np.zeros((3, 3)))
    assert len(np.unique(nothing.reshape(-1, 3), axis=0)) == 1


def test_signs_have_their_colours():
    blue, white, red = heat.signed_heat(np.array([-1.0, 0.0, 1.0])).astype(int)
    assert blue[2] > blue[0] + 50
    assert red[0] > red[2] + 50
    assert white.min() > 240


def test_tiles_of_a_mosaic_stand_row_by_row():
    tiles = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1).repeat(2, axis=1).repeat(3, axis=2)
    sheet = heat.mosaic(tiles, 3, gap=1)
    assert sheet.shape == (7, 13, 3)
    assert [sheet[1, 1, 0], sheet[1, 5, 0], sheet[2, 11, 0], sheet[4, 1, 0], sheet[5, 7, 0]] == [0, 1, 2, 3, 4]
    assert (sheet[3] == 255).all()
    assert (sheet[4:6, 9:] == 255).all()
    assert heat.enlarged(sheet, 26).shape == (14, 26, 3)
