"""Batches are the same on any number of devices, from the host or from the device, alone or stacked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mesh_of

from vision.data.host import HostPart
from vision.data.order import InOrder, Shuffled
from vision.data.pipeline import make_pipeline
from vision.data.prepare import make_prepare
from vision.data.source import ArraySource
from vision.errors import UserError
from vision.training.sharding import batch_sharding
from vision.training.state import make_keys

PART = HostPart((4, 4), 1)


@pytest.fixture
def source():
    images = np.arange(20 * 4 * 4, dtype=np.uint8).reshape(20, 4, 4, 1)
    return ArraySource({"image": images, "label": np.arange(20, dtype=np.int32)}, 20)


def pipeline(source, devices, residency, batch_size=8):
    sharding = batch_sharding(mesh_of(devices))
    return make_pipeline(source, Shuffled(20, batch_size, 0), PART, sharding=sharding, residency=residency)


def examples(made, step):
    """The examples of a step, prepared under jit without augmentation."""
    prepare = make_prepare(mean=None, std=None, augmentation=None, channels=1)
    return jax.device_get(jax.jit(prepare)(made.batch(step), made.resident, jax.random.key(0), 0))


@pytest.mark.parametrize("devices", [1, 2, 8])
@pytest.mark.parametrize("residency", ["device", "host"])
def test_batches_are_the_rows_of_the_order(source, devices, residency):
    made = pipeline(source, devices, residency)
    for step in (0, 2, 7):
        index = Shuffled(20, 8, 0).rows(step).index
        got = examples(made, step)
        np.testing.assert_array_equal(got["label"], index)
        np.testing.assert_allclose(got["image"], source.arrays["image"][index] / 255.0, rtol=1e-6)


def test_small_sets_live_on_the_device_and_only_indices_travel(source):
    made = pipeline(source, 2, "auto")
    assert set(made.resident) == {"image", "label"}
    assert set(made.batch(0)) == {"index", "visit"}
    assert len(made.batch(0)["index"].sharding.device_set) == 2


@pytest.mark.parametrize("residency", ["device", "host"])
def test_stacked_batches_are_single_batches(source, residency):
    made = pipeline(source, 8, residency)
    stacked = jax.device_get(made.stacked(3, 4))
    for offset in range(4):
        single = jax.device_get(made.batch(3 + offset))
        for name, array in single.items():
            np.testing.assert_array_equal(stacked[name][offset], array)


def test_each_device_holds_only_its_rows(source):
    batch = pipeline(source, 8, "host").batch(0)
    assert {shard.data.shape for shard in batch["image"].addressable_shards} == {(1, 4, 4, 1)}


@pytest.mark.parametrize("batch_size", [8, 20, 32])
def test_evaluation_passes_over_every_example_once(source, batch_size):
    order = InOrder(20, batch_size)
    made = make_pipeline(source, order, PART, sharding=batch_sharding(mesh_of(2)), residency="auto")
    seen = np.concatenate(
        [np.asarray(made.batch(step)["index"])[order.mask(step)] for step in range(order.num_batches)]
    )
    np.testing.assert_array_equal(seen, np.arange(20))


def test_augmentation_is_the_same_on_any_devices_and_differs_by_visit_and_example(source):
    keep = lambda draw, image: image * 0 + jax.random.bits(draw.key, dtype="uint8")  # noqa: E731
    prepare = jax.jit(make_prepare(mean=None, std=None, augmentation=keep, channels=1))
    key = make_keys(0).augment
    drawn = []
    for devices in (1, 2, 8):
        made = pipeline(source, devices, "device", batch_size=40)
        drawn.append(np.asarray(prepare(made.batch(0), made.resident, key, 0)["image"])[:, 0, 0, 0])
    np.testing.assert_array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[0], drawn[2])
    assert len(set(drawn[0].tolist())) > 30, "forty (visit, example) pairs share few of 256 values"
    shifted = np.asarray(prepare(made.batch(0), made.resident, make_keys(1).augment, 0)["image"])[:, 0, 0, 0]
    assert not np.array_equal(drawn[0], shifted)


def test_normalisation_uses_mean_and_std_per_channel():
    prepare = make_prepare(mean=(0.5, 0.25), std=(0.5, 2.0), augmentation=None, channels=2)
    image = jnp.full((1, 1, 1, 2), 255, jnp.uint8)
    batch = {"index": jnp.zeros(1, jnp.int32), "visit": jnp.zeros(1, jnp.int32), "image": image}
    np.testing.assert_allclose(prepare(batch, {}, jax.random.key(0), 0)["image"].ravel(), [1.0, 0.375])


@pytest.mark.parametrize("wrong", [{"mean": (0.1, 0.2), "std": None}, {"mean": None, "std": (0.0,)}])
def test_impossible_normalisation_is_refused(wrong):
    with pytest.raises(ValueError, match="mean|std"):
        make_prepare(**wrong, augmentation=None, channels=1)


def test_evaluation_keeps_all_captions_and_training_draws_one():
    captions = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    batch = {
        "index": jnp.arange(2, dtype=jnp.int32),
        "visit": jnp.zeros(2, jnp.int32),
        "image": jnp.zeros((2, 1, 1, 1), jnp.uint8),
        "caption": jnp.asarray(captions),
        "num_captions": jnp.asarray([3, 2], jnp.int32),
    }
    options = {"mean": None, "std": None, "channels": 1}
    kept = make_prepare(**options, draw_caption=False)(batch, {}, jax.random.key(0), 0)
    np.testing.assert_array_equal(kept["caption"], captions)
    drawn = [make_prepare(**options)(batch, {}, jax.random.key(k), 0)["caption"] for k in range(40)]
    for row, count in ((0, 3), (1, 2)):
        chosen = [np.flatnonzero((captions[row] == each[row]).all(1)).tolist() for each in drawn]
        assert {number for (number,) in chosen} == set(range(count)), "each of its captions, and no padding"


def test_what_does_not_decode_turns_black_and_is_kept_for_the_agreement_of_processes():
    class Broken:
        """A source whose images all fail."""

        num_classes, class_names, fields, fingerprint = 2, (), ("image", "label"), "0"

        def __len__(self):
            return 8

        def read(self, indices):
            return [{"image": b"no image", "label": np.int32(1)} for _ in indices]

        def where(self, index):
            return f"picture {index}"

        def labels(self):
            return np.ones(8, np.int32)

    failures = []
    sharding = batch_sharding(mesh_of(2))
    options = {"sharding": sharding, "residency": "host"}
    made = make_pipeline(Broken(), Shuffled(8, 4, 0), PART, **options, failures=failures)
    for step in range(3):
        batch = made.batch(step)
        assert not np.asarray(batch["image"]).any()
        assert batch["image"].shape == (4, 4, 4, 1)
    assert len(failures) == 1
    assert "does not decode" in failures[0]
    with pytest.raises(UserError, match=r"picture \d"):
        make_pipeline(Broken(), Shuffled(8, 4, 0), PART, **options).batch(0)


def test_a_set_with_much_beside_its_images_does_not_live_on_the_device(monkeypatch):
    monkeypatch.setattr("vision.data.pipeline.RESIDENT_BYTES", 20 * 100)
    arrays = {"image": np.zeros((20, 4, 4, 1), np.uint8), "caption": np.zeros((20, 4, 30), np.uint8)}
    for source, resident in ((ArraySource(arrays, 0), False), (ArraySource({"image": arrays["image"]}, 0), True)):
        assert bool(pipeline(source, 1, "auto").resident) == resident
