"""AutoAugment and its relatives apply torchvision's operations at its magnitudes, as often as they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import REPOSITORY
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats

from vision.data.augment import augmix, policies
from vision.data.augment.policy_tables import (
    AUGMIX_KINDS,
    ENHANCING,
    GEOMETRIC,
    INDEX,
    KINDS,
    RANDAUGMENT_KINDS,
    SIGNED,
    magnitudes,
    sub_policies,
)

GOLDENS = dict(np.load(REPOSITORY / "tests" / "goldens" / "augment_photometric.npz"))
AUGMENTATIONS = policies.AUGMENTATIONS | augmix.AUGMENTATIONS
KEYS = jax.random.split(jax.random.key(11), 6000)
UNLIKELY = 1e-4


def operation(image, kind, magnitude, interpolation="nearest", fill=0.0):
    apply = jax.jit(policies.apply_operation, static_argnames=("interpolation", "fill"))
    return np.asarray(
        apply(image, jnp.int32(INDEX[kind]), jnp.float32(magnitude), interpolation=interpolation, fill=fill)
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["photo", "grey"])
def test_operations_equal_torchvision_on_pil_images_bit_for_bit(kind, name):
    arguments = GOLDENS[f"operation/{kind}/arguments"]
    for magnitude, expected in zip(arguments, GOLDENS[f"operation/{kind}/nearest/{name}"], strict=True):
        done = operation(GOLDENS[f"image/{name}"], kind, magnitude, fill=77.0)
        np.testing.assert_array_equal(done, expected, f"magnitude {magnitude}")


@pytest.mark.parametrize("kind", GEOMETRIC)
@pytest.mark.parametrize("name", ["photo", "grey"])
def test_bilinear_operations_equal_torchvision_within_a_level(kind, name):
    arguments = GOLDENS[f"operation/{kind}/arguments"]
    for magnitude, expected in zip(arguments, GOLDENS[f"operation/{kind}/bilinear/{name}"], strict=True):
        done = operation(GOLDENS[f"image/{name}"], kind, magnitude, "bilinear", 77.0)
        assert np.abs(done.astype(int) - expected).max() <= 1, magnitude


def by_pillow(image, kind, magnitude):
    """The operation by Pillow alone, for the kinds that move no pixels."""
    of, factor = Image.fromarray(image), float(np.float32(1.0) + np.float32(magnitude))
    done = {
        "identity": lambda: of,
        "brightness": lambda: ImageEnhance.Brightness(of).enhance(factor),
        "saturation": lambda: ImageEnhance.Color(of).enhance(factor),
        "contrast": lambda: ImageEnhance.Contrast(of).enhance(factor),
        "sharpness": lambda: ImageEnhance.Sharpness(of).enhance(factor),
        "posterize": lambda: ImageOps.posterize(of, int(magnitude)),
        "solarize": lambda: ImageOps.solarize(of, float(magnitude)),
        "autocontrast": lambda: ImageOps.autocontrast(of),
        "equalize": lambda: ImageOps.equalize(of),
        "invert": lambda: ImageOps.invert(of),
    }[kind]()
    return np.asarray(done)


def test_a_batch_of_different_operations_is_each_of_them():
    rng = np.random.default_rng(0)
    table = magnitudes("trivialaugment", 31, 24, 20)
    kinds = [INDEX[kind] for kind in KINDS if kind not in GEOMETRIC] * 12
    values = np.array([table[kind, rng.integers(31)] * rng.choice([1, 1 - 2 * SIGNED[kind]]) for kind in kinds])
    images = rng.integers(0, 256, (len(kinds), 24, 20, 3), dtype=np.uint8)
    values = values.astype(np.float32)
    done = jax.jit(jax.vmap(policies.apply_operation))(images, np.array(kinds, np.int32), values)
    for each, image, kind, value in zip(np.asarray(done), images, kinds, values, strict=True):
        np.testing.assert_array_equal(each, by_pillow(image, KINDS[kind], value), f"{KINDS[kind]} {value}")


@pytest.mark.parametrize("size", [(24, 20), (32, 32), (224, 199)])
@pytest.mark.parametrize("space", ["autoaugment", "randaugment", "trivialaugment", "augmix"])
def test_magnitudes_are_those_of_torchvision_to_the_bit(space, size):
    prefix = f"magnitudes/{space}/{size[0]}x{size[1]}/"
    expected = {key.removeprefix(prefix): value for key, value in GOLDENS.items() if key.startswith(prefix)}
    bins = 10 if space in ("autoaugment", "augmix") else 31
    table = magnitudes("autoaugment" if space == "randaugment" else space, bins, *size)
    kinds = {
        "autoaugment": KINDS[1:],
        "randaugment": RANDAUGMENT_KINDS,
        "trivialaugment": RANDAUGMENT_KINDS,
        "augmix": AUGMIX_KINDS + ENHANCING,
    }[space]
    assert {key.split("/")[0] for key in expected} == set(kinds)
    for key, values in expected.items():
        kind, sign = key.split("/")
        np.testing.assert_array_equal(table[INDEX[kind]], np.broadcast_to(values, bins), kind)
        assert SIGNED[INDEX[kind]] == (sign == "signed")


@pytest.mark.parametrize("policy", ["imagenet", "cifar10", "svhn"])
def test_sub_policies_are_those_of_torchvision(policy):
    ours = zip(*sub_policies(policy), strict=True)
    for row, expected in zip(ours, GOLDENS[f"policies/{policy}"], strict=True):
        for kind, probability, level, text in zip(*row, expected, strict=True):
            name, chance, expected_level = text.split()
            assert KINDS[kind] == name
            assert probability == np.float32(chance)
            assert level == (0 if expected_level == "None" else int(expected_level))


@pytest.mark.parametrize("policy", ["imagenet", "cifar10", "svhn"])
def test_autoaugment_draws_sub_policies_uniformly_and_operations_at_their_probability(policy):
    draw = jax.jit(jax.vmap(lambda key: policies.draw_autoaugment(key, policy=policy, height=331, width=331)))
    kinds, values = (np.asarray(each) for each in draw(jax.random.split(jax.random.key(3), 40000)))
    # What a uniform sub-policy with independent probabilities and signs would show: chances of every outcome.
    table, chances = magnitudes("autoaugment", 10, 331, 331), {}
    for row in zip(*sub_policies(policy), strict=True):
        of_steps = []
        for kind, probability, level in zip(*row, strict=True):
            value = table[kind, level]
            signs = (1, -1) if SIGNED[kind] and value else (1,)
            of_steps.append(
                [((0, 0.0), 1 - probability)]
                + [((kind, float(sign * value)), probability / len(signs)) for sign in signs]
            )
        for first, chance in of_steps[0]:
            for second, other in of_steps[1]:
                chances[first, second] = chances.get((first, second), 0.0) + float(chance) * float(other) / 25
    counts = dict.fromkeys(chances, 0)
    for each_kinds, each_values in zip(kinds.tolist(), values.tolist(), strict=True):
        outcome = tuple((kind, value + 0.0) for kind, value in zip(each_kinds, each_values, strict=True))
        counts[outcome] += 1
    possible = [outcome for outcome in chances if chances[outcome] > 1e-9]
    assert sum(counts[outcome] for outcome in possible) == len(kinds)
    expected = np.array([chances[outcome] for outcome in possible])
    assert (
        stats.chisquare([counts[each] for each in possible], expected / expected.sum() * len(kinds)).pvalue > UNLIKELY
    )


def test_autoaugment_applies_what_it_draws():
    image = jnp.asarray(GOLDENS["image/photo"])
    drawn = jax.vmap(lambda key: policies.draw_autoaugment(key, policy="imagenet", height=24, width=20))(KEYS[:400])
    done = np.asarray(jax.jit(jax.vmap(policies.autoaugment(policy="imagenet"), (0, None)))(KEYS[:400], image))
    compared = 0
    for each, kinds, values in zip(done, np.asarray(drawn.kinds), np.asarray(drawn.magnitudes), strict=True):
        names = [KINDS[kind] for kind in kinds]
        if not set(names) & set(GEOMETRIC):
            compared += 1
            first = by_pillow(np.asarray(image), names[0], values[0])
            np.testing.assert_array_equal(each, by_pillow(first, names[1], values[1]), f"{names} {values}")
    assert compared > 200


def uniform_counts(values, count):
    return stats.chisquare(np.bincount(np.ravel(values), minlength=count)).pvalue > UNLIKELY


def check_signs(kinds, values):
    """Kinds with a sign are negative half of the time, independently of the kind; the others never."""
    signed = SIGNED[kinds] & (values != 0)
    assert not (values[~signed] < 0).any()
    negative = (values[signed] < 0).mean()
    assert abs(negative - 0.5) < 4 * 0.5 / np.sqrt(signed.sum())


def test_randaugment_draws_operations_uniformly_at_one_magnitude():
    options = {"num_ops": 2, "magnitude": 9.0, "num_magnitude_bins": 31, "magnitude_std": 0.0}
    draw = jax.vmap(lambda key: policies.draw_randaugment(key, **options, height=32, width=48))
    kinds, values = (np.asarray(each) for each in draw(KEYS))
    pairs = kinds[:, 0] * len(RANDAUGMENT_KINDS) + kinds[:, 1]
    assert uniform_counts(pairs, len(RANDAUGMENT_KINDS) ** 2), "the two operations are drawn independently"
    np.testing.assert_array_equal(np.abs(values), magnitudes("autoaugment", 31, 32, 48)[kinds, 9])
    check_signs(kinds, values)


def test_randaugment_applies_what_it_draws():
    image = jnp.asarray(GOLDENS["image/photo"])
    options = {"num_ops": 3, "magnitude": 12.0, "num_magnitude_bins": 31, "magnitude_std": 0.0}
    drawn = jax.vmap(lambda key: policies.draw_randaugment(key, **options, height=24, width=20))(KEYS[:200])
    done = np.asarray(jax.jit(jax.vmap(policies.randaugment(**options), (0, None)))(KEYS[:200], image))
    compared = 0
    for each, kinds, values in zip(done, np.asarray(drawn.kinds), np.asarray(drawn.magnitudes), strict=True):
        if not {KINDS[kind] for kind in kinds} & set(GEOMETRIC):
            compared += 1
            expected = np.asarray(image)
            for kind, value in zip(kinds, values, strict=True):
                expected = by_pillow(expected, KINDS[kind], value)
            np.testing.assert_array_equal(each, expected, f"{kinds} {values}")
    assert compared > 30


def test_magnitude_std_spreads_magnitudes_normally_and_stops_at_the_bins():
    options = {"num_ops": 1, "magnitude": 9.0, "num_magnitude_bins": 11, "magnitude_std": 0.5}
    draw = jax.vmap(lambda key: policies.draw_randaugment(key, **options, height=32, width=32))
    kinds, values = (np.asarray(each)[:, 0] for each in draw(jax.random.split(jax.random.key(5), 20000)))
    bins = np.abs(values[kinds == INDEX["rotate"]]) / 3.0
    assert bins.max() <= 10
    inside = bins[bins < 9.999]
    normal = stats.truncnorm(-18, 2, loc=9, scale=0.5)
    assert stats.kstest(inside, normal.cdf).pvalue > UNLIKELY
    clipped = 1 - len(inside) / len(bins)
    assert abs(clipped - stats.norm.sf(2)) < 4 * np.sqrt(stats.norm.sf(2) / len(bins))
    bits = values[kinds == INDEX["posterize"]]
    assert set(bits) <= {4.0, 5.0}
    expected = stats.norm.sf((8.5 - 9) / 0.5)  # bin 8 has 5 bits, bin 9 has 4
    assert abs((bits == 4).mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / len(bits))


def test_trivialaugment_draws_operations_and_magnitudes_uniformly():
    draw = jax.vmap(lambda key: policies.draw_trivialaugment(key, num_magnitude_bins=31))
    kinds, values = (np.asarray(each)[:, 0] for each in draw(jax.random.split(jax.random.key(5), 20000)))
    assert uniform_counts(kinds, len(RANDAUGMENT_KINDS))
    table = magnitudes("trivialaugment", 31, 1, 1)
    bins = [np.flatnonzero(table[kind] == abs(value))[0] for kind, value in zip(kinds, values, strict=True)]
    with_bins = SIGNED[kinds] | (kinds == INDEX["solarize"])
    assert uniform_counts(np.array(bins)[with_bins], 31)
    check_signs(kinds, values)


def test_trivialaugment_applies_what_it_draws():
    image = jnp.asarray(GOLDENS["image/photo"])
    drawn = jax.vmap(lambda key: policies.draw_trivialaugment(key, num_magnitude_bins=31))(KEYS[:200])
    done = np.asarray(jax.jit(jax.vmap(policies.trivialaugment(), (0, None)))(KEYS[:200], image))
    for each, (kind,), (value,) in zip(done, np.asarray(drawn.kinds), np.asarray(drawn.magnitudes), strict=True):
        if KINDS[kind] not in GEOMETRIC:
            np.testing.assert_array_equal(each, by_pillow(np.asarray(image), KINDS[kind], value))


AUGMIX = {"severity": 3, "width": 3, "depth": -1, "alpha": 1.0, "all_ops": True}


def mixtures(keys, **options):
    def draw(key):
        return augmix.draw_augmix(key, **{**AUGMIX, **options}, image_height=24, image_width=20)

    return augmix.Mixture(*(np.asarray(each) for each in jax.jit(jax.vmap(draw))(keys)))


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_weights_of_augmix_are_dirichlet_times_beta(alpha):
    weights = mixtures(KEYS, alpha=alpha).weights
    share = weights.sum(1)
    assert stats.kstest(share, stats.beta(alpha, alpha).cdf).pvalue > UNLIKELY
    # Of a Dirichlet of three, one coordinate is Beta(alpha, 2 alpha).
    assert stats.kstest(weights[:, 1] / share, stats.beta(alpha, 2 * alpha).cdf).pvalue > UNLIKELY


@pytest.mark.parametrize("all_ops", [True, False])
def test_chains_of_augmix_are_one_to_three_uniform_operations_below_the_severity(all_ops):
    drawn = mixtures(KEYS, all_ops=all_ops)
    depths = (drawn.kinds != INDEX["identity"]).sum(2)
    assert uniform_counts(depths - 1, 3)
    kinds = np.array([INDEX[kind] for kind in (AUGMIX_KINDS + ENHANCING if all_ops else AUGMIX_KINDS)])
    used = drawn.kinds[drawn.kinds != INDEX["identity"]]
    assert stats.chisquare([(used == kind).sum() for kind in kinds]).pvalue > UNLIKELY
    assert np.isin(used, kinds).all()
    table = magnitudes("augmix", 10, 24, 20)
    rotations = np.abs(drawn.magnitudes[drawn.kinds == INDEX["rotate"]])
    counts = [(rotations == value).sum() for value in table[INDEX["rotate"], :3]]
    assert sum(counts) == len(rotations)
    assert stats.chisquare(counts).pvalue > UNLIKELY
    check_signs(drawn.kinds.ravel(), drawn.magnitudes.ravel())


def test_depth_of_augmix_may_be_fixed():
    assert (mixtures(KEYS[:200], depth=2).kinds != INDEX["identity"]).all()
    assert mixtures(KEYS[:200], depth=2, width=5).kinds.shape == (200, 5, 2)


def test_augmix_is_the_weighted_mean_of_the_image_and_its_chains():
    image = GOLDENS["image/photo"]
    done = np.asarray(jax.jit(jax.vmap(augmix.augmix(), (0, None)))(KEYS[:300], jnp.asarray(image)))
    drawn, compared = mixtures(KEYS[:300]), 0
    for each, kinds, values, weights in zip(done, *drawn, strict=True):
        if np.isin(kinds, [INDEX[kind] for kind in GEOMETRIC]).any():
            continue
        compared += 1
        mixed = (1 - weights.sum(dtype=np.float64)) * image
        for of_chain, magnitudes_of_chain, weight in zip(kinds, values, weights, strict=True):
            chain = image
            for kind, value in zip(of_chain, magnitudes_of_chain, strict=True):
                chain = by_pillow(chain, KINDS[kind], value)
            mixed = mixed + float(weight) * chain
        assert (np.abs(each - np.floor(mixed)) <= (np.abs(mixed - np.round(mixed)) < 1e-3)).all()
    assert compared > 5


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), [*((name, np.uint8) for name in AUGMENTATIONS), ("augmix", np.float32)])
def test_bits_do_not_depend_on_the_size_of_the_batch(name, dtype):
    images = np.random.default_rng(0).integers(0, 256, (8, 19, 23, 3), dtype=np.uint8)
    images = images if dtype == np.uint8 else images.astype(np.float32) / 255
    augment = jax.jit(jax.vmap(AUGMENTATIONS[name]()))
    whole = np.asarray(augment(KEYS[:8], images))
    np.testing.assert_array_equal(augment(KEYS[:3], images[:3]), whole[:3])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["autoaugment", "randaugment", "trivialaugment"])
def test_floating_images_go_through_256_levels(name):
    image = jnp.asarray(GOLDENS["image/photo"])
    augment = jax.jit(jax.vmap(AUGMENTATIONS[name](fill=128.0), (0, None)))
    floating = augment(KEYS[:64], (image.astype(jnp.float32) + 0.3) / 255)
    np.testing.assert_array_equal(np.round(np.asarray(floating) * 255), augment(KEYS[:64], image))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("autoaugment", {"fill": 256.0}, "fill"),
        ("randaugment", {"magnitude": 31.0}, "magnitude"),
        ("randaugment", {"num_ops": -1}, "num_ops"),
        ("randaugment", {"magnitude_std": -0.5}, "magnitude_std"),
        ("trivialaugment", {"num_magnitude_bins": 1}, "num_magnitude_bins"),
        ("augmix", {"severity": 11}, "severity"),
        ("augmix", {"width": 0}, "width"),
        ("augmix", {"alpha": 0.0}, "alpha"),
    ],
)
def test_impossible_values_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        AUGMENTATIONS[name](**options)
