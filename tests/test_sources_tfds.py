"""TFDS data sets of every shape that the stock ones have: several labels, captions, other names; read as they are."""

import contextlib
import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from images import encode

from vision.data.decode import decode
from vision.data.sources import Opener
from vision.data.sources.captions import unpack
from vision.errors import UserError

F = tfds.features
NAMES = ["cat", "dog", "eel"]


def prepare(folder, name, features, splits):
    """Writes a data set with the given examples; images are grey levels and come as encoded bytes."""

    def encoded(example):
        return {
            key: io.BytesIO(encode(np.full((2, 3), value, np.uint8))) if isinstance(features[key], F.Image) else value
            for key, value in example.items()
        }

    def info(self):
        return tfds.core.DatasetInfo(builder=self, features=F.FeaturesDict(features))

    def generators(self, dl_manager):
        return {
            split: ((n, encoded(example)) for n, example in enumerate(examples)) for split, examples in splits.items()
        }

    body = {
        "VERSION": tfds.core.Version("1.0.0"),
        "pkg_dir_path": folder,
        "_info": info,
        "_split_generators": generators,
        "_generate_examples": lambda self: None,
        "__module__": __name__,
        "__doc__": "A data set of the tests.",
    }
    class_name = "".join(part.title() for part in name.split("_"))
    with tfds.core.registered.skip_registration():
        builder_class = type(class_name, (tfds.core.GeneratorBasedBuilder,), body)
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        builder = builder_class(data_dir=str(folder), file_format="array_record")
        builder.download_and_prepare(file_format="array_record")
    return name


IMAGE = F.Image(shape=(None, None, 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    examples = [{"image": n, "label": n % 3} for n in range(10)]
    prepare(
        folder,
        "plain_one",
        {"image": IMAGE, "label": F.ClassLabel(names=NAMES)},
        {"train": examples, "val": examples[:3]},
    )
    prepare(
        folder,
        "several_ones",
        {"image": IMAGE, "labels": F.Sequence(F.ClassLabel(names=NAMES))},
        {"train": [{"image": 0, "labels": [0, 2]}, {"image": 1, "labels": []}, {"image": 2, "labels": [1]}]},
    )
    prepare(
        folder,
        "captioned_ones",
        {"image": IMAGE, "captions": F.Sequence({"id": F.Scalar(np.int64), "text": F.Text()})},
        {
            "train": [
                {"image": n, "captions": [{"id": k, "text": f"ü {n} {k}"} for k in range(2 + n)]} for n in range(3)
            ]
        },
    )
    prepare(
        folder,
        "caption_one",
        {"image": IMAGE, "caption": F.Text()},
        {"test": [{"image": 0, "caption": "words"}, {"image": 1, "caption": ""}]},
    )
    prepare(
        folder,
        "other_names",
        {
            "photo": IMAGE,
            "fine": F.ClassLabel(num_classes=5),
            "coarse": F.ClassLabel(names=["x", "y"]),
            "depth": F.Scalar(np.float32),
        },
        {"train": [{"photo": 7, "fine": 4, "coarse": 1, "depth": 0.5}]},
    )
    prepare(
        folder,
        "hidden_labels",
        {"image": IMAGE, "label": F.ClassLabel(names=NAMES)},
        {"train": [{"image": 0, "label": 1}], "test": [{"image": 0, "label": -1}]},
    )
    prepare(folder, "no_images", {"label": F.ClassLabel(names=NAMES)}, {"train": [{"label": 0}]})
    return folder


def opened(folder, name, **options):
    return Opener(name, data_dir=str(folder), note=str, **options)


def by_level(source):
    return {int(decode(each["image"])[0, 0, 0]): each for each in source.read(range(len(source)))}


def test_labels_images_and_names(folder):
    source = opened(folder, "plain_one")("train")
    assert (source.num_classes, source.class_names) == (3, tuple(NAMES))
    assert source.fields == ("image", "label")
    found = by_level(source)
    assert sorted(found) == list(range(10))
    assert all(found[n]["label"] == n % 3 and found[n]["label"].dtype == np.int32 for n in found)
    in_order = [int(decode(each["image"])[0, 0, 0]) % 3 for each in source.read(range(10))]
    assert source.labels().tolist() == in_order
    assert "plain_one" in source.where(3)
    assert "example 3" in source.where(3)


def test_slices_are_those_of_tfds(folder):
    """They are cut where TFDS cuts them, unlike those of a folder."""
    whole = [each["image"] for each in opened(folder, "plain_one")("train").read(range(10))]
    assert [each["image"] for each in opened(folder, "plain_one")("train[:90%]").read(range(9))] == whole[:9]
    part = opened(folder, "plain_one")("train[2:4]+train[8:]")
    assert [each["image"] for each in part.read(range(4))] == [whole[n] for n in (2, 3, 8, 9)]
    assert len(opened(folder, "plain_one")(None)) == 3, "the held-out split is val"
    assert len(opened(folder, "plain_one")("all")) == 13


def test_several_labels(folder):
    source = opened(folder, "several_ones")("train")
    labels = {level: each["label"].tolist() for level, each in by_level(source).items()}
    assert labels == {0: [1, 0, 1], 1: [0, 0, 0], 2: [0, 1, 0]}
    assert source.labels().shape == (3, 3)
    assert source.labels().dtype == np.float32


def test_captions_as_coco_has_them(folder):
    source = opened(folder, "captioned_ones")("train")
    assert source.fields == ("image", "caption", "num_captions")
    assert source.num_classes == 0
    for level, each in by_level(source).items():
        texts = [unpack(line) for line in each["caption"][: each["num_captions"]]]
        assert texts == [f"ü {level} {k}" for k in range(2 + level)]
    shapes = {each["caption"].shape for each in source.read(range(3))}
    assert len(shapes) == 1, "they are stacked"


def test_a_single_caption(folder):
    found = by_level(opened(folder, "caption_one")(None))
    assert [unpack(found[n]["caption"][0]) for n in (0, 1)] == ["words", ""]


def test_the_label_is_chosen(folder):
    """Without ``label`` the first by name counts: TFDS gives them in another order from run to run.

    And the image need not be called so.
    """
    source = opened(folder, "other_names")("train")
    assert (source.class_names, source.labels().tolist()) == (("x", "y"), [1])
    fine = opened(folder, "other_names", label="fine")("train")
    assert (fine.num_classes, int(by_level(fine)[7]["label"])) == (5, 4)
    assert fine.fingerprint != source.fingerprint
    with pytest.raises(
        UserError, match=r"config.data.label: .*'coars'; did you mean 'coarse'\?; known: coarse, fine|fine, coarse"
    ):
        opened(folder, "other_names", label="coars")("train")
    with pytest.raises(UserError, match="no class feature 'depth'"):
        opened(folder, "other_names", label="depth")("train")


def test_hidden_labels_are_refused_when_they_are_read(folder):
    """Many test splits have -1 for every label; training on it would be silent."""
    source = opened(folder, "hidden_labels")("test")
    for read in (lambda: source.read([0]), source.labels):
        with pytest.raises(UserError, match="label -1") as caught:
            read()
        assert "\n" not in str(caught.value)
    assert opened(folder, "hidden_labels")("train").labels().tolist() == [1]


@pytest.mark.parametrize(
    ("name", "split", "match"),
    [
        ("no_images", "train", "no_images has no images; its features: label"),
        ("plain_oen", "train", "'plain_oen' is not prepared in .*did you mean 'plain_one'"),
        ("plain_one", "tran", "data split 'tran'"),
        ("plain_one", "train[:x%]", "data split"),
        ("plain_one", "train[:0]", "is empty|0 length"),
        ("plain_one", "train[5:2]", "data split"),
        ("plain_one", "[", "data split '\\['"),
        ("caption_one", "train", "data split 'train'.*its splits: test"),
    ],
)
def test_what_is_not_there_is_one_line(folder, name, split, match):
    with pytest.raises(UserError, match=match) as caught:
        opened(folder, name)(split)
    assert "\n" not in str(caught.value)


def test_fingerprint_follows_the_bytes_and_the_split(folder, tmp_path):
    prints = {split: opened(folder, "plain_one")(split).fingerprint for split in ("train", "val", "train[:5]", "all")}
    assert len(set(prints.values())) == 4
    changed = [{"image": n, "label": n % 3 if n else 1} for n in range(10)]
    features = {"image": IMAGE, "label": F.ClassLabel(names=NAMES)}
    prepare(tmp_path, "plain_one", features, {"train": changed, "val": changed[:3]})
    again = opened(tmp_path, "plain_one")
    assert again("train").fingerprint != prints["train"]
    assert again("all").fingerprint != prints["all"]


def test_a_record_file_that_is_cut_is_one_line(folder, tmp_path):
    import shutil

    shutil.copytree(folder / "plain_one", tmp_path / "plain_one")
    (record,) = (tmp_path / "plain_one" / "1.0.0").glob("*-train.array_record*")
    record.write_bytes(record.read_bytes()[:200])
    with pytest.raises(UserError, match="plain_one") as caught:
        opened(tmp_path, "plain_one")("train").read(range(10))
    assert "\n" not in str(caught.value)
