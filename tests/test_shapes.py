"""The shapes: the same pixels for everyone, geometry as in the textbook, words held out where they should be."""

import hashlib
import math
import re
from collections import Counter

import numpy as np
import pytest

from vision.data.builders import shapes, shapes24
from vision.data.builders.shape_captions import captions
from vision.data.builders.shape_raster import PIXELS, SAMPLES, inside, render
from vision.data.builders.shape_scenes import (
    BACKGROUNDS,
    CELLS,
    CLASSES,
    COLOR_JITTER,
    COLORS,
    HELDOUT,
    HELDOUT_24,
    RADII,
    SHAPES,
    SHAPES_8,
    SHAPES_24,
    SIZES,
    SPLITS,
    UNITS,
    draw,
)

COUNT = 400


@pytest.fixture(scope="module")
def scenes():
    return {split: draw(split, COUNT) for split in SPLITS}


@pytest.fixture(scope="module")
def pictures(scenes):
    return {split: render(each) for split, each in scenes.items()}


def there(scenes):
    """Which of the three objects are in each picture, ``[scene, 3]``."""
    return np.arange(3) < scenes.num_objects[:, None]


# Geometry


def exact_area(shape, r):
    """Closed forms of the areas of the shapes' definitions."""
    if shape == "circle":
        return math.pi * r**2
    if shape == "square":
        return (2 * 7 / 8 * r) ** 2
    if shape == "triangle":
        return 1.75 * r * (2 * 0.95 * r) / 2
    if shape == "star":  # regular pentagram: ten triangles between the center, a tip and a notch
        return 10 * 0.5 * r * (r * math.cos(math.radians(72)) / math.cos(math.radians(36))) * math.sin(math.radians(36))
    if shape == "cross":
        return 2 * (2 * r) * (2 * r / 3) - (2 * r / 3) ** 2
    if shape == "ring":
        return math.pi * r**2 * (1 - 0.3)
    if shape == "diamond":
        return 2 * r * (2 * 0.75 * r) / 2
    if shape == "moon":  # the disk less its lens with the disk of radius s, the centers d apart
        s, d = 0.85 * r, 0.5 * r
        lens = r**2 * math.acos((d**2 + r**2 - s**2) / (2 * d * r)) + s**2 * math.acos(
            (d**2 + s**2 - r**2) / (2 * d * s)
        )
        lens -= 0.5 * math.sqrt((-d + r + s) * (d + r - s) * (d - r + s) * (d + r + s))
        return math.pi * r**2 - lens
    raise AssertionError(shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_area_is_the_closed_form(shape):
    """Points are counted on a grid of a thousandth of the radius; the star's directions are rounded to as much."""
    radius = 1000
    grid = np.arange(-1100, 1101, dtype=np.int32)
    count = inside(shape, grid[None, :, None], grid[None, None, :], np.full((1, 1, 1), radius, np.int32)).sum()
    assert count == pytest.approx(exact_area(shape, radius), rel=0.004)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_mirror_images_and_fill_their_box(shape):
    grid = np.arange(-120, 121, dtype=np.int32)
    (picture,) = inside(shape, grid[None, :, None], grid[None, None, :], np.full((1, 1, 1), 100, np.int32))
    if shape == "moon":
        np.testing.assert_array_equal(picture, picture[::-1])
    else:
        np.testing.assert_array_equal(picture, picture[:, ::-1])
    rows, columns = np.flatnonzero(picture.any(1)) - 120, np.flatnonzero(picture.any(0)) - 120
    assert max(abs(rows).max(), abs(columns).max()) <= 100
    assert abs(rows).max() >= 87, "it is as large as its radius says"


def test_unknown_shape_is_named():
    point = np.zeros((1, 1, 1), np.int32)
    with pytest.raises(ValueError, match="unknown shape 'heart'; there are circle"):
        inside("heart", point, point, point)


def test_pictures_of_circles_against_supersampling_in_floating_point(scenes, pictures):
    """Each pixel of a circle is the mean of its 16 samples, taken here one by one, rounded half up."""
    each, picture = scenes["train"], pictures["train"]
    alone = np.flatnonzero((each.num_objects == 1) & (each.shape[:, 0] == SHAPES.index("circle")))
    assert len(alone) >= 5
    offsets = (np.arange(PIXELS * SAMPLES) + 0.5) / SAMPLES
    for index in alone:
        (row, column), radius = each.center[index, 0] / UNITS, each.radius[index, 0] / UNITS
        covered = np.hypot(offsets[:, None] - row, offsets[None, :] - column) <= radius
        share = covered.reshape(PIXELS, SAMPLES, PIXELS, SAMPLES).mean((1, 3))[..., None]
        expected = share * each.rgb[index, 0] + (1 - share) * each.background_rgb[index]
        np.testing.assert_array_equal(picture[index], np.floor(expected + 0.5))


def test_areas_in_the_pictures_are_the_closed_forms(scenes, pictures):
    """How much of each pixel is the object's follows from its levels; 16 samples a pixel leave 2% for a circle."""
    each, picture = scenes["test"], pictures["test"].astype(float)
    seen = set()
    for index in np.flatnonzero(each.num_objects == 1):
        ground = each.background_rgb[index].astype(float)
        step = each.rgb[index, 0] - ground
        area = ((picture[index] - ground) @ step / (step @ step)).sum()
        shape, radius = SHAPES[each.shape[index, 0]], each.radius[index, 0] / UNITS
        assert area == pytest.approx(exact_area(shape, radius), rel=0.02 if shape == "circle" else 0.06), shape
        seen.add(shape)
    assert seen == set(SHAPES)


SOLID = ("circle", "square", "triangle", "star", "cross", "diamond")


@pytest.mark.parametrize("split", SPLITS)
def test_the_middle_of_an_object_has_its_color_and_empty_cells_the_background(scenes, pictures, split):
    each, picture = scenes[split], pictures[split]
    checked = 0
    for index in range(COUNT):
        cells = set(each.cell[index, : each.num_objects[index]].tolist())
        assert len(cells) == each.num_objects[index]
        for cell in set(range(9)) - cells:
            row, column = divmod(cell, 3)
            empty = picture[index, 21 * row + 1 : 21 * row + 21, 21 * column + 1 : 21 * column + 21]
            assert (empty == each.background_rgb[index]).all()
        for number in range(each.num_objects[index]):
            row, column = each.center[index, number] // UNITS
            assert CELLS[each.cell[index, number]] == CELLS[row // 21 * 3 + column // 21]
            if SHAPES[each.shape[index, number]] in SOLID:
                assert (picture[index, row, column] == each.rgb[index, number]).all()
                checked += 1
    assert checked > COUNT


@pytest.mark.parametrize("split", SPLITS)
def test_colors_are_near_their_names(scenes, split):
    each = scenes[split]
    named = np.array(list(COLORS.values()))[each.color]
    assert abs(each.rgb.astype(int) - named).max() == COLOR_JITTER
    named = np.array(list(BACKGROUNDS.values()))[each.background]
    assert abs(each.background_rgb.astype(int) - named).max() == COLOR_JITTER


def test_names_of_colors_can_be_told_apart():
    """Even with the jitter of both the nearest name is the right one, and objects stand out from any background."""
    levels = np.array([*COLORS.values(), *BACKGROUNDS.values()], float)
    distance = np.linalg.norm(levels[:, None] - levels, axis=-1) + 1e9 * np.eye(len(levels))
    assert distance[: len(COLORS), : len(COLORS)].min() > 2 * math.sqrt(3) * COLOR_JITTER
    assert distance[len(COLORS) :, len(COLORS) :].min() > 2 * math.sqrt(3) * COLOR_JITTER
    assert distance[: len(COLORS), len(COLORS) :].min() > 80


# Draws


def test_a_scene_does_not_depend_on_how_many_are_drawn(scenes):
    few = draw("train", 7)
    for name, column in vars(few).items():
        np.testing.assert_array_equal(column, getattr(scenes["train"], name)[:7])


def test_draws_are_those_of_philox(scenes):
    """The number of objects of the first scenes, worked out in Python's integers from NumPy's generator."""
    raw = np.random.Philox(key=np.array([20240, 0], np.uint64)).random_raw(5 * 32)
    expected = [1 + ((int(raw[32 * index]) >> 32) * 3 >> 32) for index in range(5)]
    assert scenes["train"].num_objects[:5].tolist() == expected


def test_splits_are_different_pictures(pictures):
    seen = [{picture.tobytes() for picture in each} for each in pictures.values()]
    assert len(set.union(*seen)) == sum(map(len, seen)) == len(SPLITS) * COUNT


def test_held_out_combinations_cover_every_word_once():
    assert len(HELDOUT) == 8 == len(CLASSES) // 8
    words = [CLASSES[each].split() for each in HELDOUT]
    assert {color for color, _ in words} == set(COLORS)
    assert {shape for _, shape in words} == set(SHAPES)


def test_three_held_out_combinations_of_every_word_leave_five():
    assert len(set(HELDOUT_24)) == 24
    assert set(HELDOUT) < set(HELDOUT_24)
    words = [CLASSES[each].split() for each in HELDOUT_24]
    assert Counter(color for color, _ in words) == dict.fromkeys(COLORS, 3)
    assert Counter(shape for _, shape in words) == dict.fromkeys(SHAPES, 3)


@pytest.mark.parametrize("recipe", [SHAPES_8, SHAPES_24])
def test_no_object_of_the_other_splits_is_held_out(recipe):
    for split, count in SPLITS.items():
        each = draw(split, count, recipe)
        combination = (each.color * len(SHAPES) + each.shape)[there(each)]
        heldout = set(recipe.heldout)
        expected = heldout if split == "heldout" else set(range(len(CLASSES))) - heldout
        assert set(combination.tolist()) == expected, "all of its combinations appear, and no other"
        main = each.color[:, 0] * len(SHAPES) + each.shape[:, 0]
        assert set(main.tolist()) == expected


def test_the_two_data_sets_have_no_picture_in_common(pictures):
    """Who trains on one may test on the other."""
    known = {picture.tobytes() for each in pictures.values() for picture in each}
    assert not known & {picture.tobytes() for picture in render(draw("train", COUNT, SHAPES_24))}


def test_the_first_data_set_is_what_it_has_been(scenes):
    """Digest of all columns of its first scenes, from before there was a second."""
    digest = hashlib.sha256()
    for split in SPLITS:
        for name, column in sorted(vars(scenes[split]).items()):
            digest.update(name.encode() + np.ascontiguousarray(column).tobytes())
    assert digest.hexdigest()[:16] == "fd95171d54eece01"


def test_values_are_drawn_evenly():
    """Chi-squared of 20,000 scenes for each feature; its 1 - 1e-4 quantiles from the Wilson-Hilferty formula."""
    each = draw("train", 20_000)
    alone = each.num_objects == 1
    columns = {
        "num_objects": (each.num_objects - 1, 3),
        "background": (each.background, len(BACKGROUNDS)),
        "cell": (each.cell[:, 0], len(CELLS)),
        "third cell": (each.cell[:, 2], len(CELLS)),
        "color": (each.color[:, 0], len(COLORS)),
        "third shape": (each.shape[:, 2], len(SHAPES)),
        "size": (each.size[alone, 0], 2),
        "radius": (each.radius[:, 1] - RADII[0][0], RADII[0][1] - RADII[0][0] + 1),
    }
    for name, (column, size) in columns.items():
        counts = np.bincount(column, minlength=size)
        assert len(counts) == size, name
        statistic = ((counts - len(column) / size) ** 2 / (len(column) / size)).sum()
        freedom = size - 1
        quantile = freedom * (1 - 2 / (9 * freedom) + 3.719 * math.sqrt(2 / (9 * freedom))) ** 3
        assert statistic < quantile, (name, counts)


def test_the_main_object_is_the_only_large_one_among_several(scenes):
    for each in scenes.values():
        several = each.num_objects > 1
        assert (each.size[several, 0] == SIZES.index("large")).all()
        assert (each.size[:, 1:] == SIZES.index("small")).all()
        low, high = np.array(RADII)[each.size].transpose(2, 0, 1)
        assert ((low <= each.radius) & (each.radius <= high)).all()


def test_objects_of_a_scene_differ_in_color_or_shape(scenes):
    for each in scenes.values():
        combination = np.sort(each.color * len(SHAPES) + each.shape, axis=1)
        assert (np.diff(combination, axis=1) > 0).all()


# The data set


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Two preparations, of 40 examples a split."""
    builders = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "SPLITS", dict.fromkeys(SPLITS, 40))
        for number in range(2):
            folder = tmp_path_factory.mktemp(f"shapes{number}")
            builder = shapes.Shapes(data_dir=str(folder), file_format="array_record")
            builder.download_and_prepare()
            builders.append(builder)
    return builders


def examples(builder, split):
    """All examples of a split, in one order for every preparation."""
    return sorted(builder.as_data_source(split=split), key=lambda example: example["image"].tobytes())


@pytest.mark.parametrize("split", SPLITS)
def test_two_preparations_are_equal_and_hold_the_scenes(built, scenes, pictures, split):
    first, second = (examples(builder, split) for builder in built)
    assert len(first) == len(second) == 40
    position = {picture.tobytes(): index for index, picture in enumerate(pictures[split][:40])}
    each = scenes[split]
    for example, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(example["image"], other["image"])
        index = position[example["image"].tobytes()]
        number = int(each.num_objects[index])
        assert example["num_objects"] == number
        assert [text.decode() for text in example["captions"]] == list(captions(each, index).values())
        assert example["background"] == each.background[index]
        for name in ("color", "shape", "size", "cell"):
            column = getattr(each, name)[index]
            assert example[name] == column[0]
            assert list(map(int, example["objects"][name])) == column[:number].tolist()


def test_classes_are_named_as_captions_name_them(built):
    features = built[0].info.features
    assert features["label"].num_classes == 64
    for example in examples(built[0], "heldout"):
        name = features["label"].int2str(int(example["label"]))
        assert re.fullmatch(rf"an? {name}", example["captions"][0].decode())
        assert features["color"].int2str(int(example["color"])) == name.split()[0]
        assert features["shape"].int2str(int(example["shape"])) == name.split()[1]
        assert int(example["label"]) in HELDOUT


def test_the_second_data_set_is_built_of_its_own_scenes(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "SPLITS", dict.fromkeys(SPLITS, 5))
        builder = shapes24.Shapes24(data_dir=str(tmp_path), file_format="array_record")
        builder.download_and_prepare()
    assert builder.name == "shapes24"
    for split in SPLITS:
        expected = {picture.tobytes() for picture in render(draw(split, 5, SHAPES_24))}
        assert {example["image"].tobytes() for example in examples(builder, split)} == expected


@pytest.mark.parametrize("builder", [shapes.Shapes, shapes24.Shapes24])
def test_the_data_set_says_its_sizes(builder):
    text = builder.__doc__
    assert f"{sum(SPLITS.values()):,} scenes" in text
    assert SPLITS == {"train": 20_000, "val": 2_000, "test": 2_000, "heldout": 2_000}


def test_preparing_needs_no_tensorflow():
    import subprocess
    import sys

    code = (
        "import sys; from vision.data.builders import shapes, shape_scenes as s;"
        "print(next(shapes.Shapes._generate_examples(None, 'val'))[0], 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "False"]
