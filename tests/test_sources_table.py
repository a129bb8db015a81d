"""Tables of images: captions and labels are those of their line; a line that cannot be used is named by its number."""

import csv
import json

import numpy as np
import pytest
from images import encode

from vision.data.decode import decode
from vision.data.sources import Opener
from vision.data.sources.captions import pack, unpack
from vision.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """Images 0.png to 3.png, whose level is their number; the last two below images/."""
    (tmp_path / "images").mkdir()
    for n, place in enumerate(("0.png", "1.png", "images/2.png", "images/3.png")):
        (tmp_path / place).write_bytes(encode(np.full((1, 1), n, np.uint8)))
    return tmp_path


def opened(folder, text, name="table.csv", **options):
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    notes = []
    return Opener(f"captions:{folder / name}", note=notes.append, **options), notes


def rows(source):
    """``{level of the image: (captions, label)}``."""
    found = {}
    for example in source.read(range(len(source))):
        texts = [unpack(line) for line in example["caption"][: example["num_captions"]]] if "caption" in example else []
        found[int(decode(example["image"])[0, 0, 0])] = (texts, np.asarray(example.get("label", -1)).tolist())
    return found


def refused(folder, text, match, **options):
    with pytest.raises(UserError, match=match) as caught:
        opened(folder, text, **options)[0]("train")
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_several_captions_of_an_image(folder):
    text = 'image,caption\n0.png,a dog\n2.png,"two, with a comma"\n0.png,"said ""hello"""\n'
    source = opened(folder, text)[0]("train")
    assert rows(source) == {0: (["a dog", 'said "hello"'], -1), 2: (["two, with a comma"], -1)}
    assert source.num_classes == 0


@pytest.mark.parametrize("name", ["t.csv", "t.txt", "t.tsv"])
def test_delimiters_quotes_and_line_ends(folder, name):
    """What Python's own writer writes is read back."""
    captions = ["plain", "comma, and\ttab", 'a "quote"', "two\nlines", "Ünïcödé 😀", "  padded  "]
    for terminator in ("\n", "\r\n"):
        with open(folder / name, "w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle, delimiter="\t" if name == "t.tsv" else ",", lineterminator=terminator)
            writer.writerow(["image", "caption"])
            writer.writerows(["0.png", caption] for caption in captions)
        source = Opener(f"captions:{folder / name}", note=str)("train")
        assert rows(source)[0][0] == [caption.strip() for caption in captions]


def test_commas_that_nobody_quoted_stay_in_the_caption(folder):
    assert rows(opened(folder, "image,caption\n0.png,a dog, a cat, a bird\n")[0]("train"))[0][0] == [
        "a dog, a cat, a bird"
    ]


def test_quotes_in_the_middle_are_kept_as_they_are(folder):
    source = opened(folder, 'image,caption\n0.png,he said "hi" to me\n1.png,"Hi," he said\n')[0]("train")
    assert rows(source)[0][0] == ['he said "hi" to me']
    assert "he said" in rows(source)[1][0][0]


def test_a_quotation_mark_that_nobody_closed_costs_its_own_line_only(folder):
    text = 'image,caption\n0.png,"never closed\n1.png,b\n2.png,c\n'
    refused(folder, text, r"table.csv, line 2: ")
    opener, notes = opened(folder, text, on_error="skip")
    assert rows(opener("all")) == {1: (["b"], -1), 2: (["c"], -1)}
    assert "passed over 1 lines, the first: line 2" in notes[0]


def test_byte_order_mark_and_names_of_columns(folder):
    for header in ("\ufeffimage,caption", "File_Name,TITLE", " path , text "):
        assert rows(opened(folder, f"{header}\n0.png,x\n")[0]("train")) == {0: (["x"], -1)}
    mark = opened(folder, '\ufeff{"image": "0.png", "caption": "x"}\n', "t.jsonl")[0]("train")
    assert rows(mark) == {0: (["x"], -1)}


def test_of_two_columns_that_could_be_it_the_usual_name_counts(folder):
    text = "path,image,text,caption\nnowhere.png,0.png,wrong,right\n"
    assert rows(opened(folder, text)[0]("train")) == {0: (["right"], -1)}


def test_columns_nobody_knows_are_passed_over(folder):
    assert rows(opened(folder, "id,image,url,caption\n7,0.png,http://x,words\n")[0]("train")) == {0: (["words"], -1)}


def test_json_lines(folder):
    lines = [
        {"image": "0.png", "captions": ["a", "b"], "labels": [2, 0]},
        {"file_name": "3.png", "text": "c", "labels": [1], "other": None},
    ]
    source = opened(folder, "\n\n".join(map(json.dumps, lines)), "t.jsonl")[0]("train")
    assert rows(source) == {0: (["a", "b"], [1, 0, 1]), 3: (["c"], [0, 1, 0])}
    assert source.class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        (("dog", "cat"), ("cat", "dog"), [1, 0]),
        (("10", "9"), tuple(map(str, range(11))), [10, 9]),
        (("007", "1"), tuple(map(str, range(8))), [7, 1]),
        (("10", "a"), ("10", "a"), [0, 1]),
    ],
)
def test_labels_are_words_or_numbers(folder, labels, names, numbers):
    source = opened(folder, f"image,label\n0.png,{labels[0]}\n1.png, {labels[1]} \n")[0]("train")
    assert source.class_names == names
    assert source.labels().tolist() == numbers
    assert source.labels().dtype == np.int32


def test_several_labels_of_an_image(folder):
    source = opened(folder, "image,labels\n0.png,sky|sea\n1.png,sea\n2.png,sky\n2.png,sand\n")[0]("train")
    assert source.class_names == ("sand", "sea", "sky")
    assert {n: row[1] for n, row in rows(source).items()} == {0: [0, 1, 1], 1: [0, 1, 0], 2: [1, 0, 1]}


def test_split_column(folder):
    opener, _ = opened(folder, "image,label,split\n0.png,a,train\n1.png,b,val\n2.png,a,\n3.png,b, test \n")
    assert [sorted(rows(opener(split))) for split in ("train", "val", "test", None)] == [[0, 2], [1], [3], [1]]
    assert opener("val").labels().tolist() == [1], "the classes are those of all splits"


def test_an_image_in_two_splits_is_named(folder):
    text = "image,caption,split\n0.png,a,train\n0.png,b,test\n"
    refused(folder, text, r"line 3: 0.png is in split test, and above in train")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("image,caption\n0.png,a\nnone.png,b\n", r"table.csv, line 3: there is no image none.png"),
        ("image,caption\n0.png,a\n1.png\n", r"table.csv, line 3: 1 columns instead of 2"),
        (b"image,caption\n0.png,a\n1.png,\xff\xfe\n", r"table.csv, line 3: broken UTF-8 at byte 6"),
        ("image,caption\n0.png,a\n,b\n", r"table.csv, line 3: it names no image"),
        (f"image,caption\n0.png,a\n{'x' * 5000}.png,b\n", r"table.csv, line 3: there is no image x"),
        ('image,caption\n0.png,a\n"a\nb.png",b\n', r"table.csv, line 3: there is no image a\\nb.png"),
        ("image,caption\n0.png,a\n1\0.png,b\n", r"table.csv, line 3: there is no image 1\\x00.png"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_or_counted(folder, text, match):
    refused(folder, text, match)
    opener, notes = opened(folder, text, on_error="skip")
    assert rows(opener("all")) == {0: (["a"], -1)}
    assert "passed over 1 lines, the first: line 3" in notes[0]


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("{", "line 2: no JSON"),
        ("[]", "line 2: no JSON object"),
        ("[" * 100000, "line 2: no JSON"),
        ('{"caption": "x"}', "line 2: it names no image"),
        ('{"image": 3}', "line 2: it names no image"),
        ('{"image": "\\ud800.png"}', "line 2: there is no image"),
        ('{"image": "1.png", "caption": 5}', "line 2: a caption is no text"),
        ('{"image": "1.png", "captions": ["a", null]}', "line 2: a caption is no text"),
        ('{"image": "1.png", "caption": "a", "label": 1.5}', "line 2: a label is neither"),
    ],
)
def test_a_json_line_that_cannot_be_used(folder, line, match):
    text = '{"image": "0.png", "caption": "a"}\n' + line
    refused(folder, text, f"t.jsonl, {match}", name="t.jsonl")
    opener, notes = opened(folder, text, "t.jsonl", on_error="skip")
    assert rows(opener("all")) == {0: (["a"], -1)}
    assert "passed over 1 lines" in notes[0]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "names no column image"),
        ("imge,caption\n0.png,x\n", "names no column image; did you mean 'image'"),
        ("0.png,a dog\n1.png,b\n", "names no column image"),
        ("image,caption\n", "names no images"),
        ("image,caption\n0.png,a\n1.png,\n", "1 of 2 images have no caption, the first is 1.png"),
        ("image,label\n0.png,a\n1.png,\n", "1 of 2 images have no label, the first is 1.png"),
        ("image,label\n0.png,5000000000\n", "label 5000000000, classes reach"),
        (f"image,label\n0.png,{'9' * 6000}\n", "label 9+\\.\\.\\., classes reach"),
        (b"\xff\xfe\n0.png,a\n", "line 1: broken UTF-8"),
    ],
)
def test_a_table_that_cannot_be_used(folder, text, match):
    refused(folder, text, match)


def test_a_table_that_is_not_there(folder):
    for name in ("gone.csv", "images"):
        with pytest.raises(UserError, match=f"{name} cannot be read"):
            Opener(f"captions:{folder / name}")("train")


def test_packed_captions_come_back():
    captions = [["a", "b" * 600], ["", "ü" * 300, "c"]]
    packed = pack(captions)
    assert packed["caption"].shape == (2, 3, 512)
    assert packed["num_captions"].tolist() == [2, 3]
    assert [unpack(line) for line in packed["caption"][0]] == ["a", "b" * 512, ""]
    assert unpack(packed["caption"][1, 1]) == "ü" * 256
    cut = pack([["xü" * 200]])["caption"]
    assert unpack(cut[0, 0]) == "xü" * 170 + "x", "cut between two characters: 171 x and 170 ü are 511 bytes"


@pytest.mark.data
def test_flickr8k_has_five_captions_an_image():
    from conftest import REPOSITORY

    table = REPOSITORY.parent / "shared" / "data" / "flickr8k_1000" / "captions.txt"
    if not table.is_file():
        pytest.skip("there is no folder flickr8k_1000 of development data beside the repository")
    source = Opener(f"captions:{table}", note=str)("all")
    with open(table, newline="", encoding="utf-8") as handle:
        expected = [(row["image"], row["caption"].strip()) for row in csv.DictReader(handle)]
    found = []
    for index, example in enumerate(source.read(range(len(source)))):
        name = source.where(index).rpartition("/")[2]
        found += [(name, unpack(line)) for line in example["caption"][: example["num_captions"]]]
    assert len(source) == 1000
    assert len(found) == 5000
    assert sorted(found) == sorted(expected)
