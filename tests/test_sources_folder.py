"""A folder of images: what its names say is what the labels are, and whatever is odd in it is said."""

import os
import socket

import numpy as np
import pytest
from images import encode

from vision.data.decode import decode
from vision.data.sources import Opener
from vision.data.sources.splits import hold_out
from vision.errors import UserError


def put(root, *names):
    """Writes images whose grey level is the number of their place among ``names``."""
    for level, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(np.full((2, 3), level, np.uint8)))
    return root


def opened(root, **options):
    notes = []
    return Opener(f"folder:{root}", note=notes.append, **options), notes


def content(source):
    """``{path: (label, level)}``."""
    examples = source.read(range(len(source)))
    return {
        source.where(i): (int(each.get("label", -1)), int(decode(each["image"])[0, 0, 0]))
        for i, each in enumerate(examples)
    }


def test_classes_are_folders_in_the_order_of_their_names(tmp_path):
    put(tmp_path, "b/x.png", "a/y.png", "a/deep/er/z.png", "c/w.PNG")
    opener, _ = opened(tmp_path)
    source = opener("all")
    assert source.class_names == ("a", "b", "c")
    assert content(source) == {
        str(tmp_path / "a/deep/er/z.png"): (0, 2),
        str(tmp_path / "a/y.png"): (0, 1),
        str(tmp_path / "b/x.png"): (1, 0),
        str(tmp_path / "c/w.PNG"): (2, 3),
    }
    assert source.labels().tolist() == [0, 0, 1, 2]
    assert source.fields == ("image", "label")


def test_split_folders_share_their_classes(tmp_path):
    put(tmp_path, "train/a/0.png", "train/b/1.png", "Val/b/2.png")
    opener, _ = opened(tmp_path)
    assert opener("train").labels().tolist() == [0, 1]
    assert opener("val").labels().tolist() == opener(None).labels().tolist() == [1]
    with pytest.raises(UserError, match=r"no split 'tes'.*its splits: train, val|its splits: val, train"):
        opener("tes")


def test_folders_that_are_no_splits_beside_those_that_are(tmp_path):
    """Otherwise train and val would be two classes, beside annotations."""
    put(tmp_path, "train/a/0.png", "val/a/1.png", "annotations/2.png")
    opener, notes = opened(tmp_path)
    assert opener("train").class_names == ("a",)
    assert any("annotations" in note for note in notes)


def test_a_class_may_be_called_like_a_split(tmp_path):
    put(tmp_path, "test/0.png", "cat/1.png")
    assert opened(tmp_path)[0]("all").class_names == ("cat", "test")


def test_images_alone_have_no_labels(tmp_path):
    put(tmp_path, *(f"{n}.png" for n in range(20)))
    source = opened(tmp_path)[0]("train")
    assert (len(source), source.num_classes, source.fields) == (18, 0, ("image",))


def test_images_beside_class_folders_are_said(tmp_path):
    put(tmp_path, "a/0.png", "stray.png")
    opener, notes = opened(tmp_path)
    assert len(opener("all")) == 1
    assert any("1 images beside the class folders" in note for note in notes)


def test_hidden_files_and_what_is_no_image(tmp_path):
    put(tmp_path, "a/0.png", "a/.hidden.png", ".git/1.png", "__MACOSX/2.png")
    for name in ("a/notes.txt", "a/model.bin", "a/README", "a/Thumbs.db"):
        (tmp_path / name).write_text("x")
    opener, notes = opened(tmp_path)
    assert list(content(opener("all"))) == [str(tmp_path / "a/0.png")]
    assert "passed over 3 files that are no images (1 without a suffix, 1 .bin, 1 .txt)" in "".join(notes)


def test_links_that_loop_bring_no_wrong_labels(tmp_path):
    """A link from one class back to the root would bring the images of all classes under that one's label."""
    put(tmp_path, "a/0.png", "b/1.png", "b/deep/2.png")
    (tmp_path / "a/root").symlink_to(tmp_path)
    (tmp_path / "b/deep/up").symlink_to(tmp_path / "b")
    (tmp_path / "a/above").symlink_to(tmp_path.parent)
    assert sorted(content(opened(tmp_path)[0]("all")).values()) == [(0, 0), (1, 1), (1, 2)]


def test_links_to_elsewhere_are_followed(tmp_path):
    put(tmp_path / "elsewhere", "0.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").symlink_to(tmp_path / "elsewhere")
    assert list(content(opened(tmp_path / "data")[0]("all")).values()) == [(0, 0)]


@pytest.mark.parametrize("where", ["data", "data/train"])
def test_empty_class(tmp_path, where):
    """One without images at all, and one that training has none of."""
    put(tmp_path, f"{where}/a/0.png", *(["data/val/b/1.png"] if "train" in where else []))
    (tmp_path / where / "b").mkdir(parents=True, exist_ok=True)
    with pytest.raises(UserError, match=r"\bb\b.*on_error=skip") as caught:
        opened(tmp_path / "data")[0]("all" if where == "data" else "train")
    assert "\n" not in str(caught.value)
    opener, notes = opened(tmp_path / "data", on_error="skip")
    assert opener("all" if where == "data" else "train").class_names == ("a", "b")
    assert any("no images" in note for note in notes)


def test_classes_tsv_names_the_folders(tmp_path):
    put(tmp_path, "n1/0.png", "n2/1.png", "n3/2.png")
    (tmp_path / "classes.tsv").write_bytes(
        "\ufeffn2\tTäuble\r\nn1\ttench\nunknown\tx\nno tab\n".encode() + b"n3\t\xff\n"
    )
    assert opened(tmp_path)[0]("all").class_names == ("tench", "Täuble", "\ufffd")


def test_names_that_are_no_utf8(tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    with open(folder + b"/\xff.png", "wb") as handle:
        handle.write(encode(np.zeros((2, 3), np.uint8)))
    opener, _ = opened(tmp_path)
    source = opener("all")
    assert source.class_names == ("caf\ufffd",)
    assert decode(source.read([0])[0]["image"]).shape == (2, 3, 1)
    assert len(source.fingerprint) == 16


def test_a_link_that_leads_nowhere_is_an_image_that_does_not_decode(tmp_path):
    put(tmp_path, "a/0.png")
    (tmp_path / "a/1.png").symlink_to(tmp_path / "gone")
    source = opened(tmp_path)[0]("all")
    assert source.read([1])[0]["image"] == b""
    assert source.where(1).endswith("a/1.png")


def test_pipes_and_sockets_are_not_waited_for(tmp_path, monkeypatch):
    put(tmp_path, "a/0.png")
    os.mkfifo(tmp_path / "a/pipe.png")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("a/s.png")
        assert len(opened(tmp_path)[0]("all")) == 1


def test_a_file_that_may_not_be_read_comes_as_nothing(tmp_path):
    if os.getuid() == 0:
        pytest.skip("root may read everything")
    put(tmp_path, "a/0.png")
    (tmp_path / "a/0.png").chmod(0)
    assert opened(tmp_path)[0]("all").read([0])[0]["image"] == b""


@pytest.mark.parametrize("kind", ["missing", "file", "empty"])
def test_what_is_no_folder_of_images_is_named(tmp_path, kind):
    root = tmp_path / "data"
    if kind == "file":
        root.write_text("")
    elif kind == "empty":
        root.mkdir()
    with pytest.raises(UserError, match=str(root)) as caught:
        opened(root)[0]("train")
    assert "\n" not in str(caught.value)


def test_a_path_without_its_kind_is_told_how_to_write_it(tmp_path):
    with pytest.raises(UserError, match=f"folder:{tmp_path}"):
        Opener(str(tmp_path))("train")
    with pytest.raises(UserError, match="did you mean 'folder'"):
        Opener(f"foldr:{tmp_path}")("train")


def test_fingerprint_follows_the_content_and_not_the_place(tmp_path):
    root = put(tmp_path / "one", "a/0.png", "b/1.png")
    first = opened(root)[0]("all").fingerprint
    moved = root.rename(tmp_path / "two")
    assert opened(moved)[0]("all").fingerprint == first
    path = moved / "a/0.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    changed = opened(moved)[0]("all").fingerprint
    assert changed != first, "one bit of one file"
    path.write_bytes(whole)
    path.rename(moved / "a/00.png")
    assert opened(moved)[0]("all").fingerprint not in (first, changed), "the name of one file"


def test_held_out_part_is_stratified():
    """A tenth of each class, rounded."""
    keys, classes = [f"{n}.jpg" for n in range(1000)], np.repeat([0, 1, 2], [100, 850, 50])
    splits = hold_out(keys, classes)
    assert np.bincount(classes[splits["val"]]).tolist() == [10, 85, 5]
    assert sorted([*splits["train"], *splits["val"]]) == list(range(1000))
    assert np.corrcoef(splits["val"], np.arange(len(splits["val"])))[0, 1] < 1, "no run of neighbours"


@pytest.mark.parametrize("added", [1, 7, 50])
def test_held_out_part_hardly_changes_when_images_are_added(added):
    """At most as many images move from val to train as were added: each new one takes the place of one old."""
    keys = [f"{n}.jpg" for n in range(400)]
    before = {keys[i] for i in hold_out(keys, None)["val"]}
    more = keys + [f"new{n}.jpg" for n in range(added)]
    shuffled = np.random.default_rng(0).permutation(more).tolist()
    after = {shuffled[i] for i in hold_out(shuffled, None)["val"]}
    assert len(before - after) <= added
    assert len(after) == round(0.1 * len(more))


def test_slices_are_random_and_add_up(tmp_path):
    """The first nine tenths of a folder sorted by class would lack whole classes."""
    put(tmp_path, *(f"train/{label}/{n}.png" for label in "abcde" for n in range(20)), "val/a/0.png")
    opener, _ = opened(tmp_path)
    first, rest = opener("train[:90%]"), opener("train[90%:]")
    assert (len(first), len(rest)) == (90, 10)
    assert len({first.where(i) for i in range(90)} | {rest.where(i) for i in range(10)}) == 100
    assert len(set(rest.labels().tolist())) >= 3
    assert content(opener("train[90%:]")) == content(rest)
    assert len(opener("train[:10]+train[95:]")) == 15


@pytest.mark.parametrize(
    "split", ["train[", "train[:x%]", "train[5:2]", "train[:0]", "train[[1]]", "", "+", "train[:200%]", "train]"]
)
def test_slices_that_are_none_are_named(tmp_path, split):
    put(tmp_path, *(f"train/a/{n}.png" for n in range(5)))
    with pytest.raises(UserError, match="split") as caught:
        opened(tmp_path)[0](split)
    assert "\n" not in str(caught.value)


@pytest.mark.data
def test_tiny_imagenet_is_a_folder(data_folder_of):
    root = data_folder_of("tiny_imagenet_10")
    opener, _ = opened(root)
    train, val = opener("train"), opener(None)
    assert np.bincount(train.labels()).tolist() == [500] * 10
    assert np.bincount(val.labels()).tolist() == [50] * 10
    assert not any(name.startswith("n0") for name in train.class_names), "classes.tsv has readable names"


@pytest.fixture
def data_folder_of():
    from conftest import REPOSITORY

    def find(name):
        folder = REPOSITORY.parent / "shared" / "data" / name
        if not folder.is_dir():
            pytest.skip(f"there is no folder {name} of development data beside the repository")
        return folder

    return find


def test_where_there_is_train_alone_a_tenth_is_held_out(tmp_path):
    put(tmp_path, *(f"train/{label}/{n}.png" for label in "ab" for n in range(20)))
    opener, notes = opened(tmp_path)
    train, val = opener("train"), opener(None)
    assert np.bincount(train.labels()).tolist() == [18, 18]
    assert np.bincount(val.labels()).tolist() == [2, 2]
    assert content(train).keys().isdisjoint(content(val))
    assert len(opener("train+val")) == 40
    assert len([note for note in notes if "a tenth of the only split, train, is held out as val" in note]) == 1


def test_train_beside_other_folders_is_no_class(tmp_path):
    """An image's class must not be which of them it lay in."""
    put(tmp_path, *(f"train/{label}/{n}.png" for label in "ab" for n in range(10)), "images/loose.png")
    opener, notes = opened(tmp_path)
    assert opener("train").class_names == ("a", "b")
    assert any("passed over what is in no split: the folders images" in note for note in notes)


def test_one_split_without_class_folders_beside_others_with_them_is_named(tmp_path):
    put(tmp_path, "train/a/0.png", "train/b/1.png", "val/2.png")
    with pytest.raises(UserError, match=r"val has 1 images and no class folders, which other splits have"):
        opened(tmp_path)[0]("train")


def test_a_single_class_is_said(tmp_path):
    """Whoever names the folder above the right one finds a class called images, and an accuracy of 1."""
    put(tmp_path, "images/a/0.png", "images/b/1.png")
    opener, notes = opened(tmp_path)
    assert opener("train").class_names == ("images",)
    assert any("one class only, images" in note for note in notes)
