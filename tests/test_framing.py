"""Crops fall where torchvision's would, by closed form or its algorithm in NumPy; resizing does not shift an image."""

import numpy as np
import pytest
from images import noise, smooth
from PIL import Image
from scipy import stats

from vision.data.framing import Box, Uniforms, center, random_resized, resize, whole

NONE = Uniforms(0, 0, 0)
LIBRARIES = ("pillow", "opencv")


def resized(pixels, box, output, library="pillow", interpolation="bilinear"):
    return resize(pixels, box, output, interpolation=interpolation, library=library)


@pytest.mark.parametrize(
    ("size", "output"), [((375, 500), (224, 224)), ((500, 375), (224, 224)), ((300, 300), (96, 64))]
)
def test_center_is_torchvisions_resize_and_center_crop(size, output):
    """Resize(256) and CenterCrop(224) keep the central 0.875 of the shorter side, in the output's shape."""
    box = center(fraction=0.875)(size, output, NONE)
    scale = 0.875 * min(size[0] / output[0], size[1] / output[1])
    assert box.height == pytest.approx(output[0] * scale)
    assert box.width == pytest.approx(output[1] * scale)
    assert box.top == pytest.approx((size[0] - box.height) / 2)
    assert box.left == pytest.approx((size[1] - box.width) / 2)
    if output == (224, 224):
        assert box.height == pytest.approx(min(size) * 224 / 256)


@pytest.mark.parametrize("size", [(256, 320), (320, 256)])
def test_center_of_the_right_size_is_a_plain_crop(size):
    """No resizing takes place, so the pixels are those of the middle, as CenterCrop(224) takes them."""
    image = noise(*size)
    top, left = (size[0] - 224) // 2, (size[1] - 224) // 2
    box = center(fraction=224 / 256)(size, (224, 224), NONE)
    for library in LIBRARIES:
        np.testing.assert_array_equal(
            resized(image, box, (224, 224), library), image[top : top + 224, left : left + 224]
        )


def test_center_stays_within_the_image():
    """29 / 7 * 7 is more than 29 in floating point, and Pillow refuses a box that begins before the image."""
    for output in (7, 11, 28, 49, 96, 161, 224):
        for size in range(1, 700):
            box = center()((size, size), (output, output), NONE)
            assert box.top >= 0
            assert box.height <= size
    assert resized(noise(29, 29), center()((29, 29), (7, 7), NONE), (7, 7)).shape == (7, 7, 3)


@pytest.mark.parametrize("fraction", [0.0, -1.0, 1.01, float("nan")])
def test_fraction_outside_its_range(fraction):
    with pytest.raises(ValueError, match="fraction"):
        center(fraction=fraction)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"scale": (0.5, 0.4)}, "scale"),
        ({"scale": (0.5, 1.1)}, "scale"),
        ({"ratio": (2.0, 1.0)}, "ratio"),
        ({"ratio": (0.0, 1.0)}, "ratio"),
    ],
)
def test_ranges_of_random_resized(options, match):
    with pytest.raises(ValueError, match=match):
        random_resized(**options)


def torchvisions(size, scale, ratio, rng):
    """RandomResizedCrop.get_params of torchvision: ``(top, left, height, width)``."""
    rows, columns = size
    for _ in range(10):
        area = rows * columns * rng.uniform(*scale)
        aspect = np.exp(rng.uniform(*np.log(ratio)))
        width, height = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if 0 < width <= columns and 0 < height <= rows:
            return rng.integers(0, rows - height + 1), rng.integers(0, columns - width + 1), height, width
    if columns / rows < min(ratio):
        width, height = columns, round(columns / min(ratio))
    elif columns / rows > max(ratio):
        height, width = rows, round(rows * max(ratio))
    else:
        height, width = rows, columns
    return (rows - height) // 2, (columns - width) // 2, height, width


@pytest.mark.parametrize("size", [(375, 500), (40, 33), (1000, 90), (64, 700)])
def test_random_resized_is_distributed_as_torchvisions(size):
    """Kolmogorov-Smirnov on each coordinate, at a level of 1e-4; the last two sizes need the fallback at times."""
    scale, ratio = (0.08, 1.0), (3 / 4, 4 / 3)
    crop, rng = random_resized(scale=scale, ratio=ratio), np.random.default_rng(0)
    ours = np.array([crop(size, (224, 224), Uniforms(0, visit, index)) for visit in range(40) for index in range(100)])
    theirs = np.array([torchvisions(size, scale, ratio, rng) for _ in range(4000)])
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-4
    joint = [boxes[:, 2] * boxes[:, 3] for boxes in (ours, theirs)]
    assert stats.ks_2samp(*joint).pvalue > 1e-4
    assert (ours[:, 0] + ours[:, 2] <= size[0]).all()
    assert (ours[:, 1] + ours[:, 3] <= size[1]).all()
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, 2:] >= 1).all()


@pytest.mark.parametrize(
    ("size", "expected"), [((1, 1), (0, 0, 1, 1)), ((1, 100), (0, 49, 1, 1)), ((100, 1), (49, 0, 1, 1))]
)
def test_fallback_is_the_central_part_of_the_nearest_shape(size, expected):
    """Of a line of pixels no tenth of the area has the shape of a square; torchvision takes round(1 * 4 / 3) = 1."""
    assert random_resized(scale=(0.9, 1.0))(size, (8, 8), Uniforms(0, 0, 0)) == expected


def test_draws_are_a_pure_function_of_seed_visit_and_index():
    def draws(*key):
        uniforms = Uniforms(*key)
        return tuple(uniforms() for _ in range(3))

    keys = [(seed, visit, index) for seed in range(3) for visit in range(5) for index in range(200)]
    found = [draws(*key) for key in keys]
    assert found == [draws(*key) for key in keys]
    assert len(set(found)) == len(keys)
    values = np.array(found).ravel()
    assert stats.kstest(values, "uniform").pvalue > 1e-4
    firsts = np.array(found)[:, 0]
    assert abs(np.corrcoef(firsts[:-1], firsts[1:])[0, 1]) < 0.08, "neighbours are independent: 4 standard errors"


def test_draws_at_the_ends_of_their_keys():
    ends = [
        Uniforms(seed, visit, index)() for seed in (0, 2**63) for visit in (0, 2**31 - 1) for index in (0, 2**32 - 1)
    ]
    assert len(set(ends)) == 8


def test_whole_numbers_are_uniform():
    uniforms = Uniforms(1, 2, 3)
    counts = np.bincount([uniforms.integer(7) for _ in range(7000)], minlength=7)
    assert stats.chisquare(counts).pvalue > 1e-4
    assert counts.size == 7


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("box", "output"),
    [(Box(0, 0, 45, 61), (20, 20)), (Box(3, 5, 30, 40), (64, 50)), (Box(2.25, 1.5, 33.5, 50.75), (7, 9))],
)
def test_pillow_is_image_resize(box, output, channels, interpolation):
    image = noise(45, 61, channels)
    kind = getattr(Image.Resampling, interpolation.upper())
    corners = (box.left, box.top, box.left + box.width, box.top + box.height)
    expected = np.asarray(Image.fromarray(image).resize(output[::-1], kind, box=corners))
    pixels = image if channels == 3 else image[..., None]
    found = resized(pixels, box, output, interpolation=interpolation)
    np.testing.assert_array_equal(found, expected if channels == 3 else expected[..., None])


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 64), (375, 501)])
@pytest.mark.parametrize("output", [(1, 1), (9, 9), (32, 48)])
def test_a_constant_image_stays_constant(size, output, interpolation, library):
    for channels in (1, 3):
        image = np.full((*size, channels), 200, np.uint8)
        found = resized(image, whole()(size, output, NONE), output, library, interpolation)
        np.testing.assert_array_equal(found, np.full((*output, channels), 200))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("size", [(375, 501), (400, 300), (97, 65), (64, 64), (33, 47), (13, 300)])
@pytest.mark.parametrize("output", [(32, 32), (13, 21), (8, 8)])
def test_a_symmetric_image_stays_symmetric(size, output, library):
    """Whatever cut an odd side to an even one would shift the image; rounding may cost one level."""
    half = noise(*size).astype(int)
    image = ((half + half[::-1, ::-1]) // 2).astype(np.uint8)
    found = resized(image, whole()(size, output, NONE), output, library).astype(int)
    assert np.abs(found - found[::-1, ::-1]).max() <= 1


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("size", "output"), [((375, 501), (32, 32)), ((400, 300), (100, 75)), ((64, 64), (96, 96))])
def test_the_mean_is_kept(size, output, library):
    """Within one level, of a smooth picture."""
    image = smooth(*size)
    found = resized(image, whole()(size, output, NONE), output, library)
    np.testing.assert_allclose(found.mean((0, 1)), image.mean((0, 1)), atol=1)


@pytest.mark.parametrize("size", [(256, 256), (250, 250), (500, 375), (301, 299)])
def test_opencv_is_near_pillow_when_it_shrinks(size):
    """Its halving averages as Pillow's antialiasing does: within 2 levels on a smooth picture, 30 on pure noise.

    Without the halving, plain bilinear interpolation is off by more than 100 levels on noise.
    """
    for image, bound in ((smooth(*size), 2), (noise(*size), 30)):
        one, other = (resized(image, Box(0, 0, *size), (32, 32), library).astype(int) for library in LIBRARIES)
        assert np.abs(one - other).max() <= bound


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_box_of_less_than_a_pixel(library):
    for box in (Box(0.4, 0.4, 0.1, 0.1), Box(2.9, 2.9, 0.05, 0.05)):
        assert resized(noise(3, 3), box, (4, 4), library).shape == (4, 4, 3)


def test_whole_image_of_the_right_size_is_not_touched():
    image = noise(8, 9)
    assert resized(image, Box(0, 0, 8, 9), (8, 9), "opencv") is image
