"""Some classes of a data set: only their examples, numbered anew, in training and in every evaluation."""

import json

import numpy as np
import pytest
from images import noise
from PIL import Image

from vision.data.sources import Opener
from vision.errors import ConfigError, UserError
from vision.training import fit
from vision.training.loop import train
from vision.training.predict import class_names_of
from vision.training.predictor import open_predictor
from vision.training.pretrained import load_pretrained

IMAGES = np.stack([noise(4, 5, seed=n) for n in range(8)])
LABELS = np.array([0, 1, 2, 3, 3, 2, 1, 0])
GIVEN = {"train": {"image": IMAGES, "label": LABELS}, "test": {"image": IMAGES[:4], "label": LABELS[:4]}}


def of(classes, given=GIVEN):
    return Opener("arrays", given=given, note=str, classes=classes)


def test_examples_and_labels():
    """The order given is the new numbering; what is read agrees with ``labels``."""
    source = of((3, 1))("train")
    assert (len(source), source.num_classes, source.class_names) == (4, 2, ("3", "1"))
    assert source.labels().tolist() == [1, 0, 0, 1]
    read = source.read(range(4))
    assert [int(each["label"]) for each in read] == [1, 0, 0, 1]
    np.testing.assert_array_equal([each["image"] for each in read], IMAGES[[1, 3, 4, 6]])
    assert of((3, 1))(None).labels().tolist() == [1, 0], "and so in the held-out split"


def test_fingerprint_tells_classes_apart():
    """A run does not go on with other classes, nor with the same ones under other numbers."""
    chosen = [of(classes)("train").fingerprint for classes in (None, (3, 1), (1, 3), (0, 1), (0, 1, 2, 3))]
    assert len(set(chosen)) == 5
    assert of((3, 1))("train").fingerprint == chosen[1]


def test_a_slice_is_of_the_whole(tmp_path):
    """Then a tenth of the labels is the same images whichever classes are asked for, but for those of others."""
    whole, part = Opener("digits", note=str)("train[:10%]"), Opener("digits", note=str, classes=(0, 1))("train[:10%]")
    rows = np.flatnonzero(whole.labels() < 2)
    assert part.labels().tolist() == whole.labels()[rows].tolist()
    assert part.read([3])[0]["image"] == whole.read([int(rows[3])])[0]["image"]
    assert part.where(3) == whole.where(int(rows[3]))


def test_names_of_a_folder(tmp_path):
    for name in ("ant", "bee", "cat"):
        for number in range(10):
            path = tmp_path / name / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(noise(8, 8, seed=number)).save(path)
    opener = Opener(f"folder:{tmp_path}", note=str, classes=("cat", "ant"))
    train, held_out = opener("train"), opener(None)
    assert train.class_names == held_out.class_names == ("cat", "ant")
    assert np.bincount(train.labels()).tolist() == [9, 9]
    assert "cat" in train.where(int(np.flatnonzero(train.labels() == 0)[0]))
    with pytest.raises(ConfigError, match=r"no class 'cta'; did you mean 'cat'\?; its classes: 0 ant, 1 bee, 2 cat"):
        Opener(f"folder:{tmp_path}", note=str, classes=("cta",))("train")


@pytest.mark.parametrize(
    ("classes", "match"),
    [
        ((0, 4), "no class 4; its classes are 0 to 3"),
        ((-1,), "no class -1"),
        ((True,), "no class True"),
        (("ant",), "no class 'ant'"),
        ((1, "1"), "'1' is class 1 of arrays, train, which is named before"),
        ((), "names no class"),
    ],
)
def test_classes_that_cannot_be(classes, match):
    with pytest.raises(ConfigError, match=match):
        of(classes)("train")


def test_data_that_have_no_single_label():
    several = {"train": {"image": IMAGES, "label": np.eye(4, dtype=np.float32)[LABELS]}}
    with pytest.raises(ConfigError, match="has several labels for one image"):
        of((0, 1), several)("train")
    with pytest.raises(ConfigError, match="has no labels"):
        of((0, 1), {"train": {"image": IMAGES}})("train")
    missing = tuple(each for each in range(4) if each not in of(None)("train[:25%]").labels())
    with pytest.raises(UserError, match=r"none of the 2 examples of arrays, train\[:25%\] is of class"):
        of(missing)("train[:25%]")
    with pytest.raises(ConfigError, match="not together with a mixture"):
        Opener("mixture:digits=1,digits=1", note=str, classes=(0, 1))("train")


def test_captions_stay_with_their_images(tmp_path):
    lines = []
    for number, label in enumerate(("ant", "bee", "ant", "cat")):
        Image.fromarray(noise(8, 8, seed=number)).save(tmp_path / f"{number}.png")
        lines.append(json.dumps({"image": f"{number}.png", "captions": [f"number {number}"], "label": label}))
    (tmp_path / "table.jsonl").write_text("\n".join(lines))
    source = Opener(f"captions:{tmp_path / 'table.jsonl'}", note=str, classes=("cat", "ant"))("train")
    found = {bytes(each["caption"][0]).rstrip(b"\0"): int(each["label"]) for each in source.read(range(len(source)))}
    assert found.items() <= {b"number 3": 0, b"number 0": 1, b"number 2": 1}.items()


def test_a_run_of_some_classes(tmp_path, tiny_config):
    """It has a head of their number, evaluates on them alone, and is read again without being told anything."""
    tiny_config.data.classes = (8, "2", 5)
    tiny_config.data.balance = "class"
    tiny_config.ema = None
    outcome = train(tiny_config, tmp_path / "run")
    saved = json.loads((tmp_path / "run" / "evaluations" / "test.json").read_text())
    confusion = np.array(saved["arrays"]["confusion"])
    assert saved["class_names"] == ["8", "2", "5"]
    test = Opener("digits", note=str)("test").labels()
    assert confusion.sum(axis=1).tolist() == [np.count_nonzero(test == each) for each in (8, 2, 5)]
    assert load_pretrained(str(tmp_path / "run"), note=str).model.module.num_classes == 3
    assert class_names_of(None, str(tmp_path / "run"), 3) == ("8", "2", "5")
    predictor = open_predictor(tmp_path / "run", note=str)
    images = predictor.open("test", note=str)
    right = predictor.scores(images.arrays["image"]).argmax(axis=1) == images.arrays["label"]
    assert float(np.mean(right)) == pytest.approx(outcome["test"]["accuracy"])


def test_an_estimator_of_some_classes(tmp_path):
    config = {
        "data": {"name": "digits", "classes": (0, 1)},
        "estimator": {"name": "mean_class"},
        "evals": {"test": {"split": "test"}},
    }
    fit.fit(config, tmp_path / "fit")
    test = Opener("digits", note=str)("test").labels()
    predictor = open_predictor(tmp_path / "fit", note=str)
    assert predictor.open("test", note=str).num_classes == 2
    assert len(predictor.open("test", note=str)) == np.count_nonzero(test < 2)
