"""Colour, tone and blur equal Pillow and torchvision on uint8, and random ones come as often as they say."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import REPOSITORY
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from scipy import stats

from vision.data.augment import blur, color, tone

GOLDENS = dict(np.load(REPOSITORY / "tests" / "goldens" / "augment_photometric.npz"))
NAMES = ("photo", "noise", "constant", "grey")
AUGMENTATIONS = color.AUGMENTATIONS | tone.AUGMENTATIONS | blur.AUGMENTATIONS
KEYS = jax.random.split(jax.random.key(7), 4000)
UNLIKELY = 1e-4

ADJUSTMENTS = {
    "adjust_brightness": color.adjust_brightness,
    "adjust_contrast": color.adjust_contrast,
    "adjust_saturation": color.adjust_saturation,
    "adjust_hue": color.adjust_hue,
    "adjust_sharpness": tone.sharpness,
    "posterize": lambda image, bits: tone.posterize(image, bits.astype(jnp.int32)),
    "solarize": tone.solarize,
    "equalize": tone.equalize,
    "autocontrast": tone.autocontrast,
    "invert": tone.invert,
}
ENHANCERS = {
    color.adjust_brightness: ImageEnhance.Brightness,
    color.adjust_contrast: ImageEnhance.Contrast,
    color.adjust_saturation: ImageEnhance.Color,
    tone.sharpness: ImageEnhance.Sharpness,
}


def picture(image):
    return Image.fromarray(image if image.shape[-1] == 3 else image[..., 0])


def pixels(picture):
    array = np.asarray(picture)
    return array if array.ndim == 3 else array[..., None]


def random_images(seed, count=40):
    """Noise and narrow histograms, in colour and grey, of sizes down to 1x1."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        shape = ((40, 50, 3), (17, 33, 1), (3, 3, 3), (1, 1, 3), (2, 9, 1))[number % 5]
        if number % 2:
            yield rng.integers(0, 256, shape, dtype=np.uint8), rng
        else:
            yield (
                np.clip(rng.normal(rng.uniform(40, 200), rng.uniform(1, 60), shape), 0, 255).astype(np.uint8),
                rng,
            )


@pytest.mark.parametrize("case", ADJUSTMENTS)
@pytest.mark.parametrize("name", NAMES)
def test_equals_torchvision_on_pil_images_bit_for_bit(case, name):
    adjust, image = jax.jit(ADJUSTMENTS[case]), GOLDENS[f"image/{name}"]
    for arguments, expected in zip(GOLDENS[f"{case}/arguments"], GOLDENS[f"{case}/{name}"], strict=True):
        np.testing.assert_array_equal(adjust(image, *arguments.astype(np.float32)), expected, str(arguments))


@pytest.mark.parametrize("adjust", ENHANCERS, ids=lambda adjust: adjust.__name__)
def test_enhancers_equal_pillow_bit_for_bit(adjust):
    compiled = jax.jit(adjust)
    for image, rng in random_images(0, 80):
        factor = np.float32(rng.choice([rng.uniform(0, 3), rng.integers(0, 30) / 10]))
        expected = ENHANCERS[adjust](picture(image)).enhance(float(factor))
        np.testing.assert_array_equal(compiled(image, factor), pixels(expected), f"factor {factor}")


def test_blend_of_any_two_levels_is_pillows():
    """Products rounded apart from sums: at some factors a fused one would cut the level below off."""
    first, second = np.mgrid[:256, :256].astype(np.uint8)[..., None]
    compiled = jax.jit(color.blend)
    for factor in np.arange(0, 21, dtype=np.float32) / 10:
        done = compiled(first.astype(np.float32), second.astype(np.float32), factor)
        expected = Image.blend(picture(first), picture(second), float(factor))
        np.testing.assert_array_equal(np.floor(done), pixels(expected), f"factor {factor}")


def test_tones_equal_pillow_bit_for_bit():
    compiled = {name: jax.jit(ADJUSTMENTS[name]) for name in ("solarize", "posterize", "equalize", "autocontrast")}
    for image, rng in random_images(1):
        threshold, bits = np.float32(rng.uniform(0, 256)), rng.integers(1, 9)
        of = picture(image)
        for done, expected in (
            (compiled["solarize"](image, threshold), ImageOps.solarize(of, float(threshold))),
            (compiled["posterize"](image, bits), ImageOps.posterize(of, int(bits))),
            (compiled["equalize"](image), ImageOps.equalize(of)),
            (compiled["autocontrast"](image), ImageOps.autocontrast(of)),
        ):
            np.testing.assert_array_equal(done, pixels(expected))


def test_autocontrast_equals_pillow_for_every_pair_of_extremes():
    pairs = np.array([(low, high) for low in range(256) for high in range(low, 256)], np.int32)
    tables = np.asarray(jax.jit(tone.autocontrast_table)(*pairs.T)).T
    levels = np.arange(256, dtype=np.uint8)[None]
    for (low, high), table in zip(pairs.tolist(), tables, strict=True):
        ramp = levels[:, low : high + 1]
        assert table[ramp].tobytes() == ImageOps.autocontrast(Image.fromarray(ramp)).tobytes(), (low, high)


def all_colors():
    return np.stack(np.meshgrid(*[np.arange(256, dtype=np.uint8)] * 3, indexing="ij"), axis=-1)


@pytest.mark.parametrize("stride", [17, pytest.param(1, marks=pytest.mark.slow)])
def test_hue_goes_through_the_levels_of_pillow(stride):
    colors = all_colors().reshape(1, -1, 3)[:, ::stride]
    hsv = np.stack(jax.jit(color._to_hsv)(colors), axis=-1)
    np.testing.assert_array_equal(hsv, np.asarray(Image.fromarray(colors).convert("HSV")))
    back = jax.jit(color._to_rgb)(*np.moveaxis(colors.astype(np.int32), -1, 0))
    height, width, _ = colors.shape
    np.testing.assert_array_equal(
        back, np.asarray(Image.frombytes("HSV", (width, height), colors.tobytes()).convert("RGB"))
    )


def test_hue_of_every_exact_level_is_that_of_pillow():
    """Where levels are exact, Pillow's float arithmetic decides; strides of the test above could pass them by."""
    colors = all_colors()
    extremes = colors[[0, 255]].reshape(1, -1, 3)
    turned = np.concatenate([np.roll(extremes, shift, axis=-1) for shift in range(3)])
    hsv = np.stack(jax.jit(color._to_hsv)(turned), axis=-1)
    np.testing.assert_array_equal(hsv, np.asarray(Image.fromarray(turned).convert("HSV")))


def test_solarize_add_adds_below_the_threshold_and_clips():
    image = jnp.array([[[0], [100], [127], [128], [255]]], jnp.uint8)
    np.testing.assert_array_equal(tone.solarize_add(image, 50)[0, :, 0], [50, 150, 177, 128, 255])
    np.testing.assert_array_equal(tone.solarize_add(image, 200, 101)[0, :, 0], [200, 255, 127, 128, 255])
    np.testing.assert_array_equal(tone.solarize_add(image, -110)[0, :, 0], [0, 0, 17, 128, 255])


def test_grayscale_is_the_luma_of_pillow_in_every_channel():
    image = GOLDENS["image/noise"]
    grey = np.asarray(picture(image).convert("L"))
    np.testing.assert_array_equal(jax.jit(color.to_grayscale)(image), np.stack([grey] * 3, axis=-1))
    np.testing.assert_array_equal(jax.jit(color.to_grayscale)(GOLDENS["image/grey"]), GOLDENS["image/grey"])


# What the continuous result may differ by from the one in levels: a cut-off fraction; for contrast its mean too;
# for hue a level of hue, 1/255 of the circle in which a channel moves by 6 times chroma, and one of saturation.
CONTINUOUS = {
    "adjust_brightness": 1,
    "adjust_contrast": 2,
    "adjust_saturation": 2.4,
    "adjust_sharpness": 2.4,
    "adjust_hue": 13,
    "solarize": 0,
    "invert": 0,
    "posterize": 0,
    "equalize": 0,
    "autocontrast": 1,
}


JUMPS = ("equalize", "posterize", "solarize")  # bfloat16 lies beside the levels that they decide by


@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        (case, dtype)
        for case in ADJUSTMENTS
        for dtype in (jnp.float32, jnp.bfloat16)
        if dtype == jnp.float32 or case not in JUMPS
    ],
)
def test_floating_images_do_the_same_without_steps(case, dtype):
    adjust, image = jax.jit(ADJUSTMENTS[case]), GOLDENS["image/photo"]
    floating = jnp.asarray(image, jnp.float32) / 255
    rounding = 1e-3 if dtype == jnp.float32 else 2.0 + 4 * (case == "autocontrast")
    for arguments, expected in zip(GOLDENS[f"{case}/arguments"], GOLDENS[f"{case}/photo"], strict=True):
        done = adjust(floating.astype(dtype), *arguments.astype(np.float32))
        assert done.dtype == dtype
        levels = np.asarray(done, np.float32) * 255
        assert levels.min() >= 0
        assert levels.max() <= 255.001
        assert np.abs(levels - expected).max() <= CONTINUOUS[case] + rounding, arguments


def test_floating_hue_turns_the_circle_of_colours():
    third = color.adjust_hue(jnp.array([[[0.9, 0.2, 0.3]]]), 1 / 3)
    np.testing.assert_allclose(third, [[[0.3, 0.9, 0.2]]], atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_blur_is_torchvisions_within_a_level(name):
    image = GOLDENS[f"image/{name}"]
    for (kernel, sigma), expected in zip(
        GOLDENS["gaussian_blur/arguments"], GOLDENS[f"gaussian_blur/{name}"], strict=True
    ):
        done = np.asarray(blur.blur(jnp.asarray(image), float(sigma), radius=int(kernel) // 2))
        difference = np.abs(done.astype(int) - expected)
        assert difference.max() <= 1
        assert difference.mean() < 2e-3, "but for ties they are equal"


@pytest.mark.parametrize("sigma", [0.4, 1.3])
def test_blur_of_a_point_is_the_gaussian(sigma):
    point = jnp.zeros((21, 21, 1)).at[10, 10].set(1.0)
    distance = np.arange(-10, 11)
    density = np.exp(-(distance**2) / (2 * sigma**2))
    density /= density.sum()
    np.testing.assert_allclose(blur.blur(point, sigma, radius=10)[..., 0], np.outer(density, density), atol=1e-7)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9, 3), (5, 2, 1), (7, 5, 3)])
def test_blur_of_images_smaller_than_the_kernel_keeps_a_constant_and_the_mean_near(shape):
    constant = np.full(shape, 83, np.uint8)
    np.testing.assert_array_equal(blur.blur(jnp.asarray(constant), 2.0, radius=8), constant)
    image = np.random.default_rng(0).random(shape, np.float32)
    done = blur.blur(jnp.asarray(image), 2.0, radius=8)
    assert done.min() >= image.min()
    assert done.max() <= image.max()


@pytest.mark.parametrize(("sigma", "mean", "inside"), [(0.1, 0.01, 3), (0.5, 0.7, 4), (1, 0.7, 3), (2, 0.7, 4)])
def test_blur_lies_as_far_from_pillows_as_the_docstring_says(sigma, mean, inside):
    from sklearn.datasets import load_sample_images

    radius = max(1, int(np.ceil(4 * sigma)))
    border = slice(radius + 1, -radius - 1)
    for photograph in load_sample_images().images:
        image = photograph[100:324, 200:424]
        ours = np.asarray(blur.blur(jnp.asarray(image), float(sigma), radius=radius)).astype(int)
        pillows = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma))).astype(int)
        difference = np.abs(ours - pillows)
        assert difference.mean() <= mean
        assert difference[border, border].max() <= inside
        assert difference.max() <= 32


# Random augmentations: rates and distributions.

ALWAYS_VISIBLE = {
    "color_jitter": {"brightness": 0.4, "contrast": 0.0, "saturation": 0.0, "hue": 0.0},
    "gaussian_blur": {"sigma": (0.5, 2.0)},
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("probability", [0.0, 0.1, 0.8, 1.0])
def test_changes_images_at_its_rate(name, probability):
    image = jnp.asarray(np.random.default_rng(0).uniform(0.2, 0.6, (5, 7, 3)).astype(np.float32))
    augmentation = AUGMENTATIONS[name](**ALWAYS_VISIBLE.get(name, {}), probability=probability)
    done = jax.jit(jax.vmap(augmentation, (0, None)))(KEYS, image)
    changed = np.asarray(jnp.any(jnp.abs(done - image) > 1e-5, axis=(1, 2, 3)))
    deviation = np.sqrt(probability * (1 - probability) / len(KEYS))
    assert abs(changed.mean() - probability) <= 4 * deviation


def uniform(values, low, high):
    return stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > UNLIKELY


def jittered(image, **widths):
    options = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0} | widths
    return np.asarray(jax.vmap(color.color_jitter(**options), (0, None))(KEYS, jnp.asarray(image, jnp.float32)))


@pytest.mark.parametrize(("width", "low", "high"), [(0.4, 0.6, 1.4), (1.5, 0.0, 2.5)])
def test_factors_of_color_jitter_are_uniform_around_one_and_not_negative(width, low, high):
    brightness = jittered(np.full((1, 1, 3), 0.3), brightness=width)[:, 0, 0, 0] / 0.3
    assert uniform(brightness, low, high)
    contrast = jittered([[[0.4] * 3, [0.6] * 3]], contrast=width)[:, 0]
    assert uniform((contrast[:, 1, 0] - contrast[:, 0, 0]) / 0.2, low, high)
    saturation = jittered([[[0.5, 0.4, 0.5]]], saturation=width)[:, 0, 0]
    assert uniform((saturation[:, 0] - saturation[:, 1]) / 0.1, low, high)


@pytest.mark.parametrize("hue", [0.1, 0.5])
def test_hue_of_color_jitter_is_uniform_around_zero(hue):
    import colorsys

    turned = [colorsys.rgb_to_hsv(*each)[0] for each in jittered([[[0.2, 0.7, 0.7]]], hue=hue)[:1500, 0, 0].tolist()]
    assert uniform(np.array(turned) - 0.5, -hue, hue)


def test_color_jitter_draws_every_order_equally_often():
    draw = jax.vmap(lambda key: color.draw_jitter(key, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1).order)
    orders = [tuple(order) for order in np.asarray(draw(KEYS)).tolist()]
    counts = [orders.count(order) for order in itertools.permutations(range(4))]
    assert sum(counts) == len(KEYS)
    assert stats.chisquare(counts).pvalue > UNLIKELY


def by_pillow(image, factors, order):
    """Enhancers of Pillow one after another, and hue as torchvision turns it on PIL images."""
    for kind in order:
        if kind == color.HUE:
            hsv = np.array(Image.fromarray(image).convert("HSV"))
            hsv[..., 0] = (hsv[..., 0].astype(int) + int(factors[kind] * 255)) % 256
            size = (image.shape[1], image.shape[0])
            image = np.asarray(Image.frombytes("HSV", size, hsv.tobytes()).convert("RGB"))
        else:
            enhancer = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[kind]
            image = np.asarray(enhancer(Image.fromarray(image)).enhance(float(factors[kind])))
    return image


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_jitter_applies_the_adjustments_in_the_drawn_order(steps):
    image = GOLDENS["image/photo"]
    factors = np.array([1.31, 0.64, 1.27, -0.09], np.float32)
    orders = np.array(list(itertools.permutations(range(4), steps)), np.int32)
    for has_hue in (True, False):
        of_kind = orders[(orders == color.HUE).any(1) == has_hue]
        if not len(of_kind):
            continue
        done = jax.vmap(
            lambda order, has=has_hue: color.jitter(
                jnp.asarray(image), color.Jitter(jnp.asarray(factors), order), with_hue=has
            )
        )
        expected = [by_pillow(image, factors, order) for order in of_kind.tolist()]
        np.testing.assert_array_equal(done(jnp.asarray(of_kind)), expected)
        if steps == 4:
            assert len({each.tobytes() for each in expected}) > 6, "the order shows"


def test_color_jitter_is_its_draws_applied():
    widths = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}
    image = GOLDENS["image/photo"]
    done = np.asarray(jax.vmap(color.color_jitter(**widths), (0, None))(KEYS[:64], jnp.asarray(image)))
    drawn = jax.vmap(lambda key: color.draw_jitter(jax.random.split(key)[1], **widths))(KEYS[:64])
    expected = [by_pillow(image, *each) for each in zip(np.asarray(drawn.factors), drawn.order.tolist(), strict=True)]
    np.testing.assert_array_equal(done, expected)


def test_sigma_of_the_blur_is_uniform():
    point = jnp.zeros((33, 33, 1)).at[16, 16].set(1.0)
    done = jax.vmap(blur.gaussian_blur(sigma=(0.5, 2.0), probability=1.0), (0, None))(KEYS[:1500], point)
    grid, distance = np.linspace(0.4, 2.2, 3000), np.arange(-8, 9)
    centre = 1 / np.exp(-(distance**2) / (2 * grid[:, None] ** 2)).sum(1) ** 2  # falls as sigma grows
    sigma = np.interp(np.asarray(done)[:, 16, 16, 0], centre[::-1], grid[::-1])
    assert uniform(sigma, 0.5, 2.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_bits_do_not_depend_on_the_size_of_the_batch(name, dtype):
    images = np.random.default_rng(0).integers(0, 256, (8, 19, 23, 3), dtype=np.uint8)
    images = images if dtype == np.uint8 else images.astype(np.float32) / 255
    augment = jax.jit(jax.vmap(AUGMENTATIONS[name](probability=0.9)))
    whole = np.asarray(augment(KEYS[:8], images))
    for size in (1, 3):
        np.testing.assert_array_equal(augment(KEYS[:size], images[:size]), whole[:size])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("color_jitter", {"brightness": -0.1}, "brightness"),
        ("color_jitter", {"hue": 0.6}, "hue"),
        ("color_jitter", {"probability": 1.1}, "probability"),
        ("random_grayscale", {"probability": -1.0}, "probability"),
        ("random_solarize", {"threshold": 300.0}, "threshold"),
        ("random_posterize", {"bits": 9}, "bits"),
        ("random_sharpness", {"factor": -1.0}, "factor"),
        ("gaussian_blur", {"sigma": (0.0, 1.0)}, "sigma"),
        ("gaussian_blur", {"sigma": (2.0, 1.0)}, "sigma"),
        ("gaussian_blur", {"kernel_size": 4}, "kernel_size"),
    ],
)
def test_impossible_values_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        AUGMENTATIONS[name](**options)
