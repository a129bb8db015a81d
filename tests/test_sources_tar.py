"""Tar shards: images are read where they lie, each with what stands beside it; a shard that is not whole is named."""

import gzip
import io
import json
import tarfile

import numpy as np
import pytest
from images import encode

from vision.data.decode import decode
from vision.data.sources import Opener
from vision.data.sources.captions import unpack
from vision.errors import UserError


def picture(level):
    return encode(np.full((2, 3), level, np.uint8))


def put(path, members, **options):
    """Writes ``[(name, content)]``; numbers are pictures of that level."""
    with tarfile.open(path, "w", **options) as archive:
        for name, content in members:
            content = picture(content) if isinstance(content, int) else content
            content = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def opened(pattern, **options):
    notes = []
    return Opener(f"tar:{pattern}", note=notes.append, **options), notes


def content(source):
    """``{member: (level, label)}``."""
    return {
        source.where(i).rpartition("member ")[2]: (
            int(decode(each["image"])[0, 0, 0]),
            np.asarray(each.get("label", -1)).tolist(),
        )
        for i, each in enumerate(source.read(range(len(source))))
    }


def refused(pattern, match, **options):
    with pytest.raises(UserError, match=match) as caught:
        opened(pattern, **options)[0]("train")
    assert "\n" not in str(caught.value)


def test_an_example_is_what_is_named_alike(tmp_path):
    members = [
        ("x/0.jpg", 3),
        ("x/0.cls", "1"),
        ("x/0.txt", "a dog"),
        ("y/0.PNG", 4),
        ("y/0.cls", " 0\n"),
        ("y/0.txt", "ü"),
    ]
    put(tmp_path / "train-0.tar", members)
    source = opened(tmp_path / "train-0.tar")[0]("train")
    assert content(source) == {"x/0.jpg": (3, 1), "y/0.PNG": (4, 0)}
    assert [unpack(each["caption"][0]) for each in source.read([0, 1])] == ["a dog", "ü"]
    assert source.fields == ("image", "caption", "num_captions", "label")
    assert source.num_classes == 2


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_bytes_are_those_that_tarfile_reads(tmp_path, form):
    """With names longer than a header, directories between them, and images of any size, in any order."""
    sizes = np.random.default_rng(0).integers(0, 3000, 30)
    members = [(f"{'d' * 90}/{'e' * 60 * (n % 2)}{n}.png", bytes([n]) * size) for n, size in enumerate(sizes)]
    path = put(tmp_path / "train.tar", members, format=form)
    source = opened(path)[0]("all")
    with tarfile.open(path) as archive:
        expected = [archive.extractfile(member).read() for member in archive]
    for index in np.random.default_rng(1).permutation(30):
        assert source.read([int(index)])[0]["image"] == expected[index]


def test_wildcards_ranges_and_folders(tmp_path):
    for n in range(3):
        put(tmp_path / f"train-{n:03d}.tar", [(f"{n}.png", n)])
    for pattern in ("train-*.tar", "train-{000..002}.tar", ""):
        assert len(opened(tmp_path / pattern)[0]("train")) == 3
    assert len(opened(tmp_path / "train-{001..002}.tar")[0]("train")) == 2


def test_a_shard_missing_from_a_range_is_named(tmp_path):
    for n in (0, 2):
        put(tmp_path / f"train-{n:03d}.tar", [(f"{n}.png", n)])
    refused(tmp_path / "train-{000..002}.tar", r"there is no .*train-001.tar")
    refused(tmp_path / "valid-*.tar", "no tar shards at")


def test_names_with_signs_that_wildcards_use(tmp_path):
    folder = tmp_path / "a[1]"
    folder.mkdir()
    put(folder / "train[x].tar", [("0.png", 0)])
    assert len(opened(folder)[0]("train")) == len(opened(folder / "train[x].tar")[0]("train")) == 1


def test_shards_name_their_split(tmp_path):
    put(tmp_path / "train-0.tar", [("a.png", 1)])
    put(tmp_path / "train-1.tar", [("b.png", 2)])
    put(tmp_path / "val-0.tar", [("c.png", 3)])
    opener, _ = opened(tmp_path)
    assert sorted(level for level, _ in content(opener("train")).values()) == [1, 2]
    assert list(content(opener(None)).values()) == [(3, -1)]
    assert len(opener("all")) == 3


def test_without_splits_a_tenth_is_held_out(tmp_path):
    put(tmp_path / "data.tar", [(f"{n}.png", n) for n in range(50)])
    opener, notes = opened(tmp_path / "data.tar")
    train, val = content(opener("train")), content(opener("val"))
    assert (len(train), len(val), len({**train, **val})) == (45, 5, 50)
    assert "a tenth is held out" in notes[0]


def test_labels_and_captions_in_json(tmp_path):
    entries = [{"label": 2, "caption": "a"}, {"labels": [0, 1], "captions": ["b", "c"]}]
    put(
        tmp_path / "train.tar",
        [m for n, e in enumerate(entries) for m in ((f"{n}.png", n), (f"{n}.json", json.dumps(e)))],
    )
    source = opened(tmp_path / "train.tar")[0]("train")
    assert content(source) == {"0.png": (0, [0, 0, 1]), "1.png": (1, [1, 1, 0])}
    assert [each["num_captions"] for each in source.read([0, 1])] == [1, 2]


def test_several_numbers_in_cls(tmp_path):
    put(tmp_path / "train.tar", [("0.png", 0), ("0.cls", "0,2"), ("1.png", 1), ("1.cls", "1")])
    assert content(opened(tmp_path)[0]("train")) == {"0.png": (0, [1, 0, 1]), "1.png": (1, [0, 1, 0])}


def test_class_names_stand_beside_the_shards(tmp_path):
    put(tmp_path / "train.tar", [("0.png", 0), ("0.cls", "1")])
    (tmp_path / "classes.txt").write_text("cat\ndog\nbird\n", encoding="utf-8")
    source = opened(tmp_path)[0]("train")
    assert (source.num_classes, source.class_names) == (3, ("cat", "dog", "bird"))


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ([("1.txt", "no image")], r"train.tar: 1 has no image"),
        ([("1.png", 1), ("1.cls", "x")], r"train.tar, member 1.cls: invalid literal"),
        ([("1.png", 1), ("1.cls", "-1")], r"train.tar, member 1.cls: label -1"),
        ([("1.png", 1), ("1.cls", "99999999999")], r"train.tar, member 1.cls: label 99999999999"),
        ([("1.png", 1), ("1.cls", b"\xff")], r"train.tar, member 1.cls: .*utf-8"),
        ([("1.png", 1), ("1.json", "{")], r"train.tar, member 1.json: "),
        ([("1.png", 1), ("1.json", "[" * 99999)], r"train.tar, member 1.json: "),
        ([("1.png", 1), ("1.json", '{"label": true}')], r"train.tar, member 1.json: label is not a whole"),
        ([("1.png", 1), ("1.json", '{"label": 0.5}')], r"train.tar, member 1.json: label is not a whole"),
        ([("1.png", 1), ("1.txt", "x" * 2**21)], r"train.tar, member 1.txt: 2097152 bytes of text"),
        ([("cat.1.png", 1), ("cat.2.png", 2)], r"train.tar, member cat.2.png: a second image of the example cat"),
        ([("1.png", 1), ("1.jpg", 2)], r"train.tar, member 1.jpg: a second image of the example 1"),
    ],
)
def test_an_example_that_cannot_be_used_is_named_or_left_out(tmp_path, members, match):
    put(tmp_path / "train.tar", [("0.png", 0), ("0.cls", "0"), *members, ("2.png", 2), ("2.cls", "1")])
    refused(tmp_path, match)
    opener, notes = opened(tmp_path, on_error="skip")
    assert content(opener("train")) == {"0.png": (0, 0), "2.png": (2, 1)}
    assert "passed over 1 members or shards" in notes[0]


@pytest.mark.parametrize("order", [("1.png", "1.mask.png"), ("1.mask.png", "1.png")])
def test_a_mask_beside_an_image_is_not_the_image(tmp_path, order):
    put(tmp_path / "train.tar", [(name, 7 if name == "1.png" else 9) for name in order])
    assert content(opened(tmp_path)[0]("train")) == {"1.png": (7, -1)}


def test_examples_that_lack_what_others_have(tmp_path):
    put(tmp_path / "train.tar", [("0.png", 0), ("0.cls", "0"), ("1.png", 1)])
    refused(tmp_path, "1 of 2 examples have no classes, such as 1")


@pytest.mark.parametrize("keep", [100, 700, 1600, 2600, 4608])
def test_a_shard_that_is_cut_is_named(tmp_path, keep):
    """Also where it is cut between two members, which only the missing end tells."""
    path = put(tmp_path / "train-1.tar", [(f"{n}.png", bytes(1000)) for n in range(3)])
    put(tmp_path / "train-0.tar", [("x.png", 5)])
    path.write_bytes(path.read_bytes()[:keep])
    refused(tmp_path, "train-1.tar is no whole tar file")
    opener, notes = opened(tmp_path, on_error="skip")
    source = opener("train")
    assert len(source) == 1 + max(0, (keep - 1) // 1536 if keep % 1536 else keep // 1536)
    assert all(len(each["image"]) in (1000, len(picture(5))) for each in source.read(range(len(source))))
    assert "train-1.tar" in notes[0]


def test_a_broken_header_is_no_end(tmp_path):
    """To tarfile it is, and all members behind it would be gone without a word."""
    path = put(tmp_path / "train.tar", [(f"{n}.png", n) for n in range(5)])
    whole = bytearray(path.read_bytes())
    whole[2 * 1024 + 10] ^= 1
    path.write_bytes(whole)
    refused(path, "at byte 2048 it neither goes on nor ends")
    assert len(opened(path, on_error="skip")[0]("train")) == 2


def test_two_archives_in_one_file_are_not_half_read(tmp_path):
    one, two = put(tmp_path / "a", [("0.png", 0)]), put(tmp_path / "b", [("1.png", 1)])
    (tmp_path / "train.tar").write_bytes(one.read_bytes() + two.read_bytes())
    refused(tmp_path / "train.tar", "neither goes on nor ends")


def test_a_member_of_negative_size_does_not_go_round_for_ever(tmp_path):
    """CVE-2025-8194: after a member of -1536 bytes tarfile reads the one before it again."""
    path = put(tmp_path / "train.tar", [(f"{n}.png", n) for n in range(3)])
    whole = bytearray(path.read_bytes())
    header = whole[2048:2560]
    header[124:136] = (256**12 - 1536).to_bytes(12, "big")
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    whole[2048:2560] = header
    path.write_bytes(whole)
    refused(path, "train.tar is no whole tar file")


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_compressed_shards_are_told_to_be_unpacked(tmp_path, kind):
    with tarfile.open(tmp_path / "train.tar", f"w:{kind}") as archive:
        archive.addfile(tarfile.TarInfo("0.png"), io.BytesIO())
    refused(tmp_path / "train.tar", "it is compressed: unpack it")


@pytest.mark.parametrize("content", [b"", b"hello", gzip.compress(b"", mtime=0), bytes(10240)])
def test_what_is_no_tar_file(tmp_path, content):
    (tmp_path / "train.tar").write_bytes(content)
    for policy in ("error", "skip"):
        refused(tmp_path / "train.tar", "train.tar", on_error=policy)


def test_fingerprint_follows_the_bytes(tmp_path):
    path = put(tmp_path / "train.tar", [("0.png", 0), ("1.png", 1)])
    before = opened(path)[0]("all").fingerprint
    assert opened(path)[0]("all").fingerprint == before
    put(path, [("0.png", 0), ("1.png", 2)])
    assert opened(path)[0]("all").fingerprint != before


def test_a_held_out_split_alone_is_no_training_data(tmp_path):
    put(tmp_path / "val-0.tar", [(f"{n}.png", n) for n in range(20)])
    opener, _ = opened(tmp_path)
    assert len(opener(None)) == 20
    with pytest.raises(UserError, match="no split 'train'"):
        opener("train")
