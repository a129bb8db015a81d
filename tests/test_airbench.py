"""The network of airbench: whitening filters made from images, convolutions that begin as the identity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision import models
from vision.errors import ConfigError
from vision.models.whitening import whitening_filters
from vision.studies.sweep.together import NotTogether, check_alone
from vision.training.checkpoint import load_arrays
from vision.training.loop import train

SMALL = {"widths": (4, 6, 6)}


def correlated(count: int, size: int = 9) -> np.ndarray:
    """Smooth images, whose neighbouring pixels and channels go together, as those of photographs do."""
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(count, size + 2, size + 2, 3))
    smooth = sum(noise[:, i : i + size, j : j + size] for i in range(3) for j in range(3)) / 3
    return (smooth + smooth.mean(axis=-1, keepdims=True)).astype(np.float32)


def test_responses_to_patches_are_uncorrelated_and_of_mean_square_one():
    images = correlated(200)
    filters = whitening_filters(images, 2, eps=0.0)
    assert filters.shape == (2, 2, 3, 24)
    responses = jax.lax.conv_general_dilated(
        images, filters, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    rows = np.asarray(responses, np.float64).reshape(-1, 24)
    np.testing.assert_allclose(rows[:, :12].T @ rows[:, :12] / len(rows), np.eye(12), atol=1e-4)
    np.testing.assert_array_equal(filters[..., 12:], -filters[..., :12])


def test_directions_of_little_variance_are_not_blown_up():
    """A direction of variance s has filters of norm 1 / sqrt(s + eps), so that noise of the camera stays small."""
    flat = np.ones((4, 5, 5, 3), np.float32)  # one direction has variance 12, the others none
    norms = np.linalg.norm(whitening_filters(flat, 2, eps=5e-4).reshape(12, 24), axis=0)
    np.testing.assert_allclose(np.sort(norms[:12]), [(12 + 5e-4) ** -0.5, *[5e-4**-0.5] * 11], rtol=1e-5)


def test_convolutions_begin_by_passing_their_inputs_on():
    model = models.build("airbench/94", num_classes=10, image_shape=(32, 32, 3), **SMALL)
    params, _ = model.init(jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))
    kernel = np.asarray(params["group1"]["conv1"]["kernel"])  # 4 inputs, 6 outputs
    passing = np.zeros((3, 3, 4, 4))
    passing[1, 1] = np.eye(4)
    np.testing.assert_array_equal(kernel[..., :4], passing)
    assert np.abs(kernel[..., 4:]).max() <= 36**-0.5
    assert np.std(kernel[..., 4:]) == pytest.approx(36**-0.5 / 3**0.5, rel=0.2)  # uniform within 1 / sqrt(fan in)
    assert np.std(np.asarray(params["head"]["kernel"]), ddof=1) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"widths": (4, 0)}, "widths"),
        ({"depth": 0}, "depth"),
        ({"logit_scale": -1.0}, "logit_scale"),
    ],
)
def test_what_cannot_be_is_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        models.build("airbench/94", num_classes=10, **options)


def test_images_of_which_nothing_would_be_left_are_refused():
    models.build("airbench/94", num_classes=10, image_shape=(9, 9, 3))
    with pytest.raises(ConfigError, match="at least 9x9 pixels, these are 8x12"):
        models.build("airbench/94", num_classes=10, image_shape=(8, 12, 3))


def settings(**more):
    return {
        "data": {"name": "arrays", "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)},
        "model": {"name": "airbench/94", **SMALL},
        "objective": {"name": "classify"},
        "optimizer": {"name": "muon", "learning_rate": 0.1, "others": "sgd", "exclude": ("head",)},
        "freeze": {"patterns": ("^whiten/kernel",)},
        "batch_size": 8,
        "duration": {"steps": 2},
        "checkpoint": {"every": {"steps": 1}, "keep": 3},
        **more,
    }


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    pixels = np.clip(correlated(24, 12) * 40 + 128, 0, 255).astype(np.uint8)
    return {"image": pixels, "label": np.arange(24, dtype=np.int32) % 3}


def test_training_starts_from_the_whitening_of_its_images_and_leaves_it(tmp_path, arrays):
    train(settings(), tmp_path / "run", sources={"train": arrays})
    expected = whitening_filters((arrays["image"] / np.float32(255) - 0.5) / 0.25, 2, eps=5e-4)
    for step in (1, 2):
        _, found, _ = load_arrays(tmp_path / "run", step)
        kernel = np.asarray(found["params/whiten/kernel"])
        kernel = kernel * np.sign((kernel * expected).sum((0, 1, 2)))  # a direction may point either way
        np.testing.assert_allclose(kernel, expected, rtol=1e-3, atol=1e-3)


def test_weights_to_start_from_bring_their_own_whitening(tmp_path, arrays):
    train(settings(), tmp_path / "first", sources={"train": arrays})
    brighter = {**arrays, "image": (arrays["image"] // 2 + 120).astype(np.uint8)}
    train(settings(init_from=str(tmp_path / "first")), tmp_path / "second", sources={"train": brighter})
    (_, first, _), (_, second, _) = (load_arrays(tmp_path / name, 2) for name in ("first", "second"))
    np.testing.assert_array_equal(first["params/whiten/kernel"], second["params/whiten/kernel"])


def test_runs_side_by_side_do_without_it():
    with pytest.raises(NotTogether, match="starts from training images"):
        check_alone(settings())
