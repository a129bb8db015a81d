"""Views of self-distillation: their recipes, what they show, and that making them together changes no bit."""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from vision.data import augment
from vision.data.augment.multi_crop import dino_views, dinov2_views
from vision.data.prepare import example_draws, make_prepare

INDEX = jnp.arange(2000)
VISIT = jnp.zeros(len(INDEX), jnp.int32)
# global 1, global 2, local: probabilities of blur and of solarizing (DINO, main_dino.py).
RATES = {"first": (1.0, 0.0), "second": (0.1, 0.2), "local": (0.5, 0.0)}


def views_of(made):
    """The three kinds of chains of a recipe."""
    return {"first": made["global"][0], "second": made["global"][1], "local": made["local"][0]}


def named(chain):
    return {section["name"]: section for section in chain}


@pytest.mark.parametrize("kind", RATES)
def test_dino_recipe(kind):
    made = dino_views()
    assert (len(made["global"]), len(made["local"])) == (2, 8)
    assert len(set(map(repr, made["local"]))) == 1
    chain = views_of(made)[kind]
    steps = named(chain)
    order = ["random_resized_crop", "random_flip", "color_jitter", "random_grayscale", "gaussian_blur"]
    assert list(steps) == order + ["random_solarize"] * (kind == "second")
    crop = steps["random_resized_crop"]
    size, scale = (96, (0.05, 0.4)) if kind == "local" else (224, (0.4, 1.0))
    assert (crop["size"], crop["scale"], crop["interpolation"]) == (size, scale, "bicubic")
    jitter = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1, "probability": 0.8}
    assert steps["color_jitter"] == {"name": "color_jitter", **jitter}
    assert steps["random_flip"]["probability"] == 0.5
    assert steps["random_grayscale"]["probability"] == 0.2
    assert steps["gaussian_blur"]["probability"] == RATES[kind][0]
    assert steps["gaussian_blur"]["sigma"] == (0.1, 2.0)
    assert steps.get("random_solarize", {"probability": 0.0})["probability"] == RATES[kind][1]
    assert steps.get("random_solarize", {"threshold": 128})["threshold"] == 128


@pytest.mark.parametrize(("as_released", "rates"), [(False, (1.0, 0.1, 0.5)), (True, (0.0, 0.9, 0.5))])
def test_dinov2_recipe_has_other_scales_and_the_blur_as_meant_or_as_released(as_released, rates):
    made = dinov2_views(blur_as_released=as_released, local_size=98)
    steps = {kind: named(chain) for kind, chain in views_of(made).items()}
    assert tuple(each["gaussian_blur"]["probability"] for each in steps.values()) == rates
    assert {each["gaussian_blur"]["kernel_size"] for each in steps.values()} == {9}
    assert steps["second"]["random_resized_crop"]["scale"] == (0.32, 1.0)
    assert steps["local"]["random_resized_crop"]["scale"] == (0.05, 0.32)
    assert steps["local"]["random_resized_crop"]["size"] == 98


@pytest.mark.parametrize("recipe", [dino_views, dinov2_views])
def test_no_local_views(recipe):
    assert set(recipe(num_local=0)) == {"global"}
    with pytest.raises(ValueError, match="num_local"):
        recipe(num_local=-1)


def with_only(views, *names, **changed):
    """The recipe with some of its augmentations only, and some options of these changed; the first keeps its draws."""
    return {
        name: tuple(
            tuple(section | changed.get(section["name"], {}) for section in chain if section["name"] in names)
            for chain in chains
        )
        for name, chains in views.items()
    }


def prepared(views, image):
    """Every view of one image, drawn for each index."""
    chains = augment.compose_views(augment.resolve_views(views, "views"), "views")
    prepare = make_prepare(mean=None, std=None, channels=image.shape[2], views=chains)

    @jax.jit
    def make(index):
        batch = {"index": index, "visit": jnp.zeros_like(index)}
        return prepare(batch | {"image": jnp.broadcast_to(image, (len(index), *image.shape))}, {}, jax.random.key(4), 0)

    made = make(INDEX)
    return {kind: np.asarray(made[name][:, at]) for kind, (name, at) in PLACES.items()}


PLACES = {"first": ("global", 0), "second": ("global", 1), "local": ("local", 1)}
SMALL = functools.partial(dino_views, global_size=8, local_size=8, num_local=2)


@pytest.mark.parametrize("kind", RATES)
@pytest.mark.parametrize(
    "step", ["gaussian_blur", "random_solarize", "random_grayscale", "random_flip", "color_jitter"]
)
def test_steps_happen_at_their_rates_end_to_end(kind, step):
    seen = changes()[step][kind]
    blur, solarize = RATES[kind]
    rates = {"random_grayscale": 0.2, "random_flip": 0.5, "color_jitter": 0.8}
    rate = (rates | {"gaussian_blur": blur, "random_solarize": solarize})[step]
    assert abs(seen.mean() - rate) <= 4 * np.sqrt(rate * (1 - rate) / len(seen))


@functools.cache
def changes():
    """For each step and kind of view, which views differ from those of the same crops without the step."""
    random = np.random.Generator(np.random.Philox(2))
    image = jnp.asarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    sharp = {"gaussian_blur": {"sigma": (1.0, 2.0)}}  # at 0.1 a blur changes nothing
    without = prepared(with_only(SMALL(), "random_resized_crop"), image)
    found = {}
    for step in ("gaussian_blur", "random_solarize", "random_grayscale", "random_flip", "color_jitter"):
        made = prepared(with_only(SMALL(), "random_resized_crop", step, **sharp), image)
        found[step] = {kind: (made[kind] != without[kind]).any((1, 2, 3)) for kind in made}
    return found


def test_views_show_areas_of_their_scales():
    rows, columns = np.mgrid[:32, :32].astype(np.float32)
    image = jnp.asarray(np.stack([rows, columns, rows], axis=2))
    plain = {"random_resized_crop": {"interpolation": "bilinear", "ratio": (1.0, 1.0)}}
    views = with_only(SMALL(global_size=32, local_size=32), "random_resized_crop", **plain)
    for kind, made in prepared(views, image).items():
        # Enlarged lines stay lines away from the border: a step of the view is the box's side over 32.
        height, width = ((made[:, 18, 18, axis] - made[:, 14, 14, axis]) * 8 for axis in (0, 1))
        np.testing.assert_allclose(height, np.round(height), atol=1e-3)
        np.testing.assert_allclose(height, width, atol=1e-3)
        low, high = (0.05, 0.4) if kind == "local" else (0.4, 1.0)
        # A square with a side of whole pixels, and an area that is uniform but for that.
        areas = np.random.Generator(np.random.Philox(6)).uniform(low, high, 100_000)
        assert stats.ks_2samp(np.round(height), np.round(32 * np.sqrt(areas))).pvalue > 1e-4


@pytest.mark.slow
def test_whole_recipe_views_differ_and_those_made_together_are_those_made_alone():
    random = np.random.Generator(np.random.Philox(9))
    image = jnp.asarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    batch = {"index": INDEX[:16], "visit": VISIT[:16], "image": jnp.broadcast_to(image, (16, *image.shape))}
    views = augment.resolve_views(SMALL(global_size=24, local_size=12, num_local=2), "views")
    together = augment.compose_views(views, "views")
    assert len({id(chain) for chain in together["local"]}) == 1
    # Functions of their own, so that no two are grouped.
    apart = {"local": tuple(augment.compose(chain, "views") for chain in views["local"])}
    made, alone = (
        jax.jit(make_prepare(mean=None, std=None, channels=3, views=chains))(batch, {}, jax.random.key(1), 0)
        for chains in (together, apart)
    )
    assert "image" not in made
    assert made["global"].shape == (16, 2, 24, 24, 3)
    np.testing.assert_array_equal(made["local"], alone["local"])
    for name, count in (("global", 2), ("local", 2)):
        assert len(np.unique(np.asarray(made[name]).reshape(16 * count, -1), axis=0)) == 16 * count


def test_a_view_is_its_chain_under_the_draw_of_its_number():
    def chain(draw, image):
        return image + jax.random.uniform(draw.key, (1, 1, 1))

    views = {"local": (chain, chain, chain), "local_other": (chain,)}
    prepare = make_prepare(mean=None, std=None, channels=1, views=views)
    batch = {"index": INDEX[:5], "visit": VISIT[:5], "image": jnp.zeros((5, 2, 2, 1))}
    both = prepare(batch, {}, jax.random.key(1), 0)
    made = both["local"]
    assert not np.isin(both["local_other"], made).any(), "another name has draws of its own"
    draws = example_draws(jax.random.key(1), VISIT[:5], INDEX[:5])
    salt = zlib.crc32(b"local") % 2**31
    for number in range(3):
        alone = jax.vmap(lambda draw, number=number: chain(draw.fold_in(salt + number), jnp.zeros((2, 2, 1))))(draws)
        np.testing.assert_array_equal(made[:, number], alone)
