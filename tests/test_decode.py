"""Images of every format come out as pixels that a closed form or Pillow's own documentation gives, or as an error."""

import struct
import threading
import time
import warnings
import zlib

import numpy as np
import pytest
from images import encode, lossless, lossy, noise, over_white, smooth, with_orientation
from PIL import Image, ImageOps

from vision.data.decode import DecodeError, decode, image_size, is_grey

LOSSLESS, LOSSY = lossless(), lossy()
DECODERS = ("pillow", "opencv")
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


def difference(one, other):
    assert one.shape == other.shape
    return np.abs(one.astype(float) - other).max()


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_pixels_are_kept(name, decoder):
    """Alpha over white is off by the rounding of one level, all else exact."""
    case = LOSSLESS[name]
    pixels = decode(case.encoded, decoder=decoder)
    assert pixels.dtype == np.uint8
    assert image_size(case.encoded) == case.pixels.shape[:2]
    assert difference(pixels, case.pixels) <= case.bound


@pytest.mark.parametrize("name", LOSSLESS)
def test_channels_are_what_was_asked_for(name):
    """Grey to colour repeats it; colour to grey is ITU-R 601-2 luma, as Pillow documents for its mode L."""
    encoded = LOSSLESS[name].encoded
    own = decode(encoded)
    grey, colour = decode(encoded, channels=1), decode(encoded, channels=3)
    assert (grey.shape[2], colour.shape[2]) == (1, 3)
    if own.shape[2] == 1:
        np.testing.assert_array_equal(grey, own)
        np.testing.assert_array_equal(colour, np.repeat(own, 3, axis=2))
    else:
        np.testing.assert_array_equal(colour, own)
        assert difference(grey[..., 0], own @ np.array([299, 587, 114]) / 1000) < 0.52
    assert is_grey(encoded) == (own.shape[2] == 1)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", LOSSY)
def test_lossy_pixels_are_near(name, decoder):
    """Chroma at half resolution and quality 95 cost at most 9 levels of this smooth picture, 12 in AVIF."""
    original = smooth(24, 36, 1)[..., None] if "grey" in name else smooth(24, 36)
    assert difference(decode(LOSSY[name], decoder=decoder), original) <= 12


def test_16_bit_colours_keep_their_high_byte():
    deep = np.random.default_rng(0).integers(0, 65536, (4, 5, 3)).astype(np.uint16)
    encoded = _png(5, 4, 16, 2, deep.astype(">u2").tobytes(), 30)
    np.testing.assert_array_equal(decode(encoded), deep >> 8)


def test_every_16_bit_level_is_divided_by_257_and_rounded():
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(decode(encode(levels))[..., 0], np.rint(levels / 257))


def test_16_bit_grey_with_a_clear_level():
    deep = np.array([[0, 1000, 65535, 257]], np.uint16)
    encoded = _png(4, 1, 16, 0, deep.astype(">u2").tobytes(), 8, transparency=struct.pack(">H", 1000))
    np.testing.assert_array_equal(decode(encoded)[0, :, 0], [0, 255, 255, 1])


def test_adobe_writes_cmyk_inverted():
    """Pillow writes and reads CMYK as Adobe does; the naive formula is (1 - c)(1 - k)."""
    ink = noise(8, 8, 3) // 4 + 100
    cmyk = Image.fromarray(np.dstack([ink, np.full((8, 8), 30, np.uint8)]), "CMYK")
    expected = (255 - ink.astype(float)) * (255 - 30) / 255
    assert difference(decode(encode(cmyk, "TIFF")), expected) <= 1


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_a_camera_is_applied(orientation, decoder):
    """A JPEG turned by us is that of Pillow's ImageOps, and the closed form of the picture that was not turned."""
    image = smooth(16, 24)
    encoded = with_orientation(image, orientation, quality=95)
    pixels = decode(encoded, decoder=decoder)
    plain = decode(encode(image, "JPEG", quality=95), decoder=decoder)
    np.testing.assert_array_equal(pixels, TURNS[orientation](plain))
    import io

    with Image.open(io.BytesIO(encoded)) as opened:
        assert difference(pixels, np.asarray(ImageOps.exif_transpose(opened))) <= 1
    assert image_size(encoded) == pixels.shape[:2]
    reduced = decode(encoded, decoder=decoder, at_least=(pixels.shape[0] // 2, pixels.shape[1] // 2))
    assert reduced.shape[:2] == (pixels.shape[0] // 2, pixels.shape[1] // 2)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_in_other_formats(orientation, kind):
    options = {} if kind in ("PNG", "TIFF") else {"quality": 100} if kind == "AVIF" else {"lossless": True}
    image = smooth(16, 24)
    encoded = with_orientation(image, orientation, kind, **options)
    plain = decode(encode(image, kind, **options))
    assert difference(decode(encoded), TURNS[orientation](plain)) == 0
    assert image_size(encoded) == decode(encoded).shape[:2]


@pytest.mark.parametrize("decoder", DECODERS)
def test_orientation_that_is_none_is_passed_over(decoder):
    image = smooth(16, 24)
    for value in (0, 9, 65535):
        assert decode(with_orientation(image, value), decoder=decoder).shape == (16, 24, 3)


def test_an_orientation_in_xmp_alone_turns_neither():
    """OpenCV knows EXIF only; both must agree, so XMP counts for nothing."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r xmlns:tiff="t" tiff:Orientation="6"/></x:xmpmeta>'
    encoded = encode(smooth(16, 24), "JPEG", xmp=xmp)
    assert {decode(encoded, decoder=each).shape for each in DECODERS} == {(16, 24, 3)}
    assert image_size(encoded) == (16, 24)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_opencv_and_pillow_agree_on_jpeg(subsampling, channels):
    """Both call libjpeg-turbo: not a level of difference, even on noise, at full and at reduced size."""
    for quality, at_least in ((30, (0, 0)), (75, (22, 30)), (95, (5, 7))):
        encoded = encode(noise(45, 61), "JPEG", quality=quality, subsampling=subsampling)
        one, other = (decode(encoded, decoder=each, channels=channels, at_least=at_least) for each in DECODERS)
        assert difference(one, other) == 0


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    ("size", "at_least", "expected"),
    [
        ((64, 96), (0, 0), (64, 96)),
        ((64, 96), (32, 48), (32, 48)),
        ((64, 96), (33, 48), (64, 96)),
        ((64, 96), (9, 9), (16, 24)),
        ((64, 96), (1, 1), (8, 12)),
        ((65, 97), (32, 48), (33, 49)),
        ((65, 97), (33, 49), (65, 97)),
        ((1, 1), (1, 1), (1, 1)),
        ((300, 5), (2, 2), (150, 3)),
    ],
)
def test_reduced_size_is_never_below_what_is_needed(size, at_least, expected, decoder):
    """libjpeg rounds the sides of a reduced image up; (65, 97) could give (33, 49), but half of it is not promised."""
    pixels = decode(encode(smooth(*size), "JPEG"), at_least=at_least, decoder=decoder)
    assert pixels.shape[:2] == expected
    assert all(got >= least for got, least in zip(pixels.shape, at_least, strict=False))


@pytest.mark.parametrize("decoder", DECODERS)
def test_reduced_image_shows_the_same(decoder):
    """Half the size is the average of 2x2 pixels, within 3 levels of a smooth picture."""
    image = smooth(64, 96)
    half = decode(encode(image, "JPEG", quality=95), at_least=(32, 48), decoder=decoder)
    assert difference(half, image.reshape(32, 2, 48, 2, 3).mean((1, 3))) <= 3


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_truncated_jpeg_is_an_error(keep, progressive, decoder):
    whole = encode(noise(64, 64), "JPEG", progressive=progressive)
    with pytest.raises(DecodeError):
        decode(whole[: int(len(whole) * keep)], decoder=decoder)


@pytest.mark.parametrize("name", [*LOSSLESS, *LOSSY])
def test_first_half_of_a_file_is_an_error(name):
    """An animated GIF is not among them: its first frame is whole."""
    encoded = {**{key: case.encoded for key, case in LOSSLESS.items()}, **LOSSY}[name]
    if name in ("animated GIF", "MPO"):
        pytest.skip("the first of its two images is whole")
    with pytest.raises(DecodeError):
        decode(encoded[: len(encoded) // 2])


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xd9",
        b"hello",
        b"<svg/>",
        b"GIF89a",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF",
        b"BM",
    ],
)
def test_what_is_no_image_is_an_error(content, decoder):
    with pytest.raises(DecodeError) as caught:
        decode(content, decoder=decoder)
    assert "\n" not in str(caught.value)
    assert str(caught.value)


def test_formats_that_start_programs_are_not_read():
    """Pillow hands PostScript to Ghostscript; a photograph never comes so."""
    with pytest.raises(DecodeError, match="no image"):
        image_size(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")


def test_floating_point_pixels_have_no_known_scale():
    with pytest.raises(DecodeError, match="floating-point"):
        decode(encode(Image.fromarray(np.ones((3, 3), np.float32)), "TIFF"))


def test_integers_beyond_16_bits_are_an_error():
    with pytest.raises(DecodeError, match="16 bits"):
        decode(encode(np.full((3, 3), 70000, np.int32), "TIFF"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_one_pixel(kind):
    pixels = decode(encode(Image.new("RGB", (1, 1), (255, 255, 255)), kind))
    np.testing.assert_array_equal(pixels, np.full((1, 1, pixels.shape[2]), 255))


@pytest.mark.parametrize("shape", [(20000, 3), (3, 20000)])
def test_long_and_thin(shape):
    image = noise(*shape, 1)
    np.testing.assert_array_equal(decode(encode(image))[..., 0], image)


def test_huge_image_decodes_in_seconds():
    """20,000 x 20,000 pixels of one bit, 400 MB as levels; without further copies than Pillow's own."""
    start = time.monotonic()
    encoded = encode(Image.new("1", (20000, 20000), 1))
    pixels = decode(encoded)
    assert pixels.shape == (20000, 20000, 1)
    assert pixels[0, 0, 0] == pixels[-1, -1, 0] == 255
    assert time.monotonic() - start < 60


@pytest.mark.parametrize(("width", "height"), [(2**20, 2**20), (2**31 - 1, 1), (30000, 20000)])
def test_header_that_promises_too_much_is_refused_at_once(width, height):
    start = time.monotonic()
    with pytest.raises(DecodeError, match="more than"):
        decode(_png(width, height, 8, 0, b"\0", 1))
    assert time.monotonic() - start < 1


def test_warnings_of_metadata_do_not_leak_between_threads():
    """Overlapping ``catch_warnings`` of two threads would leave "ignore all" behind, or refuse a good image."""
    odd = encode(smooth(8, 8), "TIFF", tiffinfo={270: "x"})
    odd = odd.replace(struct.pack("<HHI", 270, 2, 2), struct.pack("<HHI", 270, 2, 999999))
    failures = []

    def many():
        for _ in range(200):
            try:
                decode(odd)
            except DecodeError as error:
                failures.append(error)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning):
            Image.open(__import__("io").BytesIO(odd)).load()
        before = list(warnings.filters)
        threads = [threading.Thread(target=many) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert list(warnings.filters) == before
    assert not failures


def test_alpha_formula_is_that_of_over_white():
    """The helper itself, at its ends: clear is white, opaque is the colour."""
    colour = noise(2, 2)
    assert (over_white(colour, np.zeros((2, 2), np.uint8)) == 255).all()
    assert (over_white(colour, np.full((2, 2), 255, np.uint8)) == colour).all()


def _png(width, height, depth, kind, rows, row_bytes, transparency=None):
    """A PNG by its specification (RFC 2083), for what Pillow does not write."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    raw = b"".join(b"\0" + rows[start : start + row_bytes] for start in range(0, len(rows), row_bytes))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    clear = chunk(b"tRNS", transparency) if transparency else b""
    return b"\x89PNG\r\n\x1a\n" + head + clear + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
