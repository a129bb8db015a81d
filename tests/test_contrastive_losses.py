"""Losses of images and texts: closed forms, NumPy in double precision, and the same in every form and on every mesh."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mesh_of

from vision.objectives import pairwise
from vision.objectives.contrastive_losses import sigmoid_loss, softmax_loss
from vision.training.sharding import BATCH_AXES, batch_sharding

LOSSES = {"softmax": softmax_loss, "sigmoid": sigmoid_loss}
FORMS = {
    "dense": lambda: {},
    "dense, 8 devices": lambda: {"devices": mesh_of(8)},
    "chunked": lambda: {"form": "chunked", "chunk_size": 4},
    "chunked, 8 devices": lambda: {"form": "chunked", "chunk_size": 8, "devices": mesh_of(8)},
    "ring of 8": lambda: {"form": "ring", "mesh": mesh_of(8, data=4, fsdp=2)},
    "ring of 4, tensor axis": lambda: {"form": "ring", "mesh": mesh_of(8, data=4, tensor=2)},
    "ring of 2": lambda: {"form": "ring", "mesh": mesh_of(2)},
    "ring of 1": lambda: {"form": "ring", "mesh": mesh_of(1)},
}
QUICK = ("dense", "chunked", "ring of 8")
N, SIZE = 16, 5
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.uniform(0.5, 2.0, N)  # so that nobody confuses one example's loss with another's


def unit(x):
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True), np.float32)


IMAGE, TEXT = (unit(RANDOM.normal(size=(N, SIZE))) for _ in range(2))
SCALARS = {"softmax": (8.0,), "sigmoid": (8.0, -2.71)}


@functools.cache
def compiled(loss, form, weighted=True):
    """``(image, text, *scalars) -> ((sum, (losses, accuracies)), gradients)``, on the form's devices."""
    options = FORMS[form]()
    mesh = options.pop("devices", None)

    def total(image, text, *scalars):
        losses, found = LOSSES[loss](image, text, *scalars, **options)
        return jnp.sum(losses * (jnp.asarray(WEIGHTS, jnp.float32) if weighted else 1.0)), (losses, found)

    function = jax.jit(jax.value_and_grad(total, argnums=tuple(range(2 + len(SCALARS[loss]))), has_aux=True))

    def run(image, text, *scalars):
        over = batch_sharding(mesh or options.get("mesh") or mesh_of(1))
        image, text = jax.device_put((image, text), over)
        return jax.device_get(function(image, text, *map(jnp.float32, scalars)))

    return run


def value(loss, image, text, *scalars, **options):
    losses, found = LOSSES[loss](jnp.asarray(image, jnp.float32), jnp.asarray(text, jnp.float32), *scalars, **options)
    return float(jnp.mean(losses)), {name: float(jnp.mean(each)) for name, each in found.items()}


def softmax_reference(image, text, scale):
    """Losses, and the gradient of their weighted sum by the formula, in double precision."""
    cosines = image @ text.T
    odds = np.exp(scale * cosines)
    of_rows, of_columns = odds / odds.sum(1, keepdims=True), odds / odds.sum(0)
    losses = -(np.log(np.diag(of_rows)) + np.log(np.diag(of_columns))) / 2
    slope = (WEIGHTS[:, None] * of_rows + WEIGHTS * of_columns) / 2 - np.diag(WEIGHTS)
    return losses, (scale * slope @ text, scale * slope.T @ image, np.sum(slope * cosines))


def sigmoid_reference(image, text, scale, bias):
    cosines, signs = image @ text.T, 2 * np.eye(len(image)) - 1
    margins = signs * (scale * cosines + bias)
    slope = -WEIGHTS[:, None] * signs / (1 + np.exp(margins))
    gradients = (scale * slope @ text, scale * slope.T @ image, np.sum(slope * cosines), np.sum(slope))
    return np.log1p(np.exp(-margins)).sum(1), gradients


REFERENCE = {"softmax": softmax_reference, "sigmoid": sigmoid_reference}


@pytest.mark.parametrize("form", [pytest.param(f, marks=[pytest.mark.slow] * (f not in QUICK)) for f in FORMS])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_and_gradients_are_the_formula_in_every_form(loss, form):
    wide = [np.asarray(each, np.float64) for each in (IMAGE, TEXT)]
    losses, gradients = REFERENCE[loss](*wide, *SCALARS[loss])
    (_, (found, accuracies)), made = compiled(loss, form)(IMAGE, TEXT, *SCALARS[loss])
    np.testing.assert_allclose(found, losses, rtol=1e-5)
    for ours, theirs in zip(made, gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)
    cosines = wide[0] @ wide[1].T
    here = np.arange(N)
    np.testing.assert_array_equal(accuracies["image_to_text_accuracy"], cosines.argmax(1) == here)
    np.testing.assert_array_equal(accuracies["text_to_image_accuracy"], cosines.argmax(0) == here)


@pytest.mark.parametrize("form", QUICK)
@pytest.mark.parametrize("loss", LOSSES)
def test_equal_embeddings_have_the_accuracy_of_chance_and_the_first_place(loss, form):
    same = unit(np.ones((N, SIZE)))
    (_, (losses, accuracies)), _ = compiled(loss, form)(same, same, *SCALARS[loss])
    if loss == "softmax":
        np.testing.assert_allclose(losses, math.log(N), rtol=1e-6)
    for found in accuracies.values():
        np.testing.assert_array_equal(found, np.arange(N) == 0)


@pytest.mark.parametrize("form", QUICK)
@pytest.mark.parametrize("loss", LOSSES)
def test_the_hardest_batch_at_the_largest_scale_has_finite_gradients(loss, form):
    """Each image is the opposite of its own text and equal to the next one's."""
    texts = np.tile(unit(np.eye(2, SIZE)), (N // 2, 1)) * np.repeat([1, -1], N // 2)[:, None]
    (_, (losses, _)), gradients = compiled(loss, form)(-texts, texts, 100.0, *SCALARS[loss][1:])
    assert np.all(losses > 99.0)
    assert all(np.isfinite(each).all() and np.abs(each).max() > 1 for each in gradients)


@pytest.mark.parametrize(("n", "expected"), [(8, 2.079442), (256, 5.545177)])
def test_softmax_of_constant_embeddings_is_the_logarithm_of_the_batch(n, expected):
    same = unit(np.ones((n, 3)))
    found, accuracies = value("softmax", same, same, 1 / 0.07)
    assert found == pytest.approx(expected, rel=1e-6)
    assert accuracies["image_to_text_accuracy"] == 1 / n


@pytest.mark.parametrize(("n", "scale"), [(8, 1.0), (16, 5.0)])
def test_softmax_of_orthonormal_matches_has_a_closed_form(n, scale):
    found, accuracies = value("softmax", np.eye(n), np.eye(n), scale)
    assert found == pytest.approx(math.log1p((n - 1) * math.exp(-scale)), rel=1e-5)
    assert set(accuracies.values()) == {1.0}


def test_two_pairs_by_hand():
    image, text = [[1, 0], [0.6, 0.8]], [[0.8, 0.6], [0, 1]]
    assert value("softmax", image, text, 10.0)[0] == pytest.approx(0.8921181, rel=1e-6)
    assert value("sigmoid", image, text, 10.0, -10.0)[0] == pytest.approx(2.3834583, rel=1e-6)


def test_sigmoid_at_its_published_start():
    ones, zeros = np.eye(16, 32), np.eye(16, 32, 16)
    assert value("sigmoid", ones, zeros, 10.0, -10.0)[0] == pytest.approx(10.0007264, rel=1e-6)
    assert value("sigmoid", ones, ones, 10.0, -10.0)[0] == pytest.approx(0.6938282, rel=1e-6)
    assert value("sigmoid", ones, zeros, 10.0, 0.0)[0] == pytest.approx(16 * math.log(2), rel=1e-6)


def test_a_text_that_stands_there_twice_counts_twice():
    """Its two images share the probability; deduplication would be another loss."""
    text = np.eye(4)[[0, 0, 1, 2]]
    losses, _ = softmax_loss(jnp.asarray(text, jnp.float32), jnp.asarray(text, jnp.float32), 50.0)
    np.testing.assert_allclose(losses, [math.log(2), math.log(2), 0, 0], atol=1e-5)


def test_bfloat16_embeddings_are_computed_in_float32():
    half = jnp.asarray(IMAGE, jnp.bfloat16)
    losses, _ = softmax_loss(half, half, 20.0)
    assert losses.dtype == jnp.float32
    np.testing.assert_array_equal(losses, softmax_loss(*(half.astype(jnp.float32),) * 2, 20.0)[0])


@functools.cache
def memory(loss, n, options=(), mesh=None):
    spec = jax.ShapeDtypeStruct((n, 64), jnp.float32, sharding=batch_sharding(mesh or mesh_of(1)))
    total = lambda image, text: jnp.mean(LOSSES[loss](image, text, *SCALARS[loss], **dict(options))[0])  # noqa: E731
    run = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))
    return run.lower(spec, spec).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("loss", ["softmax", pytest.param("sigmoid", marks=pytest.mark.slow)])
def test_memory_of_chunks_grows_with_the_chunk_and_not_with_the_batch_squared(loss):
    n, chunk = 4096, 128
    matrix = 4 * n * n
    chunked = memory(loss, n, (("form", "chunked"), ("chunk_size", chunk)))
    assert memory(loss, n) > matrix
    assert chunked < 4 * 4 * n * (chunk + 64) < matrix / 5


@pytest.mark.slow
def test_devices_share_the_memory_of_a_ring_and_of_chunks():
    n, mesh = 4096, mesh_of(8)
    block = 4 * (n // 8) ** 2
    assert memory("softmax", n, (("form", "ring"), ("mesh", mesh)), mesh) < 3 * block + 2 * 4 * n * 64
    chunks = (("form", "chunked"), ("chunk_size", 512))
    assert memory("softmax", n, chunks, mesh) < memory("softmax", n, chunks) / 2


def test_the_ring_goes_around_the_axes_that_a_batch_is_spread_over():
    assert pairwise.BATCH_AXES == BATCH_AXES


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "chunked", "chunk_size": 3}, "chunk_size 3 does not divide the batch of 16"),
        ({"form": "chunked", "chunk_size": 0}, "chunk_size 0 does not divide the batch of 16"),
        ({"form": "chunked"}, "chunk_size and form 'chunked' go together"),
        ({"chunk_size": 4}, "chunk_size and form 'chunked' go together"),
        ({"form": "ring"}, "form 'ring' needs a mesh"),
    ],
    ids=str,
)
def test_what_cannot_be_is_said(options, message):
    for name, loss in LOSSES.items():
        with pytest.raises(ValueError, match=message):
            loss(jnp.asarray(IMAGE), jnp.asarray(TEXT), *SCALARS[name], **options)


def test_a_ring_needs_rows_for_each_device():
    with pytest.raises(ValueError, match="a batch of 12 does not divide over 8 devices"):
        softmax_loss(jnp.asarray(IMAGE[:12]), jnp.asarray(TEXT[:12]), 1.0, form="ring", mesh=mesh_of(8))
