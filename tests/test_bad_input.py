"""What people put into a data set by mistake is handled as they would expect, or named in one line with its path."""

import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import child_environment
from images import encode, noise, smooth, with_orientation
from PIL import Image

from vision.data.host import HostPart
from vision.data.loader import Chunks
from vision.data.materialize import materialize, usable
from vision.data.order import Shuffled
from vision.data.sources import Opener
from vision.errors import UserError

GREY = np.full((12, 12), 90, np.uint8)
COLOUR = np.full((12, 12, 3), (200, 100, 50), np.uint8)
CLEAR = np.dstack([COLOUR, np.full((12, 12), 51, np.uint8)])
HANDLED = {
    "grey.png": (encode(GREY), (90, 90, 90)),
    "colour.png": (encode(COLOUR), (200, 100, 50)),
    "palette.png": (encode(Image.fromarray(COLOUR).quantize(4)), (200, 100, 50)),
    "palette.gif": (encode(Image.fromarray(COLOUR).quantize(4), "GIF"), (200, 100, 50)),
    "alpha.png": (encode(CLEAR), (244, 224, 214)),
    "clear.png": (encode(np.zeros((12, 12, 4), np.uint8)), (255, 255, 255)),
    "deep.png": (encode(np.full((12, 12), 257 * 90, np.uint16)), (90, 90, 90)),
    "deep.tif": (encode(np.full((12, 12), 257 * 90, np.uint16), "TIFF"), (90, 90, 90)),
    "bits.png": (encode(Image.new("1", (12, 12), 1)), (255, 255, 255)),
    "pixel.png": (encode(COLOUR[:1, :1]), (200, 100, 50)),
    "line.png": (encode(COLOUR[:1].repeat(900, 1)), (200, 100, 50)),
    "cmyk.jpg": (encode(Image.new("CMYK", (12, 12), (0, 0, 0, 255)), "JPEG", quality=95), (0, 0, 0)),
    "long.png": (encode(np.zeros((20000, 3), np.uint8) + np.uint8(90)), (90, 90, 90)),
    "named.png": (encode(COLOUR, "BMP"), (200, 100, 50)),
}
BROKEN = {
    "empty.jpg": b"",
    "cut.jpg": encode(noise(40, 40), "JPEG")[:500],
    "cut.png": encode(noise(40, 40))[:500],
    "text.jpg": b"<html>404 Not Found</html>",
    "float.tif": encode(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"),
    "promise.png": encode(GREY)[:16] + b"\0\1\0\0\0\1\0\0" + encode(GREY)[24:],
}
PART = HostPart((12, 12), 3)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def folder_of(tmp_path, *files):
    for name, content in files:
        path = tmp_path / "data" / "class" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return Opener(f"folder:{tmp_path / 'data'}", note=str)("all")


@pytest.mark.parametrize("decoder", ["pillow", "opencv"])
@pytest.mark.parametrize("name", HANDLED)
def test_odd_images_look_as_people_expect(tmp_path, name, decoder):
    """CMYK black and alpha over white come out within a level, all else exactly."""
    encoded, expected = HANDLED[name]
    source = folder_of(tmp_path, (name, encoded))
    image = materialize(source, HostPart((12, 12), 3, decoder=decoder)).arrays["image"][0]
    assert np.abs(image.astype(int) - expected).max() <= (1 if "cmyk" in name or "alpha" in name else 0)


@pytest.mark.parametrize("decoder", ["pillow", "opencv"])
def test_a_photograph_that_lies_on_its_side_is_put_upright(tmp_path, decoder):
    image = smooth(24, 24)
    source = folder_of(tmp_path, ("a.jpg", with_orientation(np.rot90(image), 6, quality=95)))
    found = materialize(source, HostPart((24, 24), 3, decoder=decoder)).arrays["image"][0]
    assert np.abs(found.astype(int) - image).max() <= 8, "what compression costs"
    assert np.abs(found.astype(int) - np.rot90(image)).max() > 30


@pytest.mark.parametrize("decoder", ["pillow", "opencv"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_image_is_named_in_one_line(tmp_path, name, decoder):
    source = folder_of(tmp_path, (name, BROKEN[name]))
    with pytest.raises(UserError, match=rf"data/class/{name}: the image does not decode: ..*on_error=skip") as caught:
        materialize(source, HostPart((12, 12), 3, decoder=decoder))
    assert "\n" not in str(caught.value)


def test_with_skip_a_run_goes_on_without_them_and_batches_stay_the_same(tmp_path):
    """Which images there are is settled before the first batch: by looking at all, never by what a batch meets."""
    good = [(f"{n:02d}.png", encode(np.full((12, 12, 3), 10 * n, np.uint8))) for n in range(20)]
    source = folder_of(tmp_path, *good, *BROKEN.items())
    notes = []
    left = usable(source, PART, "skip", notes.append)
    assert len(left) == 20
    assert f"skipped {len(BROKEN)} of {20 + len(BROKEN)} images" in notes[0]
    first = Chunks(left, PART, Shuffled(20, 8, 0), np.arange(8))
    again = Chunks(usable(source, PART, "skip", str), PART, Shuffled(20, 8, 0), np.arange(8))
    for step in (3, 1, 2):
        np.testing.assert_array_equal(first(step)["image"], again(step)["image"])
    alone = folder_of(tmp_path / "alone", *good)
    np.testing.assert_array_equal(materialize(alone, PART).arrays["image"], materialize(left, PART).arrays["image"])


def test_a_host_piece_with_a_broken_image_says_which(tmp_path):
    source = folder_of(tmp_path, ("a.png", encode(COLOUR)), ("b.png", b"x"))
    piece = Chunks(source, PART, Shuffled(2, 2, 0), np.arange(2))(0)
    assert "b.png: the image does not decode" in bytes(piece["error"]).decode()


def test_a_huge_image_is_brought_to_size(tmp_path):
    """20,000 x 20,000 grey pixels, in seconds and within the memory that the pixels themselves take, three times."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "huge.png").write_bytes(encode(Image.new("L", (20000, 20000), 90)))
    code = (
        "from vision.data.host import HostPart; from vision.data.materialize import materialize;"
        "from vision.data.sources import Opener;"
        f"image = materialize(Opener('folder:{tmp_path / 'data'}')('all'), HostPart((32, 32), 1)).arrays['image'];"
        "assert (image == 90).all() and image.shape == (1, 32, 32, 1);"
        # getrusage would tell the peak of the process that started this one, where that is higher.
        "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], env=child_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - start < 60
    assert int(done.stdout) < 2**21, "KiB: 2 GiB for an image of 0.4"


@pytest.mark.parametrize(
    "name", ["folder:{}/none", "captions:{}/none.csv", "tar:{}/none-*.tar", "npz:{}/none.npz", "{}/none"]
)
def test_what_is_not_there_is_named(tmp_path, name):
    with pytest.raises(UserError, match="none") as caught:
        Opener(name.format(tmp_path), data_dir=str(tmp_path))("train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("", "no data set's name|not prepared"),
        ("foldre:/x", "unknown kind 'foldre'; did you mean 'folder'"),
        ("mixture:digits", "NAME=WEIGHT"),
        ("mixture:digits=1,nothing=1", "'nothing' is not prepared"),
        ("../digits", "no data set's name|is a path"),
        ("digits:9.9.9", "not prepared"),
    ],
)
def test_names_that_are_none(name, match):
    with pytest.raises(UserError, match=match) as caught:
        Opener(name)("train")
    assert "\n" not in str(caught.value)


def test_notes_go_to_standard_error(tmp_path, capsys):
    folder_of(tmp_path, ("a.png", encode(COLOUR)))
    Opener(f"folder:{tmp_path / 'data'}")("all")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("data: ")
    assert all(line.startswith("data: ") for line in err.splitlines())
