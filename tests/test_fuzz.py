"""Mutated files by the thousand: pixels or one error, a source or one line; no crash, no hang, no wrong label.

Every file is a pure function of its number: ``python tests/test_fuzz.py KIND NUMBER 1`` repeats a finding.
Each kind runs in a process of its own with a time limit for every file: whatever kills it or stops it is seen.
"""

import io
import json
import os
import resource
import selectors
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from images import encode, lossless, lossy, noise, smooth, with_orientation

FILES = int(os.environ.get("FUZZ_FILES", "10000"))
SECONDS_A_FILE = 60
LARGE = 2**24
MEMORY = 8 * 2**30
COUNTS = {"image": FILES, "table": FILES // 20, "tar": FILES // 20, "npz": FILES // 40, "folder": FILES // 400}


@cache
def originals() -> list[bytes]:
    """Images of every format, small, and a few large enough to have blocks inside."""
    small = [case.encoded for case in lossless().values()] + list(lossy().values())
    options = [{"quality": 80}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 2}]
    jpegs = [encode(smooth(48, 64), "JPEG", **each) for each in options]
    turned = [with_orientation(smooth(33, 47), n, kind) for n in (3, 6, 8) for kind in ("JPEG", "PNG", "WEBP", "TIFF")]
    large = [encode(noise(40, 56), kind) for kind in ("PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "AVIF")]
    return small + jpegs + turned + large


def mutate(content: bytes, rng: np.random.Generator, other: bytes) -> bytes:
    """Changes a file in one to three ways."""
    for _ in range(rng.integers(1, 4)):
        data = bytearray(content)
        place, length = int(rng.integers(0, len(data) + 1)), int(rng.integers(1, 65))
        match rng.choice(["bits", "bytes", "cut", "insert", "delete", "swap", "header", "splice", "repeat"]):
            case "bits":
                for at in rng.integers(0, max(len(data), 1), rng.integers(1, 17)):
                    data[at : at + 1] = bytes(each ^ 1 << int(rng.integers(8)) for each in data[at : at + 1])
            case "bytes":
                data[place : place + length] = rng.bytes(len(data[place : place + length]))
            case "cut":
                data = data[:place]
            case "insert":
                data[place:place] = rng.bytes(length)
            case "delete":
                del data[place : place + length]
            case "swap":
                size = max(1, len(data) // 8)
                one, two = sorted(rng.integers(0, 8, 2) * size)
                data[one : one + size], data[two : two + size] = data[two : two + size], data[one : one + size]
            case "header":
                at = int(rng.integers(0, min(len(data), 64) + 1))
                extreme = [b"\0\0", b"\xff\xff", b"\x7f\xff", b"\x80\0", b"\0\0\0\1", b"\xff\xff\xff\xff", b"\0\1"]
                value = extreme[rng.integers(len(extreme))]
                data[at : at + len(value)] = value
            case "splice":
                data = data[:place] + other[int(rng.integers(0, len(other))) :]
            case "repeat":
                data[place:place] = data[place : place + length] * int(rng.integers(1, 20))
        content = bytes(data)
    return _with_checksums(content) if rng.random() < 0.5 else content


def _with_checksums(content: bytes) -> bytes:
    """Mends the checksums of a PNG, which otherwise hide all that is behind them."""
    if content[:8] != b"\x89PNG\r\n\x1a\n":
        return content
    data, at = bytearray(content), 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        data[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(data)


def image(number: int) -> str:
    """Decodes a mutated image with both libraries, whole and reduced."""
    from vision.data.decode import DecodeError, decode, image_size

    rng = np.random.default_rng([1, number])
    files = originals()
    content = mutate(files[number % len(files)], rng, files[rng.integers(len(files))])
    outcomes, size = [], None
    try:
        size = image_size(content)
    except DecodeError as error:
        _one_line(error)
    large = size is not None and size[0] * size[1] > LARGE  # a header may promise 2**29 pixels; once will do
    for decoder in ("pillow",) if large else ("pillow", "opencv"):
        for at_least in ((0, 0),) if large else ((0, 0), (4, 4)):
            for channels in (None,) if large else (None, 3, 1) if at_least == (0, 0) else (3,):
                try:
                    pixels = decode(content, decoder=decoder, at_least=at_least, channels=channels)
                except DecodeError as error:
                    _one_line(error)
                    outcomes.append(False)
                    continue
                outcomes.append(True)
                assert size is not None, "a file without a size decoded"
                assert (pixels.dtype, pixels.ndim, pixels.size > 0) == (np.uint8, 3, True)
                assert pixels.shape[2] in ((channels,) if channels else (1, 3))
                if at_least == (0, 0):
                    assert pixels.shape[:2] == size, f"{pixels.shape[:2]} is not the promised {size}"
                assert all(got >= min(4, whole) for got, whole in zip(pixels.shape, size, strict=False))
    for half in (outcomes[:4], outcomes[4:]):
        assert len(set(half)) <= 1, f"channels or size decide whether it decodes: {outcomes}"
    return "decoded" if any(outcomes) else "refused"


def _one_line(error: Exception) -> None:
    assert len(str(error).splitlines()) == 1, str(error)
    assert 0 < len(str(error)) < 1000, str(error)


def _opened(name: str, number: int):
    """Opens every split of a source; returns its examples, or None where it is refused in one line."""
    from vision.data.sources import Opener
    from vision.errors import UserError

    notes: list[str] = []
    try:
        opener = Opener(name, on_error=("error", "skip")[number % 2], note=notes.append)
        source = opener("train" if name.startswith("npz") else "all")
        examples = source.read(range(len(source)))
    except UserError as error:
        _one_line(error)
        return None
    assert all(len(note.splitlines()) == 1 for note in notes)
    assert len(source.fingerprint) == 16
    for index, example in enumerate(examples):
        assert (tuple(example), bool(source.where(index))) == (source.fields, True)
        label = np.asarray(example.get("label", 0))
        assert label.ndim or 0 <= label < max(source.num_classes, 1)
    return source, examples


@cache
def _pictures() -> tuple[bytes, ...]:
    return tuple(encode(np.full((4, 4), 10 * n, np.uint8)) for n in range(12))


def table(number: int) -> str:
    """Opens a mutated table; a label stands in a line that names the image, unless quotation marks join lines."""
    rng = np.random.default_rng([2, number])
    words = ("cat", "dog", "eel", "fox")
    with tempfile.TemporaryDirectory() as folder:
        for n, each in enumerate(_pictures()):
            Path(folder, f"{n:02d}.png").write_bytes(each)
        if kind := number % 3:
            header = ("image", "label") if kind == 1 else ("image", "caption", "split")
            rows = [(f"{n:02d}.png", words[n % 4], "train")[: len(header)] for n in range(12)]
            text, path = "\n".join(map(",".join, [header, *rows])), Path(folder, "t.csv")
        else:
            lines = [{"image": f"{n:02d}.png", "label": words[n % 4], "captions": ["a", "b"]} for n in range(12)]
            text, path = "\n".join(map(json.dumps, lines)), Path(folder, "t.jsonl")
        content = mutate(text.encode(), rng, b'"\n,\t\xff\xfe|{}[]:"\r\n0.png,99999999999,\0')
        path.write_bytes(content)
        found = _opened(f"captions:{path}", number)
    if found is None:
        return "refused"
    source, examples = found
    if "label" in source.fields and path.suffix == ".csv" and b'"' not in content:
        for index, example in enumerate(examples):
            name = os.path.basename(source.where(index)).encode()
            names = [source.class_names[n].encode() for n in np.flatnonzero(np.atleast_1d(_several(example, source)))]
            lines = [line for line in content.splitlines() if name in line]
            assert all(any(each in line for line in lines) for each in names), (name, names, lines)
    return "opened"


def _several(example, source):
    label = np.asarray(example["label"])
    return label if label.ndim else np.arange(source.num_classes) == label


def tar(number: int) -> str:
    """Opens a mutated shard; an image that is whole has its own label, unless a label itself was changed."""
    rng = np.random.default_rng([3, number])
    stream = io.BytesIO()
    safe = number % 2
    with tarfile.open(fileobj=stream, mode="w", format=rng.choice([0, 1, 2])) as archive:
        for n, each in enumerate(_pictures()):
            for name, part in ((f"{n:02d}.cls", str(n).encode()), (f"{n:02d}.png", each), (f"{n:02d}.txt", b"words")):
                info = tarfile.TarInfo(name)
                info.size = len(part)
                archive.addfile(info, io.BytesIO(part))
    whole = stream.getvalue()
    if safe:
        data = bytearray(whole)
        for at in rng.integers(0, len(data), rng.integers(1, 33)):
            block = at // 512 * 512
            if not (block >= 512 and data[block - 512 : block - 506].endswith(b".cls")):
                data[at] ^= 1 << int(rng.integers(8))
        content = bytes(data[: rng.integers(len(data))]) if number % 4 == 1 else bytes(data)
    else:
        content = mutate(whole, rng, originals()[number % len(originals())])
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "train.tar").write_bytes(content)
        found = _opened(f"tar:{folder}/train.tar", number // 2)
    if found is None:
        return "refused"
    known = {each: n for n, each in enumerate(_pictures())}
    for example in found[1]:
        if safe and example["image"] in known and "label" in example:
            assert np.asarray(example["label"]) == known[example["image"]]
    return "opened"


def npz(number: int) -> str:
    """Opens a mutated file of arrays."""
    rng = np.random.default_rng([4, number])
    stream = io.BytesIO()
    save = (np.savez, np.savez_compressed)[number % 2]
    save(stream, x_train=noise(3, 4, 3)[None].repeat(5, 0), y_train=np.arange(5), x_test=noise(3, 4)[None])
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "d.npz").write_bytes(mutate(stream.getvalue(), rng, originals()[number % len(originals())]))
        return "opened" if _opened(f"npz:{folder}/d.npz", number) else "refused"


def folder(number: int) -> str:
    """Mutates 40 images of a folder and its classes.tsv; after ``skip``, each whole image has its own label."""
    from vision.data.host import HostPart
    from vision.data.materialize import materialize, usable
    from vision.data.sources import Opener

    rng = np.random.default_rng([5, number])
    files = originals()
    with tempfile.TemporaryDirectory() as root:
        os.environ["XDG_CACHE_HOME"] = root + "/.cache"
        for n in range(80):
            path = Path(root, f"class{n % 4}", f"{n:02d}.png")
            path.parent.mkdir(exist_ok=True)
            other = mutate(files[rng.integers(len(files))], rng, files[rng.integers(len(files))])
            path.write_bytes(other if n >= 40 else encode(np.full((5, 6, 3), 60 * (n % 4), np.uint8)))
        names = "".join(f"class{n}\tname {n}\n" for n in range(4)).encode()
        Path(root, "classes.tsv").write_bytes(mutate(names, rng, files[0]))
        source = Opener(f"folder:{root}", on_error="skip", note=str)("all")
        part = HostPart((8, 8), 3, seed=0)
        good = usable(source, part, "skip", str)
        again = usable(source, part, "skip", str)
        arrays, repeated = materialize(good, part).arrays, materialize(again, part).arrays
        kept = [Path(good.where(index)) for index in range(len(good))]
    assert all(np.array_equal(arrays[name], repeated[name]) for name in arrays)
    assert [int(path.parent.name[-1]) for path in kept] == arrays["label"].tolist()
    assert sum(int(path.stem) < 40 for path in kept) == 40, "a whole image was left out"
    for path, pixels, label in zip(kept, arrays["image"], arrays["label"], strict=True):
        assert int(path.stem) >= 40 or (pixels == 60 * label).all()
    return "opened"


def _work(kind: str, first: int, count: int) -> None:
    """Prints a line for every file."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    function = globals()[kind]
    for number in range(first, first + count):
        try:
            outcome = function(number)
        except Exception as error:
            outcome = f"WRONG {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        print(number, outcome, flush=True)


def _all(kind: str, count: int) -> tuple[Counter[str], list[str], float]:
    """Runs all files of a kind in worker processes; returns outcomes, findings, and the slowest file's seconds."""
    outcomes: Counter[str] = Counter()
    findings: list[str] = []
    done, slowest = 0, 0.0
    here = Path(__file__).resolve()
    path = os.pathsep.join([str(here.parent.parent), str(here.parent)])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "error", "JAX_PLATFORMS": "cpu"}
    while done < count:
        command = [sys.executable, str(here), kind, str(done), str(count - done)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as worker:
            pipe, pending, started = worker.stdout, b"", time.monotonic()
            assert pipe is not None
            with selectors.DefaultSelector() as selector:
                selector.register(pipe, selectors.EVENT_READ)
                limit = SECONDS_A_FILE + 60  # for the start of Python
                while selector.select(limit):
                    read = os.read(pipe.fileno(), 65536)
                    if not read:
                        break
                    *lines, pending = (pending + read).split(b"\n")
                    for line in lines:
                        number, outcome = line.decode().split(" ", 1)
                        if limit == SECONDS_A_FILE:
                            slowest = max(slowest, time.monotonic() - started)
                        started, limit, done = time.monotonic(), SECONDS_A_FILE, int(number) + 1
                        outcomes["wrong" if outcome.startswith("WRONG") else outcome] += 1
                        if outcome.startswith("WRONG"):
                            findings.append(f"{kind} {number}: {outcome}")
                else:
                    findings.append(f"{kind} {done}: no answer within {limit} s")
                    outcomes["hung"] += 1
                    worker.kill()
                    done += 1
                    continue
            if worker.wait() != 0 or done < count:
                findings.append(f"{kind} {done}: the process ended with {worker.returncode}")
                outcomes["crashed"] += 1
                done += 1
    return outcomes, findings, slowest


@pytest.mark.slow
@pytest.mark.parametrize("kind", COUNTS)
def test_mutated_files_never_crash_hang_or_mislead(kind, capsys):
    start = time.monotonic()
    outcomes, findings, slowest = _all(kind, COUNTS[kind])
    seconds = time.monotonic() - start
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    with capsys.disabled():
        print(f"\nfuzzed {COUNTS[kind]} x {kind}: {told}; {seconds:.0f} s, the slowest {slowest:.2f} s")
    assert not findings, "\n".join(findings[:20])
    assert outcomes.total() == COUNTS[kind]
    assert kind == "folder" or len(outcomes) == 2, "mutation that always or never breaks a file tests nothing"


if __name__ == "__main__":
    _work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
