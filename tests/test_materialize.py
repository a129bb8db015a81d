"""Decoding a split once: what does not decode is named, or left out with a count; batches are the same either way."""

import json

import numpy as np
import pytest
from images import encode, noise, smooth

from vision.data.decode import decode
from vision.data.host import HostPart, probe
from vision.data.loader import Chunks
from vision.data.materialize import materialize, usable
from vision.data.order import Shuffled
from vision.data.records import Files
from vision.data.source import ArraySource, Subset
from vision.data.sources import Opener
from vision.data.sources.mixture import Mixture
from vision.errors import UserError

BROKEN = (3, 7, 8, 20, 33)
PART = HostPart((6, 5), 3, seed=4)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "functional-vision" / "usable"


@pytest.fixture
def source(tmp_path):
    """Forty images of as many levels, five of which are cut; the label is the level's parity."""
    root = tmp_path / "data"
    for n in range(40):
        folder = root / ("odd" if n % 2 else "even")
        folder.mkdir(parents=True, exist_ok=True)
        whole = encode(np.full((8, 7, 3), 3 * n, np.uint8))
        (folder / f"{n:02d}.png").write_bytes(whole[: 20 if n in BROKEN else None])
    return Opener(f"folder:{root}", note=str)._whole("folder", str(root))[0]


def numbers(source):
    return [int(source.where(index)[-6:-4]) for index in range(len(source))]


def test_materialized_images_are_those_that_were_decoded(tmp_path):
    images = [noise(6, 5, seed=n) for n in range(600)]  # more than two chunks
    for n, image in enumerate(images):
        (tmp_path / f"{n:03d}.png").write_bytes(encode(image))
    source = Opener(f"folder:{tmp_path}", note=str)._whole("folder", str(tmp_path))[0]
    np.testing.assert_array_equal(materialize(source, PART).arrays["image"], images)


def test_with_error_the_first_broken_image_is_named(source):
    assert usable(source, PART, "error", str) is source
    with pytest.raises(UserError, match=r"\d\d.png: the image does not decode: .*on_error=skip") as caught:
        materialize(source, PART)
    assert "\n" not in str(caught.value)


def test_skipped_images_are_counted_and_named(source):
    notes = []
    good = usable(source, PART, "skip", notes.append)
    assert sorted(numbers(good)) == [n for n in range(40) if n not in BROKEN]
    assert len(notes) == 1
    assert "skipped 5 of 40 images that do not decode: " in notes[0]
    assert notes[0].count(".png: ") == 3
    assert notes[0].endswith("; ...")
    assert "\n" not in notes[0]


@pytest.mark.parametrize("decoder", ["pillow", "opencv"])
def test_batches_are_the_same_from_memory_and_from_the_host(source, decoder):
    part = HostPart((6, 5), 3, decoder=decoder)
    good = usable(source, part, "skip", str)
    order = Shuffled(len(good), 16, seed=2)
    held = materialize(good, part).arrays
    chunks = Chunks(good, part, order, np.arange(16))
    for step in (5, 0, 2):
        index = order.rows(step).index
        assert chunks.parts == 1
        columns = chunks(step)
        np.testing.assert_array_equal(columns["image"], held["image"][index])
        np.testing.assert_array_equal(columns["label"], held["label"][index])
        levels = [3 * numbers(good)[i] for i in index]
        assert columns["image"][:, 0, 0, 0].tolist() == levels
        assert columns["label"].tolist() == [(level // 3) % 2 for level in levels]


def test_the_answer_is_remembered(source, cache):
    first = usable(source, PART, "skip", str)
    (memory,) = cache.iterdir()
    assert sorted(index for index, _ in json.loads(memory.read_text())) == sorted(
        i for i, n in enumerate(numbers(source)) if n in BROKEN
    )
    memory.write_text(json.dumps([[0, "said by the file"]]))
    notes = []
    again = usable(source, PART, "skip", notes.append)
    assert len(again) == 39
    assert "said by the file" in notes[0]
    other = usable(source, HostPart((6, 5), 3, decoder="pillow"), "skip", str)
    assert numbers(other) == numbers(first), "another decoder is asked anew"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[1]",
        b'[["x", "y"]]',
        b"\xff",
        b'[[99, "far"]]',
        b'[[-1, "x"]]',
        b"[" * 10**5,
        b'{"ab": 1}',
    ],
)
def test_a_broken_memory_is_passed_over(source, cache, content):
    first = numbers(usable(source, PART, "skip", str))
    (memory,) = cache.iterdir()
    memory.write_bytes(content)
    assert numbers(usable(source, PART, "skip", str)) == first
    assert len(json.loads(memory.read_bytes())) == 5, "and is mended"


def test_a_cache_that_cannot_be_written_is_done_without(source, cache):
    cache.parent.parent.mkdir()
    cache.parent.write_text("")
    assert len(usable(source, PART, "skip", str)) == 35


def test_changed_images_are_looked_at_anew(source):
    assert len(usable(source, PART, "skip", str)) == 35
    mended = next(path for path in source.images.paths if path.name == "03.png")
    mended.write_bytes(encode(np.zeros((8, 7, 3), np.uint8)))
    del source.__dict__["fingerprint"]  # as in another run
    assert len(usable(source, PART, "skip", str)) == 36


def test_nothing_that_decodes_is_an_error(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").write_bytes(b"x")
    source = Opener(f"folder:{tmp_path}", note=str)("all")
    with pytest.raises(UserError, match=r"none of 1 images decodes, the first: .*0.png") as caught:
        usable(source, PART, "skip", str)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="none of 1 images decodes"):
        probe(source)


def test_what_is_whole_is_returned_as_it_is(source):
    whole = Subset(source, np.array([i for i, n in enumerate(numbers(source)) if n not in BROKEN]))
    notes = []
    assert usable(whole, PART, "skip", notes.append) is whole
    arrays = ArraySource({"image": np.zeros((1, 2, 2, 3), np.uint8)}, 0)
    assert usable(arrays, PART, "skip", notes.append) is arrays
    assert not notes


def test_parts_of_a_mixture_lose_their_own(source):
    mixed = usable(Mixture((source, source), (1.0, 2.0)), PART, "skip", str)
    assert [len(each) for each in mixed.sources] == [35, 35]
    assert mixed.weights == (1.0, 2.0)
    assert [len(group) for group in mixed.groups] == [35, 35]


@pytest.mark.parametrize("decoder", ["pillow", "opencv"])
def test_a_random_crop_of_a_reduced_jpeg_is_that_of_the_whole(decoder):
    """A part as large as twice the output comes from half the pixels: on a smooth picture within 6 levels."""
    part = HostPart((16, 16), 3, {"name": "random_resized", "scale": (0.5, 1.0)}, decoder=decoder)
    image = smooth(200, 300)
    encoded = encode(image, "JPEG", quality=95)
    for visit in range(5):
        reduced = part(encoded, visit=visit, index=7)
        full = part(decode(encoded), visit=visit, index=7)
        assert np.abs(reduced.astype(int) - full).max() <= 6
    assert not np.array_equal(part(encoded, visit=0, index=7), part(encoded, visit=1, index=7))
    np.testing.assert_array_equal(part(encoded, visit=3, index=7), part(encoded, visit=3, index=7))


def test_arrays_and_encoded_images_are_treated_alike():
    for channels in (1, 3):
        for own in (1, 3):
            image = noise(12, 9, own)
            part = HostPart((5, 5), channels, {"name": "center", "fraction": 0.9}, decoder="pillow")
            array = image if own == 3 else image[..., None]
            np.testing.assert_array_equal(part(array, visit=0, index=0), part(encode(image), visit=0, index=0))


def test_probe_tells_sizes_and_colour(tmp_path):
    for n, (height, width, channels) in enumerate([(4, 6, 1), (8, 5, 3), (10, 10, 1)]):
        (tmp_path / f"{n}.png").write_bytes(encode(noise(height, width, channels)))
    (tmp_path / "9.png").write_bytes(b"broken")
    found = probe(Opener(f"folder:{tmp_path}", note=str)("all"))
    assert found == (None, 5, (4, 5), (10, 10), 3)


def test_trouble_in_reading_is_no_broken_image(source, monkeypatch, cache):
    """What passes, such as too many open files, must neither be skipped nor remembered."""

    def no_more_files(images, index):
        raise OSError(24, "Too many open files", str(images.paths[index]))

    with monkeypatch.context() as patch:
        patch.setattr(Files, "read", no_more_files)
        for attempt in (lambda: usable(source, PART, "skip", str), lambda: materialize(source, PART)):
            with pytest.raises(UserError, match=r"\d\d.png cannot be read: Too many open files"):
                attempt()
    assert not list(cache.glob("*"))
    assert len(usable(source, PART, "skip", str)) == 40 - len(BROKEN)


def test_want_of_memory_is_no_broken_image(source, monkeypatch, cache):
    def no_memory(image, channels):
        raise MemoryError

    monkeypatch.setattr("vision.data.decode._as_array", no_memory)
    with pytest.raises(UserError, match=r"\d\d.png: not enough memory to decode it"):
        usable(source, PART, "skip", str)
    assert not list(cache.glob("*"))
