"""What excites units and what scores depend on: the right examples, places and pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from test_look import build, some

from vision.analysis import activations
from vision.analysis.gallery import Picture
from vision.analysis.saliency import saliency_map, score_gradient, smooth_gradient
from vision.errors import UserError
from vision.studies import look_saliency, look_units
from vision.studies.look import Look, draw
from vision.studies.look_data import Browsed
from vision.studies.look_units import chosen_layers, strongest_units

SHAPE = (12, 12, 1)
VGG = {"widths": (3, 4), "block_depths": (1, 1), "grid": 1, "hidden_sizes": ()}


@pytest.fixture(scope="module")
def vgg():
    return build("vgg/11", VGG, SHAPE)


def test_streaming_keeps_what_sorting_everything_gives():
    rng = np.random.default_rng(0)
    responses = rng.integers(0, 6, (23, 5, 4)).astype(np.float32)  # many are equal
    state = activations.none_yet(4, 3)
    for start in range(0, 23, 8):
        chunk = np.full((8, 5, 4), 99, np.float32)  # what fills a batch up must not count
        rows = responses[start : start + 8]
        chunk[: len(rows)] = rows
        there = np.arange(8) < len(rows)
        state = activations.updated(state, chunk, jnp.arange(start, start + 8), there)
    largest = responses.max(axis=1)
    order = np.argsort(-largest, axis=0, kind="stable")[:3]
    np.testing.assert_array_equal(state.examples, order.T)
    np.testing.assert_array_equal(state.values, np.take_along_axis(largest, order, axis=0).T)
    np.testing.assert_array_equal(state.places, np.take_along_axis(responses.argmax(axis=1), order, axis=0).T)
    assert int(state.seen) == 23
    np.testing.assert_allclose(state.mean, largest.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(state.squares / 23, largest.var(axis=0), rtol=1e-5)
    assert activations.most_varied(state, 2) == np.argsort(-largest.var(axis=0))[:2].tolist()


def test_fewer_examples_than_places_are_left_empty_and_dead_maps_out():
    responses = np.zeros((2, 3, 3), np.float32)
    responses[1, 2, 1] = 5.0
    state = activations.updated(activations.none_yet(3, 4), responses, jnp.arange(2), np.array([True, True]))
    assert state.examples.tolist()[1] == [1, 0, -1, -1]
    assert np.isneginf(np.asarray(state.values)[:, 2:]).all()
    assert activations.most_varied(state, 3) == [1]


def test_a_spot_is_found_cut_out_and_traced_to_its_pixels(vgg):
    """The first map answers to light alone: its strongest example is the one with the brightest spot, and there."""
    kernel = np.zeros((3, 3, 1, 3), np.float32)
    kernel[1, 1, 0, 0] = 1.0
    first = {"conv1": {"kernel": kernel, "bias": np.zeros(3, np.float32)}}
    net = vgg._replace(params={**vgg.params, "block00": first})
    images = np.zeros((12, *SHAPE), np.uint8)
    for number in range(12):
        images[number, 2 + number % 4, 7, 0] = 100 + 10 * number
    browsed = Browsed(12, lambda rows: images[rows], "twelve")
    (units,) = strongest_units(net, {"block00": (6, 6, 3)}, browsed, maps=3, rule="gradient")
    assert units.maps == [0], "maps that never change are not shown"
    np.testing.assert_array_equal(units.images[0], images[::-1][:9])
    np.testing.assert_allclose(units.values[0], ((100 + 10 * np.arange(11, 2, -1)) / 255 - 0.5) / 0.5, rtol=1e-4)
    for rank, example in enumerate(range(11, 2, -1)):
        row = 2 + example % 4
        expected = np.zeros((12, 12), bool)
        top = row // 2 * 2
        expected[top - 1 : top + 3, 5:9] = True  # pooling of 2x2 over kernels of 3x3
        np.testing.assert_array_equal(units.fields[0, rank], expected)
        gradient = np.zeros((12, 12))
        gradient[row, 7] = 2.0  # by pixels on the scale 0 to 1, which are divided by 0.5
        np.testing.assert_allclose(units.gradients[0, rank, ..., 0], gradient, atol=1e-6)


def test_layers_are_the_first_middle_and_last_block_or_those_asked_for(vgg, tmp_path):
    assert chosen_layers(vgg) == {"block00": (6, 6, 3), "block01": (3, 3, 4)}
    assert chosen_layers(vgg, ["pre_logits"]) == {"pre_logits": (4,)}
    with pytest.raises(UserError, match="--layer: no feature 'block1'.*did you mean 'block01'"):
        chosen_layers(vgg, ["block1"])
    mlp = build("mlp/128", {"hidden_sizes": (8, 6)}, (4, 4, 1))
    assert chosen_layers(mlp) == {"block00": (8,), "block01": (6,)}
    made = draw(Look(build("linear", {}, (4, 4, 1)), some((4, 4, 1)), None, tmp_path), ["activations"])
    assert made["activations"] == "linear has no blocks, whose units could be looked at"


def test_the_picture_of_maps_has_a_row_of_crops_and_one_of_what_drives_them(vgg, tmp_path):
    made = draw(Look(vgg, some(SHAPE, count=10), None, tmp_path, layers=("block01",), maps=2), ["activations"])
    picture = made["activations"]
    assert isinstance(picture, Picture)
    assert [path.name for path in picture.files] == ["activations_block01.png"]
    count = len(picture.numbers["block01"]["maps"])
    assert picture.body.count("<img") == count * 2 * 9
    with Image.open(picture.files[0]) as sheet:
        assert sheet.size == (4 + 9 * 100, 4 + 2 * count * 112)


def test_saliency_of_a_linear_model_is_the_size_of_its_weights():
    net = build("linear", {}, (4, 4, 3))
    images = some((4, 4, 3), count=5).images
    classes = np.array([0, 1, 2, 1, 0])
    weights = np.abs(net.params["head"]["kernel"]).reshape(4, 4, 3, 3).max(axis=2) / 0.5
    for samples in (0, 3):
        found = look_saliency.saliency_of(net, images, classes, samples=samples)
        np.testing.assert_allclose(found, np.moveaxis(weights, -1, 0)[classes], rtol=1e-4)
    shares = look_saliency.probabilities(net, images)
    logits = ((images / 255 - 0.5) / 0.5).reshape(5, -1) @ net.params["head"]["kernel"] + net.params["head"]["bias"]
    np.testing.assert_allclose(shares, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), rtol=1e-4)


def test_smoothgrad_averages_over_noise_of_each_image_s_own_range():
    images = jnp.stack([jnp.zeros((16, 16, 1)).at[0, 0].set(1.0), jnp.zeros((16, 16, 1)).at[0, 0].set(4.0)])
    gradient = jax.jit(lambda x: score_gradient(lambda y: jnp.sum(y**3, axis=(1, 2)), x, jnp.zeros(2, int)))
    found = smooth_gradient(gradient, images, key=jax.random.key(0), samples=20, noise=0.2)
    # E[3 (x + s)^2] = 3 x^2 + 3 var(s), with a deviation of 0.2 times the range.
    dark = found.at[:, 0, 0].set(0).sum(axis=(1, 2, 3)) / 255
    np.testing.assert_allclose(dark, [3 * 0.04, 3 * 0.64], rtol=0.1)
    assert saliency_map(jnp.array([[[[-3.0, 2.0]]]])).tolist() == [[[3.0]]]


def test_networks_that_score_no_classes_have_no_saliency(tmp_path):
    headless = build("vgg/11", VGG, SHAPE, classes=0)
    learned = build("vgg/11", VGG, SHAPE)._replace(objective={"name": "simclr"})
    for net, told in ((headless, "has no head"), (learned, "was not trained to tell classes apart")):
        assert told in draw(Look(net, some(SHAPE), None, tmp_path), ["saliency"])["saliency"]


def test_nothing_that_depends_on_nothing_breaks_the_page(tmp_path, vgg, monkeypatch):
    monkeypatch.setattr(look_units, "receptive_fields", lambda *_: np.zeros((9, 12, 12), bool))
    look = Look(vgg, some(SHAPE, count=9), None, tmp_path, layers=("block00",), maps=1)
    assert isinstance(draw(look, ["activations"])["activations"], Picture)
