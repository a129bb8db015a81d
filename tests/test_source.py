"""The digits are scikit-learn's, split once and for all; a data set that is not there is named with the cure."""

import io
import subprocess
import sys

import numpy as np
import pytest
from conftest import child_environment
from PIL import Image
from sklearn.datasets import load_digits

from vision.data import tfds_source
from vision.data.source import ArraySource, decode
from vision.errors import UserError


@pytest.fixture(scope="module")
def splits():
    return {name: tfds_source.load("digits", name) for name in ("train", "test")}


def test_both_splits_together_are_scikit_learns_digits(splits):
    digits = load_digits()
    ours = np.concatenate([splits[name].arrays["image"] for name in ("train", "test")])
    labels = np.concatenate([splits[name].arrays["label"] for name in ("train", "test")])
    theirs = np.round(digits.images * 255 / 16).astype(np.uint8)
    as_rows = lambda images, targets: sorted((int(t), i.tobytes()) for i, t in zip(images, targets, strict=True))  # noqa: E731
    assert as_rows(ours, labels) == as_rows(theirs, digits.target)


def test_split_is_80_20_and_stratified(splits):
    train, test = (np.bincount(splits[name].arrays["label"], minlength=10) for name in ("train", "test"))
    assert (train.sum(), test.sum()) == (1437, 360)
    assert np.abs(test - 0.2 * (train + test)).max() < 1, "every class within one example of its fifth"


def test_split_is_shuffled(splits):
    labels = splits["train"].arrays["label"]
    assert np.mean(labels[1:] == labels[:-1]) < 0.2


def test_slices_of_splits(splits):
    part = tfds_source.load("digits", "train[:10%]")
    np.testing.assert_array_equal(part.arrays["image"], splits["train"].arrays["image"][:144])


def test_classes_and_names(splits):
    assert splits["test"].num_classes == 10
    assert splits["test"].class_names == tuple("0123456789")


def test_fingerprint_follows_the_content(splits):
    source = splits["test"]
    arrays = {name: array.copy() for name, array in source.arrays.items()}
    assert ArraySource(arrays, 10).fingerprint == source.fingerprint
    arrays["image"][0, 0, 0, 0] ^= 1
    assert ArraySource(arrays, 10).fingerprint != source.fingerprint
    assert splits["train"].fingerprint != source.fingerprint


def test_unknown_data_set_names_the_nearest_and_the_cure():
    with pytest.raises(UserError, match=r"config.data.name: 'digit' .*did you mean 'digits'.*TFDS_DATA_DIR"):
        tfds_source.load("digit", "train")


@pytest.mark.parametrize("split", ["validation", "train[:x%]"])
def test_unknown_split_names_those_there_are(split):
    with pytest.raises(UserError, match="test, train|train, test"):
        tfds_source.load("digits", split)


def test_folder_that_cannot_be_written_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match="TFDS_DATA_DIR"):
        tfds_source.load("digits", "train", data_dir=str(blocked / "folder"))


def test_two_processes_prepare_at_once(tmp_path):
    """Every first run over several processes does."""
    code = "from vision.data import tfds_source; print(len(tfds_source.load('digits', 'test')))"
    environment = child_environment() | {"TFDS_DATA_DIR": str(tmp_path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes) for _ in range(2)]
    outputs = [process.communicate(timeout=100) for process in both]
    assert [out.strip() for out, _ in outputs] == ["360", "360"], outputs


def test_truncated_image_does_not_decode():
    encoded = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(encoded, "PNG")
    with pytest.raises(OSError, match="truncated"):
        decode(encoded.getvalue()[:300])


@pytest.mark.parametrize(
    "arrays", [{"image": np.zeros((2, 1, 1, 1)), "label": np.zeros(3)}, {"image": np.zeros((0, 1, 1, 1))}]
)
def test_arrays_of_unequal_length_are_no_source(arrays):
    with pytest.raises(ValueError, match="length"):
        ArraySource(arrays, 2)


def test_indexing_gives_one_or_many_examples():
    source = ArraySource({"image": np.zeros((4, 2, 2, 1)), "label": np.arange(4)}, 4)
    assert source[2]["label"] == 2
    np.testing.assert_array_equal(source[[3, 1]]["label"], [3, 1])


def test_reading_needs_no_tensorflow():
    code = (
        "import sys; from vision.data import tfds_source; tfds_source.load('digits', 'test');"
        "print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "train", "shape"), [("fashion_mnist", 60000, (28, 28, 1)), ("cifar10", 50000, (32, 32, 3))]
)
def test_stock_data_sets_are_read_by_their_tfds_name(data_dir, name, train, shape):
    if not (data_dir / name).is_dir():
        pytest.skip(f"{name} is not prepared in {data_dir}")
    source = tfds_source.load(name, "test", data_dir=str(data_dir))
    assert source.arrays["image"].shape == (10000, *shape)
    assert np.bincount(source.arrays["label"]).tolist() == [1000] * 10
    assert len(tfds_source.load(name, "train[:1%]", data_dir=str(data_dir))) == train // 100
