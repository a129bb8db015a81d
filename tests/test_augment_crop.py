"""Crops are resized as Pillow resizes and drawn as torchvision draws."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mesh_of
from PIL import Image
from scipy import stats

from tools.golden_cases.geometric import BOXES, CROPS, QUANTILES, statistics
from vision.data.augment.crop import center_crop, draw_resized_crop, random_resized_crop
from vision.data.augment.resample import resize_crop
from vision.training.sharding import batch_sharding

GOLDENS = np.load(Path(__file__).parent / "goldens" / "augment_geometric.npz")
PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# Share of the values of noise that may differ from Pillow's, by one level: none where the weights are exact.
DIFFERING = {"bilinear": 0.0, "bicubic": 2e-4}
SHAPES = [((5, 7), (5, 7)), ((32, 32), (32, 32)), ((64, 50), (16, 20)), ((60, 80), (75, 24))]


def noise(shape, seed=0):
    return np.random.Generator(np.random.Philox(seed)).integers(0, 256, shape, dtype=np.uint8)


def boxes(height, width, count=40):
    """Boxes of every size, the whole image and single pixels among them: top, left, height, width."""
    random = np.random.Generator(np.random.Philox(3))
    yield from ((0, 0, height, width), (height - 1, 0, 1, width), (height - 1, width - 1, 1, 1))
    for _ in range(count):
        rows, columns = random.integers(1, height + 1), random.integers(1, width + 1)
        yield random.integers(0, height - rows + 1), random.integers(0, width - columns + 1), rows, columns


def resized(image, box, size, interpolation):
    top, left, height, width = box
    return resize_crop(image, top=top, left=left, crop_height=height, crop_width=width, size=size, filter=interpolation)


def by_pillow(image, box, size, interpolation):
    """Along the rows and then along the columns, in an order that is the same in all versions of Pillow."""
    top, left, height, width = map(int, box)
    cut = Image.fromarray(image).crop((left, top, left + width, top + height))
    rows = cut.resize((size[1], height), PILLOW[interpolation])
    return np.asarray(rows.resize((size[1], size[0]), PILLOW[interpolation]))


@pytest.mark.parametrize("interpolation", PILLOW)
@pytest.mark.parametrize(("shape", "size"), SHAPES)
def test_resized_boxes_equal_pillow(shape, size, interpolation):
    image = noise((*shape, 3))
    function = jax.jit(lambda box: resized(jnp.asarray(image), box, size, interpolation))
    differences = np.stack(
        [function(jnp.array(box)) - by_pillow(image, box, size, interpolation).astype(int) for box in boxes(*shape)]
    )
    assert np.abs(differences).max() <= 1
    assert (differences != 0).mean() <= DIFFERING[interpolation]


@pytest.mark.parametrize("interpolation", PILLOW)
def test_one_call_of_pillow_is_the_same_where_it_too_takes_the_rows_first(interpolation):
    image = noise((60, 80, 3))
    direct = np.asarray(Image.fromarray(image).resize((33, 50), PILLOW[interpolation]))
    np.testing.assert_array_equal(resized(jnp.asarray(image), (0, 0, 60, 80), (50, 33), interpolation), direct)


@pytest.mark.parametrize("interpolation", PILLOW)
@pytest.mark.parametrize(("shape", "size"), SHAPES)
def test_floating_boxes_equal_pillow_unrounded(shape, size, interpolation):
    image = noise(shape).astype(np.float32) / 255
    function = jax.jit(lambda box: resized(jnp.asarray(image)[..., None], box, size, interpolation)[..., 0])
    for box in boxes(*shape, count=15):
        np.testing.assert_allclose(function(jnp.array(box)), by_pillow(image, box, size, interpolation), atol=1e-6)


@pytest.mark.parametrize("interpolation", PILLOW)
@pytest.mark.parametrize("number", range(len(CROPS)))
def test_torchvision_crops(number, interpolation):
    *box, side = CROPS[number]
    made = resized(jnp.asarray(GOLDENS["image"]), box, (side, side), interpolation)
    differences = np.abs(made.astype(int) - GOLDENS[f"crop/{interpolation}/{number}"])
    assert differences.max() <= 1
    # Two of the crops shrink by 2/3 and 3/5, and then many cubic means are halfway between two levels.
    assert (differences != 0).mean() <= {"bilinear": 0.0, "bicubic": 0.004}[interpolation]


@pytest.mark.slow
@pytest.mark.parametrize("interpolation", PILLOW)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_bits_do_not_depend_on_the_size_of_the_batch(interpolation, dtype):
    images = jnp.asarray(noise((64, 40, 52, 3))).astype(dtype) / (1 if dtype == np.uint8 else 255)
    images = images.astype(dtype)
    keys = jax.random.split(jax.random.key(2), 64)
    batch = jax.jit(jax.vmap(random_resized_crop(size=32, interpolation=interpolation)))
    whole = np.asarray(batch(keys, images))
    for size in (1, 4, 7):
        np.testing.assert_array_equal(batch(keys[:size], images[:size]), whole[:size])


def test_eight_devices_give_the_bits_of_one():
    images = jnp.asarray(noise((16, 30, 41, 3)))
    keys = jax.random.split(jax.random.key(2), 16)
    made = []
    for count in (1, 8):
        rows = batch_sharding(mesh_of(count))
        batch = jax.jit(jax.vmap(random_resized_crop(size=20, interpolation="bicubic")), out_shardings=rows)
        made.append(np.asarray(batch(jax.device_put(keys, rows), jax.device_put(images, rows))))
    np.testing.assert_array_equal(*made)


def torchvision_boxes(height, width, scale, ratio, count):
    """RandomResizedCrop.get_params in NumPy."""
    random = np.random.Generator(np.random.Philox(11))
    drawn = []
    for _ in range(count):
        for _ in range(10):
            area = height * width * random.uniform(*scale)
            shape = math.exp(random.uniform(math.log(ratio[0]), math.log(ratio[1])))
            columns, rows = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
            if 0 < columns <= width and 0 < rows <= height:
                top, left = random.integers(0, height - rows + 1), random.integers(0, width - columns + 1)
                break
        else:
            columns, rows = width, height
            if width / height < ratio[0]:
                rows = round(width / ratio[0])
            elif width / height > ratio[1]:
                columns = round(height * ratio[1])
            top, left = (height - rows) // 2, (width - columns) // 2
        drawn.append((top, left, rows, columns))
    return np.array(drawn)


@pytest.mark.parametrize("name", BOXES)
def test_boxes_are_drawn_as_torchvision_draws_them(name):
    height, width, scale, ratio = BOXES[name]
    keys = jax.random.split(jax.random.key(5), 20_000)
    drawn = jax.jit(jax.vmap(lambda key: jnp.stack(draw_resized_crop(key, height, width, scale, ratio))))(keys)
    top, left, rows, columns = np.asarray(drawn).T
    assert min(top.min(), left.min()) >= 0
    assert (top + rows).max() <= height
    assert (left + columns).max() <= width
    assert min(rows.min(), columns.min()) >= 1
    measured = statistics(np.asarray(drawn)).astype(np.float32)
    simulated = statistics(torchvision_boxes(height, width, scale, ratio, 20_000)).astype(np.float32)
    bound = 2.23 * np.sqrt(2 / 20_000) + 1e-4  # Kolmogorov and Smirnov at 1e-4, and the steps of 20,000 draws
    for mine, other, quantiles in zip(measured, simulated, GOLDENS[f"boxes/{name}"], strict=True):
        assert stats.ks_2samp(mine, other).pvalue > 1e-4
        below, up_to = (np.searchsorted(np.sort(mine), quantiles, side) / len(mine) for side in ("left", "right"))
        assert (below <= QUANTILES + bound).all()
        assert (up_to >= QUANTILES - bound).all()


@pytest.mark.parametrize(
    ("shape", "ratio", "box"),
    [
        ((10, 100), (3 / 4, 4 / 3), (0, 43, 10, 13)),  # too wide: 13 is 10 * 4 / 3
        ((100, 10), (3 / 4, 4 / 3), (43, 0, 13, 10)),
        ((20, 20), (1 / 2, 2.0), (0, 0, 20, 20)),  # the whole area fits in one shape only
    ],
)
def test_where_no_box_fits_it_is_the_largest_in_the_middle(shape, ratio, box):
    keys = jax.random.split(jax.random.key(0), 50)
    drawn = jax.vmap(lambda key: jnp.stack(draw_resized_crop(key, *shape, (1.0, 1.0), ratio)))(keys)
    assert {tuple(map(int, each)) for each in np.asarray(drawn)} == {box}


def test_crop_shows_the_box_that_was_drawn():
    rows, columns = np.mgrid[:60, :60].astype(np.float32)
    image = jnp.asarray(np.stack([rows, columns], axis=2))
    keys = jax.random.split(jax.random.key(8), 200)
    crops = np.asarray(jax.vmap(random_resized_crop(size=16), (0, None))(keys, image))
    drawn = jax.vmap(lambda key: jnp.stack(draw_resized_crop(key, 60, 60, (0.08, 1.0), (3 / 4, 4 / 3))))(keys)
    top, left, height, width = np.asarray(drawn).T
    # A triangle that reaches over no edge keeps straight lines: the middle of the crop is that of the box.
    middle = crops[:, 7:9, 7:9].mean((1, 2))
    np.testing.assert_allclose(middle[:, 0], top + (height - 1) / 2, atol=1e-3)
    np.testing.assert_allclose(middle[:, 1], left + (width - 1) / 2, atol=1e-3)


def test_size_none_keeps_the_size_and_the_whole_image_at_scale_one():
    image = jnp.asarray(noise((12, 12, 3)))
    crop = random_resized_crop(scale=(1.0, 1.0), ratio=(1.0, 1.0))
    np.testing.assert_array_equal(crop(jax.random.key(0), image), image)


@pytest.mark.parametrize(("shape", "top", "left"), [((9, 12), 2, 3), ((7, 6), 0, 0), ((6, 9), 0, 2)])
def test_center_crop_rounds_halves_to_even_as_torchvision(shape, top, left):
    image = jnp.asarray(noise((*shape, 3)))
    cut = center_crop(size=6)(jax.random.key(0), image)
    np.testing.assert_array_equal(cut, image[top : top + 6, left : left + 6])


def test_center_crop_larger_than_the_image_is_an_error():
    with pytest.raises(ValueError, match="an image of 5 by 9 pixels has no square of 6"):
        center_crop(size=6)(jax.random.key(0), jnp.zeros((5, 9, 1)))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"size": 0}, "size"),
        ({"scale": (0.5, 0.1)}, "scale"),
        ({"scale": (0.5, 1.1)}, "scale"),
        ({"ratio": (0.0, 1.0)}, "ratio"),
    ],
)
def test_impossible_values_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        random_resized_crop(**options)
