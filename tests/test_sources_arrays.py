"""Arrays in a file or in memory: names as Keras or we write them, and nothing that is no image or label."""

import io
import zipfile

import numpy as np
import pytest
from images import noise

from vision.data.sources import Opener
from vision.data.sources.arrays import from_arrays
from vision.errors import UserError

IMAGES = np.stack([noise(4, 5, seed=n) for n in range(6)])
LABELS = np.array([0, 1, 2, 0, 1, 2])


def written(tmp_path, **arrays):
    np.savez_compressed(tmp_path / "data.npz", **arrays)
    return Opener(f"npz:{tmp_path / 'data.npz'}", note=str)


def refused(opener, match, split="train"):
    with pytest.raises(UserError, match=match) as caught:
        opener(split)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "names",
    [("x_train", "y_train", "x_test", "y_test"), ("train_images", "train_labels", "test_image", "test_label")],
)
def test_names_of_keras_and_ours(tmp_path, names):
    """As Keras does, labels may be ``[n, 1]``; classes are counted over all splits."""
    arrays = dict(zip(names, (IMAGES[:4], LABELS[:4, None].astype(np.uint8), IMAGES[5:], LABELS[5:]), strict=True))
    opener = written(tmp_path, **arrays)
    train, test = opener("train"), opener(None)
    np.testing.assert_array_equal(train.arrays["image"], IMAGES[:4])
    assert train.labels().tolist() == [0, 1, 2, 0]
    assert train.labels().dtype == np.int32
    assert test.labels().tolist() == [2]
    assert train.num_classes == test.num_classes == 3


def test_one_example_in_a_split_counts_too(tmp_path):
    opener = written(tmp_path, x_train=IMAGES[:2], y_train=LABELS[:2], x_test=IMAGES[2:3], y_test=LABELS[2:3])
    assert opener("train").num_classes == 3


def test_grey_images_and_names_without_a_split(tmp_path):
    source = written(tmp_path, label=LABELS, images=IMAGES[..., 0])("train")
    assert source.arrays["image"].shape == (6, 4, 5, 1)
    assert source.fields[0] == "image", "whichever comes first in the file"


def test_several_labels_and_targets(tmp_path):
    several = (np.arange(18).reshape(6, 3) % 2).astype(bool)
    source = written(tmp_path, image=IMAGES, label=several)("train")
    assert (source.num_classes, source.labels().dtype) == (3, np.float32)
    np.testing.assert_array_equal(source.labels(), several)
    target = written(tmp_path, image=IMAGES, target=np.arange(6))("train")
    assert (target.num_classes, target.arrays["target"].shape) == (1, (6, 1))


def test_slices(tmp_path):
    opener = written(tmp_path, x_train=IMAGES, y_train=LABELS)
    parts = [opener("train[:50%]"), opener("train[50%:]")]
    found = [each["image"].tobytes() for part in parts for each in part.read(range(3))]
    assert sorted(found) == sorted(image.tobytes() for image in IMAGES)
    refused(opener, "did you mean 'train'", "trin")


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"image": IMAGES.astype(np.float32)}, "image must be uint8"),
        ({"image": IMAGES[0, 0]}, "image must be uint8"),
        ({"image": IMAGES[:0]}, "image must be uint8"),
        ({"image": IMAGES[:, :0]}, "image must be uint8"),
        ({"image": np.zeros((2, 3, 3, 4), np.uint8)}, "1 or 3 channels, got 4"),
        ({"label": LABELS}, "image must be uint8.*got nothing"),
        ({"image": IMAGES, "label": LABELS[:5]}, "common, positive length"),
        ({"image": IMAGES, "label": LABELS - 1}, "label reaches from -1 to 1"),
        ({"image": IMAGES, "label": LABELS + 2**32}, "label reaches from 4294967296"),
        ({"image": IMAGES, "label": LABELS * 0.5}, "label must be whole numbers"),
        ({"image": IMAGES, "label": LABELS * np.nan}, "label must be whole numbers"),
        ({"image": IMAGES, "label": np.full((6, 2), 7)}, "label must be whole numbers"),
        ({"image": IMAGES, "label": np.full((6, 2), np.nan)}, "label must be whole numbers"),
        ({"image": IMAGES, "label": LABELS.astype(str)}, "label must be numbers"),
        ({"image": IMAGES, "target": np.float32(1)}, "target must be numbers"),
        ({"image": IMAGES, "weights": LABELS}, "array 'weights'"),
    ],
)
def test_arrays_that_are_no_data_set(tmp_path, arrays, match):
    refused(written(tmp_path, **arrays), match)
    if "weights" not in arrays:
        with pytest.raises(UserError, match=match):
            from_arrays(arrays)


def test_pickled_objects_are_refused(tmp_path):
    """Loading them could run anything."""
    refused(written(tmp_path, image=np.array([{}], object)), "cannot be read as .npz: Object arrays cannot be loaded")


def test_files_that_are_no_npz(tmp_path):
    path = tmp_path / "data.npz"
    whole = io.BytesIO()
    np.savez_compressed(whole, image=IMAGES)
    broken = bytearray(whole.getvalue())
    broken[80:120] = bytes(40)
    single = io.BytesIO()
    np.save(single, IMAGES)
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("image.npy", "no array")
    for content in (b"", b"x", whole.getvalue()[:200], bytes(broken), single.getvalue(), other.getvalue()):
        path.write_bytes(content)
        refused(Opener(f"npz:{path}"), "data.npz")
    path.unlink()
    refused(Opener(f"npz:{path}"), "cannot be read")


def test_arrays_in_memory():
    given = {"train": {"label": LABELS[:4], "image": IMAGES[:4]}, "test": {"image": IMAGES[4:], "label": LABELS[4:]}}
    opener = Opener("arrays", given=given)
    assert opener("train").num_classes == opener("test").num_classes == 3
    np.testing.assert_array_equal(opener("test").read([1])[0]["image"], IMAGES[5])
    assert len(opener("train[:2]")) == 2
    ready = from_arrays({"image": IMAGES, "label": LABELS}, class_names=("a", "b", "c"))
    assert Opener("arrays", given={"train": ready})("train") is ready
    refused(Opener("arrays"), "sources=")
    refused(Opener("arrays", given={"train": {"image": IMAGES, "label": LABELS.astype(str)}}), "label must be numbers")
