"""A file that is cut short, altered or no weight file at all is one sentence, and costs no memory."""

import json
import struct
import sys
import tracemalloc
import types

import ml_dtypes
import numpy as np
import pytest
from images import encode
from refusals import refused

from vision.errors import UserError
from vision.interop.files import read_weights
from vision.interop.tensors import read_safetensors, write_safetensors

ARRAYS = {
    "a.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b.bias": np.linspace(-1, 1, 5).astype(ml_dtypes.bfloat16),
    "half": np.float16([1.5, 2]),
    "double": np.float64([1 / 3]),
    "count": np.array(7),
    "none": np.zeros((0, 3), np.float32),
}


def header(entries, body=b""):
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + body


def entry(dtype="F32", shape=(2,), end=8):
    return {"x": {"dtype": dtype, "shape": list(shape), "data_offsets": [0, end]}}


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.safetensors"
    write_safetensors(path, ARRAYS, {"format": "pt"})
    return path


def test_every_type_comes_back_bit_for_bit(good):
    arrays, metadata = read_safetensors(good)
    assert metadata == {"format": "pt"}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        assert arrays[name].tobytes() == array.tobytes()


def test_an_array_that_is_not_contiguous_is_written_as_it_reads(tmp_path):
    """The library writes memory as it lies, which a transposed array is not."""
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    write_safetensors(tmp_path / "x.safetensors", {"x": array}, {})
    np.testing.assert_array_equal(read_safetensors(tmp_path / "x.safetensors")[0]["x"], array)


def test_a_file_cut_at_any_place_is_one_sentence(good):
    content = good.read_bytes()
    for length in [*range(1, 200, 7), *range(200, len(content), 41), len(content) - 1]:
        good.write_bytes(content[:length])
        refused(good, "get it again")
    good.write_bytes(content + b"more")
    refused(good, "it was cut short or altered")


def test_random_bytes_are_one_sentence(tmp_path):
    random = np.random.default_rng(0)
    for length in (1, 7, 8, 9, 100, 5000):
        for name in ("x.safetensors", "x.pth"):
            path = tmp_path / name
            path.write_bytes(b"\x01" + random.bytes(length))
            refused(path, str(path))


def test_a_header_with_changed_bytes_is_refused_or_read(good):
    """Whatever a flipped byte of the header makes of it, the answer is arrays or one sentence."""
    content = good.read_bytes()
    random = np.random.default_rng(1)
    end = 8 + struct.unpack("<Q", content[:8])[0]
    outcomes = set()
    for _ in range(300):
        altered = bytearray(content)
        altered[random.integers(8, end)] = random.integers(256)
        good.write_bytes(altered)
        try:
            read_weights(good)
            outcomes.add("read")
        except UserError as error:
            outcomes.add("several lines" if "\n" in str(error) else "refused")
    assert outcomes == {"read", "refused"}


@pytest.mark.slow
def test_thousands_of_broken_files_are_arrays_or_one_sentence_each(good, tmp_path):
    """Bytes changed, cut out, doubled and cut off, anywhere; nothing else escapes, and memory stays near the file's."""
    content = good.read_bytes()
    random = np.random.default_rng(2)
    outcomes = {"read": 0, "refused": 0}
    path = tmp_path / "x.safetensors"
    tracemalloc.start()
    for _ in range(5000):
        altered = bytearray(content)
        for _ in range(random.integers(1, 4)):
            at = random.integers(len(altered) + 1)
            kind = random.integers(4)
            if kind == 0:
                altered[at : at + 1] = bytes([random.integers(256)])
            elif kind == 1:
                del altered[at : at + random.integers(1, 50)]
            elif kind == 2:
                altered[at:at] = altered[at : at + random.integers(1, 50)]
            else:
                del altered[max(at, 1) :]
        path.write_bytes(altered)
        try:
            read_weights(path)
            outcomes["read"] += 1
        except UserError as error:
            outcomes["refused" if "\n" not in str(error) else "several lines"] += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(outcomes, peak)
    assert min(outcomes.values()) > 20
    assert peak < 2**21


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 2**31) + b"{}",
        header(entry(shape=(2**40, 2**30)), b"\0" * 8),
        header(entry(shape=(2**33,), end=2**35), b"\0" * 8),
        header(entry(end=2**62), b"\0" * 8),
        header({"x": {}}, b"\0" * 8),
        header([1, 2], b"\0" * 8),
    ],
)
def test_a_header_that_claims_too_much_costs_no_memory(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    assert refused(path, "is no whole safetensors file") < 2**20


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F4", "C64", "U16"])
def test_types_that_are_no_weights_are_named(tmp_path, dtype):
    path = tmp_path / "x.safetensors"
    shape = {"F8_E4M3": 8, "F4": 16, "C64": 1, "U16": 4}[dtype]
    path.write_bytes(header(entry(dtype, (shape,)), b"\0" * 8))
    refused(path, f"x has type {dtype}")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "is empty"),
        (encode(np.zeros((4, 4, 3), np.uint8)), "a PNG image"),
        (encode(np.zeros((4, 4, 3), np.uint8), "JPEG"), "a JPEG image"),
        (b"<!doctype html><title>404</title>", "a failed download"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"\x93NUMPY\x01\x00", "a NumPy array"),
        (b"\x89HDF\r\n\x1a\n", "Keras"),
        (b'{"a": 1}', "a JSON file"),
        (b"hello, this is no file of weights", "no weight file"),
    ],
)
def test_another_kind_of_file_is_told_by_what_it_holds(tmp_path, content, part):
    for name in ("x.safetensors", "x.bin"):
        (tmp_path / name).write_bytes(content)
        if name == "x.bin" or part not in ("no weight file",):
            refused(tmp_path / name, part)
        else:
            refused(tmp_path / name, "is no whole safetensors file")


def test_what_is_not_there_is_named_with_its_neighbour(good):
    refused(good.with_name("god.safetensors"), "no such file", "good.safetensors")
    refused(good.parent / "none" / "x.safetensors", "no such file")


def test_a_file_without_rights_is_said(good, monkeypatch):
    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)
    refused(good, "cannot be read: Permission denied")


@pytest.fixture
def folder(tmp_path):
    """As Hugging Face lays it out, in two shards, beside a file that is none of its business."""
    write_safetensors(tmp_path / "secret.safetensors", {"a": np.ones(2, np.float32)}, {})
    tmp_path = tmp_path / "folder"
    write_safetensors(tmp_path / "model-1.safetensors", {"a": np.ones(2, np.float32)}, {})
    write_safetensors(tmp_path / "model-2.safetensors", {"b": np.zeros(3, np.float32)}, {})
    index(tmp_path, a="model-1.safetensors", b="model-2.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    return tmp_path


def index(folder, **names):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def test_a_folder_in_shards(folder):
    found = read_weights(folder)
    assert {name: array.shape for name, array in found.arrays.items()} == {"a": (2,), "b": (3,)}
    assert found.config == {"model_type": "vit"}
    assert set(found.files) == {"model-1.safetensors", "model-2.safetensors"}
    assert all(len(digest) == 64 for digest in found.files.values())


def test_a_folder_with_something_amiss(folder):
    index(folder, a="model-1.safetensors", b="model-3.safetensors")
    refused(folder, "model-3.safetensors, which is not in the folder")
    index(folder, a="../secret.safetensors")
    refused(folder, "../secret.safetensors, which is not in the folder")
    index(folder, a="model-1.safetensors", c="model-2.safetensors")
    refused(folder, "speaks of c, which model-2.safetensors does not hold")
    (folder / "model.safetensors.index.json").write_text("{}")
    refused(folder, "has no weight_map")
    (folder / "model.safetensors.index.json").write_text("{")
    refused(folder, "cannot be read")
    (folder / "model.safetensors.index.json").unlink()
    refused(folder, "holds 2 weight files (model-1.safetensors, model-2.safetensors); name one of them")
    (folder / "model-2.safetensors").unlink()
    assert set(read_weights(folder).arrays) == {"a"}
    (folder / "config.json").write_text("[1]")
    refused(folder, "config.json holds no JSON object")
    (folder / "model-1.safetensors").unlink()
    refused(folder, "holds no weights")
    (folder / "checkpoints").mkdir()
    refused(folder, "is a run or a converted checkpoint of this code")


def test_a_file_of_a_folder_keeps_its_config(folder):
    write_safetensors(folder / "model.safetensors", {"a": np.ones(2, np.float32)}, {})
    assert read_weights(folder / "model.safetensors").config == {"model_type": "vit"}
    assert read_weights(folder / "model-1.safetensors").config == {}


def test_an_empty_safetensors_file_holds_no_arrays(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(header({"__metadata__": {"format": "pt"}}))
    refused(tmp_path / "x.safetensors", "holds no arrays")


def fake_hub(monkeypatch, download):
    hub = types.ModuleType("huggingface_hub")
    hub.snapshot_download = download
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)


def test_a_name_of_the_hub(folder, monkeypatch):
    """Only weights and configs are asked for; what the client says of name or network is passed on in one line."""
    asked = []

    def download(repository, *, revision, allow_patterns):
        asked.append((repository, revision, allow_patterns))
        return str(folder)

    fake_hub(monkeypatch, download)
    assert set(read_weights("hf:timm/vit_tiny.augreg@main").arrays) == {"a", "b"}
    assert asked[0][:2] == ("timm/vit_tiny.augreg", "main")
    assert not any(pattern.endswith(("*", ".bin")) for pattern in asked[0][2])
    notes = []
    assert set(read_weights("timm/vit_tiny", note=notes.append).arrays) == {"a", "b"}
    assert notes == ["timm/vit_tiny comes from the Hugging Face Hub"]

    def fails(repository, **options):
        raise OSError("We couldn't connect to 'https://huggingface.co'\nmore")

    fake_hub(monkeypatch, fails)
    refused("timm/vit_tiny", "no such file here", "We couldn't connect")
    fake_hub(monkeypatch, lambda repository, **options: str(folder.parent))
    refused("hf:timm/vit_tiny", "holds neither")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    refused("timm/vit_tiny", "pip install huggingface_hub")
    refused("hf:vit_tiny", "hf:owner/name")


def test_a_file_that_cannot_be_written_is_one_sentence_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_safetensors(tmp_path / "file" / "x.safetensors", ARRAYS, {})
    (tmp_path / "x.safetensors").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        write_safetensors(tmp_path / "x.safetensors", ARRAYS, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "x.safetensors"]
