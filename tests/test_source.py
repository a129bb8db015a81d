"""Sources hold what was put in; the digits are scikit-learn's; what is not there is named with the cure."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import child_environment
from images import encode, noise
from sklearn.datasets import load_digits

from vision.data import digest
from vision.data.decode import decode
from vision.data.digest import digest_files
from vision.data.records import Files, RecordSource
from vision.data.source import MAX_CLASSES, ArraySource, Source, Subset, check_labels, several_hot
from vision.data.sources import Opener
from vision.errors import UserError


@pytest.fixture(scope="module")
def splits():
    return {name: Opener("digits")(name) for name in ("train", "test")}


def images_of(source):
    return [decode(each["image"])[..., 0] for each in source.read(range(len(source)))]


def test_both_splits_together_are_scikit_learns_digits(splits):
    digits = load_digits()
    theirs = np.round(digits.images * 255 / 16).astype(np.uint8)
    ours = [
        (int(label), image.tobytes())
        for s in splits.values()
        for label, image in zip(s.labels(), images_of(s), strict=True)
    ]
    assert sorted(ours) == sorted((int(t), i.tobytes()) for i, t in zip(theirs, digits.target, strict=True))


def test_split_is_80_20_and_stratified(splits):
    train, test = (np.bincount(splits[name].labels(), minlength=10) for name in ("train", "test"))
    assert (train.sum(), test.sum()) == (1437, 360)
    assert np.abs(test - 0.2 * (train + test)).max() < 1, "every class within one example of its fifth"


def test_split_is_shuffled(splits):
    labels = splits["train"].labels()
    assert np.mean(labels[1:] == labels[:-1]) < 0.2


def test_classes_and_names(splits):
    assert splits["test"].num_classes == 10
    assert splits["test"].class_names == tuple("0123456789")


def test_every_kind_is_a_source(splits, tmp_path):
    arrays = ArraySource({"image": noise(1, 2, 3)[None]}, 0)
    (tmp_path / "a.png").write_bytes(encode(noise(1, 2)))
    records = RecordSource(Files((tmp_path / "a.png",)), {})
    for each in (*splits.values(), arrays, records, Subset(arrays, np.array([0]))):
        assert isinstance(each, Source)


def test_unknown_data_set_names_the_nearest_and_the_cure():
    with pytest.raises(UserError, match=r"config.data.name: 'digit' .*did you mean 'digits'.*TFDS_DATA_DIR"):
        Opener("digit")("train")


@pytest.mark.parametrize("split", ["validation", "train[:x%]"])
def test_unknown_split_names_those_there_are(split):
    with pytest.raises(UserError, match="test, train|train, test"):
        Opener("digits")(split)


def test_folder_that_cannot_be_written_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match="TFDS_DATA_DIR"):
        Opener("digits", data_dir=str(blocked / "folder"))("train")


def test_two_processes_prepare_at_once(tmp_path):
    """Every first run over several processes does."""
    code = "from vision.data.sources import Opener; print(len(Opener('digits')('test')))"
    environment = child_environment() | {"TFDS_DATA_DIR": str(tmp_path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes) for _ in range(2)]
    outputs = [process.communicate(timeout=100) for process in both]
    assert [out.strip() for out, _ in outputs] == ["360", "360"], outputs


def test_reading_needs_no_tensorflow():
    code = (
        "import sys; from vision.data.sources import Opener; Opener('digits')('test').read([0]);"
        "print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def arrays(n=6):
    return {"image": np.stack([noise(2, 3, seed=k) for k in range(n)]), "label": np.arange(n, dtype=np.int32) % 3}


def test_arrays_give_one_or_many_examples():
    source = ArraySource(arrays(), 3)
    assert source[2]["label"] == 2
    np.testing.assert_array_equal(source[[5, 1]]["label"], [2, 1])
    np.testing.assert_array_equal(source.read([4])[0]["image"], arrays()["image"][4])
    assert (len(source), source.fields, source.where(4)) == (6, ("image", "label"), "example 4")


@pytest.mark.parametrize(
    "wrong", [{"image": np.zeros((2, 1, 1, 1)), "label": np.zeros(3, int)}, {"image": np.zeros((0, 1, 1, 1))}]
)
def test_arrays_of_unequal_length_are_no_source(wrong):
    with pytest.raises(ValueError, match="length"):
        ArraySource(wrong, 2)


@pytest.mark.parametrize(
    ("labels", "classes", "match"),
    [
        (np.array([0, 3]), 3, "reach from 0 to 3"),
        (np.array([-1, 0]), 3, "reach from -1 to 0"),
        (np.zeros((2, 4), np.float32), 3, "over 4 classes, expected 3"),
        (np.array([0]), MAX_CLASSES + 1, "classes are more than"),
    ],
)
def test_labels_that_are_no_classes(labels, classes, match):
    with pytest.raises(ValueError, match=match):
        check_labels(labels, classes)


def test_several_classes_as_ones():
    np.testing.assert_array_equal(several_hot([[2, 0], [], [1, 1]], 3), [[1, 0, 1], [0, 0, 0], [0, 1, 0]])
    for wrong in (-1, 3):  # NumPy would take -1 for the last class
        with pytest.raises(ValueError, match=f"class {wrong}"):
            several_hot([[0, wrong]], 3)


def test_a_subset_is_the_examples_at_its_positions():
    whole = ArraySource(arrays(), 3, ("a", "b", "c"))
    part = Subset(whole, np.array([4, 0, 5]))
    assert part.labels().tolist() == [1, 0, 2]
    np.testing.assert_array_equal(part.read([2, 0])[1]["image"], arrays()["image"][4])
    assert (len(part), part.where(0), part.num_classes, part.class_names) == (3, "example 4", 3, ("a", "b", "c"))
    assert part.fields == whole.fields
    assert Subset(part, np.array([1])).where(0) == "example 0"
    prints = {part.fingerprint, whole.fingerprint, Subset(whole, np.array([0, 4, 5])).fingerprint}
    assert len(prints) == 3
    assert Subset(whole, np.array([4, 0, 5])).fingerprint == part.fingerprint


@pytest.mark.parametrize("change", ["pixel", "label", "type", "name", "shape"])
def test_fingerprint_of_arrays_follows_all_of_them(change):
    source, other = ArraySource(arrays(), 3), arrays()
    if change == "pixel":
        other["image"][0, 0, 0, 0] ^= 1
    elif change == "label":
        other["label"][0] = 1
    elif change == "type":
        other["label"] = other["label"].astype(np.int64)
    elif change == "name":
        other["other"] = other.pop("label")
    else:
        other["image"] = other["image"].reshape(6, 3, 2, 3)
    assert ArraySource(arrays(), 3).fingerprint == source.fingerprint
    assert ArraySource(other, 3).fingerprint != source.fingerprint


def test_records_read_their_files(tmp_path):
    paths = tuple(tmp_path / f"{n}.png" for n in range(3))
    for n, path in enumerate(paths[:2]):
        path.write_bytes(encode(np.full((1, 1), n, np.uint8)))
    source = RecordSource(Files(paths), {"label": np.array([0, 1, 1], np.int32)}, 2, ("a", "b"))
    examples = source.read([1, 2])
    assert (decode(examples[0]["image"]).item(), int(examples[0]["label"])) == (1, 1)
    assert examples[1]["image"] == b"", "a file that is gone does not decode, and is named then"
    assert source.where(2) == str(paths[2])
    assert source.fields == ("image", "label")
    with pytest.raises(ValueError, match="common, positive length"):
        RecordSource(Files(paths), {"label": np.array([0])}, 2)
    with pytest.raises(ValueError, match="reach from"):
        RecordSource(Files(paths), {"label": np.array([0, 1, 2])}, 2)


def test_fingerprint_of_records_follows_arrays_and_files(tmp_path):
    (tmp_path / "a").write_bytes(b"12")

    def fingerprint(label=0):
        return RecordSource(Files((tmp_path / "a",)), {"label": np.array([label])}, 2).fingerprint

    first = fingerprint()
    assert fingerprint() == first
    assert fingerprint(1) != first
    (tmp_path / "a").write_bytes(b"13")
    assert fingerprint() != first


def test_digest_of_files_tells_names_sizes_and_contents_apart(tmp_path):
    def digested(**content):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for name, text in content.items():
            (folder / name[0]).mkdir(parents=True, exist_ok=True)
            (folder / name[0] / name).write_text(text)
        return digest_files(sorted(folder.rglob("*.*")) or sorted(path for path in folder.rglob("*") if path.is_file()))

    assert digested(a1="x", b1="y") == digested(a1="x", b1="y")
    others = [
        {"a1": "y", "b1": "x"},
        {"a1": "xy", "b1": ""},
        {"a2": "x", "b1": "y"},
        {"a1": "x"},
        {"a1": "x", "a2": "y"},
    ]
    assert len({digested(a1="x", b1="y"), *(digested(**each) for each in others)}) == 6


def test_large_data_are_sampled(tmp_path, monkeypatch):
    """Beyond the limit, names and sizes of all files count, but the contents of some, and of each the beginning."""
    monkeypatch.setattr(digest, "WHOLE_CONTENT_BYTES", 100)
    monkeypatch.setattr(digest, "_SAMPLED_FILES", 2)
    monkeypatch.setattr(digest, "_SAMPLED_BYTES", 10)
    files = [tmp_path / f"{n}" for n in range(4)]
    for path in files:
        path.write_bytes(bytes(50))
    first = digest_files(files)
    seen = []
    for n, at in ((0, 0), (0, 20), (1, 0), (2, 9)):
        files[n].write_bytes(bytes(at) + b"\1" + bytes(49 - at))
        seen.append(digest_files(files) != first)
        files[n].write_bytes(bytes(50))
    assert seen == [True, False, False, True]
    files[1].write_bytes(bytes(51))
    assert digest_files(files) != first


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "train", "shape"), [("fashion_mnist", 60000, (28, 28, 1)), ("cifar10", 50000, (32, 32, 3))]
)
def test_stock_data_sets_are_read_by_their_tfds_name(data_dir, name, train, shape):
    if not (data_dir / name).is_dir():
        pytest.skip(f"{name} is not prepared in {data_dir}")
    opener = Opener(name, data_dir=str(data_dir))
    source = opener("test")
    assert len(source) == 10000
    assert decode(source.read([9999])[0]["image"]).shape == shape
    assert np.bincount(source.labels()).tolist() == [1000] * 10
    assert len(opener("train[:1%]")) == train // 100
