"""Mixtures: classes of one name are one class, and each source is drawn from by its weight, exactly, block by block."""

import numpy as np
import pytest
from images import encode, noise

from vision.data.order import Stratified, shares_of
from vision.data.source import ArraySource
from vision.data.sources import Opener
from vision.data.sources.captions import unpack
from vision.data.sources.mixture import Mixture, parse
from vision.errors import UserError


def source(labels, names=(), *, classes=None, start=0):
    images = np.stack([np.full((1, 1, 1), start + n, np.uint8) for n in range(len(labels))])
    return ArraySource({"image": images, "label": np.asarray(labels, np.int32)}, classes or len(names), tuple(names))


def test_classes_are_joined_by_name():
    mixed = Mixture((source([0, 1], ["dog", "cat"]), source([0, 1, 2], ["bird", "dog", "fish"], start=2)), (1.0, 1.0))
    assert mixed.class_names == ("dog", "cat", "bird", "fish")
    assert mixed.num_classes == 4
    names = [mixed.class_names[each["label"]] for each in mixed.read([4, 0, 3, 1, 2])]
    assert names == ["fish", "dog", "dog", "cat", "bird"]
    assert [int(each["image"][0, 0, 0]) for each in mixed.read([4, 0, 3])] == [4, 0, 3]
    assert mixed.labels().tolist() == [0, 1, 2, 0, 3]
    assert len(mixed) == 5


def test_positions_and_places():
    mixed = Mixture((source([0, 0], ["a"]), source([0], ["a"])), (1.0, 2.0))
    assert [group.tolist() for group in mixed.groups] == [[0, 1], [2]]
    assert [mixed.where(index) for index in range(3)] == ["example 0", "example 1", "example 0"]


def test_sources_without_names_need_the_same_classes():
    assert Mixture((source([0], classes=3), source([2], classes=3)), (1.0, 1.0)).labels().tolist() == [0, 2]
    with pytest.raises(ValueError, match=r"\[2, 3\] classes without names"):
        Mixture((source([0], classes=2), source([2], classes=3)), (1.0, 1.0))


def test_numbers_are_not_taken_for_the_first_of_many_names():
    """Two sources of two classes each make four; a third of two nameless classes could be any of them."""
    named = (source([0], ["a", "b"]), source([0], ["c", "d"]))
    with pytest.raises(ValueError, match="no names"):
        Mixture((*named, source([1], classes=2)), (1.0, 1.0, 1.0))


def test_several_labels_and_single_ones_come_in_one_form():
    several = ArraySource(
        {"image": np.zeros((1, 1, 1, 1), np.uint8), "label": np.eye(2, dtype=np.float32)[:1]}, 2, ("a", "b")
    )
    mixed = Mixture((several, source([1], ["c", "a"])), (1.0, 1.0))
    assert [each["label"].tolist() for each in mixed.read([0, 1])] == [[1, 0, 0], [1, 0, 0]]
    assert mixed.labels().tolist() == [[1, 0, 0], [1, 0, 0]]


def test_captions_of_different_lengths_come_in_one_form(tmp_path):
    lines = {"a.csv": ["x.png,one", "x.png,two"], "b.csv": ["x.png,a much longer caption"]}
    (tmp_path / "x.png").write_bytes(encode(noise(2, 2)))
    for name, rows in lines.items():
        (tmp_path / name).write_text("\n".join(["image,caption", *rows]))
    name = f"mixture:captions:{tmp_path / 'a.csv'}=1,captions:{tmp_path / 'b.csv'}=1"
    examples = Opener(name, note=str)("train").read([0, 1])
    assert np.stack([each["caption"] for each in examples]).shape == (2, 2, 21)
    assert [[unpack(line) for line in each["caption"][: each["num_captions"]]] for each in examples] == [
        ["one", "two"],
        ["a much longer caption"],
    ]


def test_entries_are_those_that_all_have():
    unlabelled = ArraySource({"image": np.zeros((1, 1, 1, 1), np.uint8)}, 0)
    mixed = Mixture((source([0], ["a"]), unlabelled), (1.0, 1.0))
    assert mixed.fields == ("image",)
    assert list(mixed.read([0])[0]) == list(mixed.read([1])[0]) == ["image"]


def test_fingerprint_follows_the_sources_and_the_weights():
    one, two = source([0], ["a"]), source([0, 0], ["a"])
    prints = {
        Mixture(each, w).fingerprint
        for each, w in (((one, two), (1.0, 1.0)), ((two, one), (1.0, 1.0)), ((one, two), (1.0, 2.0)))
    }
    assert len(prints) == 3
    assert Mixture((one, two), (1.0, 1.0)).fingerprint in prints


@pytest.mark.parametrize("weights", [(0.7, 0.3), (1.0, 1.0, 2.0), (0.995, 0.005), (1 / 3, 2 / 3)])
def test_every_block_holds_every_source_by_its_weight(weights):
    """Shares are exact to a thousandth of a block, and whoever stops anywhere is off by less than one block."""
    sources = tuple(source([0] * (7 + 5 * n), ["a"]) for n in range(len(weights)))
    mixed = Mixture(sources, weights)
    shares = shares_of(weights)
    np.testing.assert_allclose(np.asarray(shares) / sum(shares), np.asarray(weights) / sum(weights), atol=1e-3)
    order = Stratified(mixed.groups, shares, 50, 3)
    blocks = 4
    index = np.concatenate([order.rows(step).index for step in range(-(-blocks * sum(shares) // 50))])
    of = np.searchsorted(np.cumsum([len(each) for each in sources]), index, side="right")
    for block in range(blocks):
        here = of[block * sum(shares) : (block + 1) * sum(shares)]
        assert np.bincount(here, minlength=len(weights)).tolist() == list(shares)


def test_names_and_weights_are_read():
    assert parse("digits=0.7,folder:/a=b=0.3") == [("digits", 0.7), ("folder:/a=b", 0.3)]


@pytest.mark.parametrize(
    "text", ["", "digits", "digits=", "digits=x", "digits=0", "digits=-1", "digits=nan", "digits=inf", "=1", "a=1,,b=1"]
)
def test_what_is_no_mixture(text):
    with pytest.raises(UserError, match="NAME=WEIGHT"):
        parse(text)


def test_a_mixture_of_what_cannot_be_mixed_is_one_line(tmp_path):
    for name, channels in (("a", 2), ("b", 3)):
        np.savez(tmp_path / f"{name}.npz", image=np.zeros((channels, 2, 2), np.uint8), label=np.arange(channels))
    with pytest.raises(UserError, match="without names cannot be mixed") as caught:
        Opener(f"mixture:npz:{tmp_path / 'a.npz'}=1,npz:{tmp_path / 'b.npz'}=1")("train")
    assert "\n" not in str(caught.value)


def test_a_mixture_with_itself_has_its_classes():
    mixed = Opener("mixture:digits=3,digits=1")("test")
    alone = Opener("digits")("test")
    assert mixed.class_names == alone.class_names
    assert len(mixed) == 2 * len(alone)
    np.testing.assert_array_equal(mixed.labels(), np.tile(alone.labels(), 2))
