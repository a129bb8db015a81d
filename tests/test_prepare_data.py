"""Data sets are prepared once, wholly or not at all, and whatever stops that is said in one line with the cure."""

import errno
import hashlib
import importlib.util
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import REPOSITORY, child_environment
from picture_server import FILES, LEVELS, Server, png
from prepare_child import Pictures
from tensorflow_datasets.core.download.checksums import UrlInfo
from tensorflow_datasets.core.utils import Size

from vision.data.preparation import plan, prepared
from vision.data.preparation.errors import readable
from vision.data.preparation.names import stock_names
from vision.data.preparation.stock import prepare_stock
from vision.errors import UserError

CHILD = REPOSITORY / "tests" / "prepare_child.py"


@pytest.fixture
def server(monkeypatch):
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("PICTURES_URL", running.address)
        yield running
        running.shutdown()


def pictures(folder):
    return Pictures(data_dir=str(folder), file_format="array_record")


def check_prepared(folder):
    place = prepared.find("pictures", folder)
    assert place == folder / "pictures" / "1.2.0"
    source = tfds.builder_from_directory(place).as_data_source(split="train")
    stored = {int(example["label"]): example["image"] for example in source}
    for number, array in enumerate(LEVELS.values()):
        np.testing.assert_array_equal(stored[number], array)
    assert not list(folder.rglob("incomplete.*"))
    assert not list(folder.rglob("*.tmp.*"))


def child(folder, *flags, **environment):
    command = [sys.executable, str(CHILD), "pictures", "--data_dir", str(folder), *flags]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=REPOSITORY, env=child_environment() | environment, **pipes)


def wait_for(stream, word):
    lines = []
    for line in stream:
        lines.append(line)
        if word in line:
            return
    raise AssertionError(f"{word!r} never came: {lines}")


def test_finished_downloads_are_kept_and_cut_ones_start_anew(server, tmp_path):
    server.cut.add("/two.png")
    with pytest.raises(UserError, match="broke off; the same command goes on"):
        prepare_stock(pictures(tmp_path), tmp_path)
    assert prepared.find("pictures", tmp_path) is None
    assert prepared.unfinished("pictures", tmp_path), "the cut download lies there"
    server.cut.clear()
    server.asked.clear()
    notes = []
    prepare_stock(pictures(tmp_path), tmp_path, report=notes.append)
    assert server.asked == ["/two.png"]
    assert any("left by a preparation that was stopped" in note for note in notes)
    check_prepared(tmp_path)


def test_prepared_again_only_when_asked(server, tmp_path):
    place = prepare_stock(pictures(tmp_path), tmp_path)
    written = (place / "dataset_info.json").stat().st_mtime_ns
    prepare_stock(pictures(tmp_path), tmp_path)
    assert (place / "dataset_info.json").stat().st_mtime_ns == written
    server.asked.clear()
    prepare_stock(pictures(tmp_path), tmp_path, overwrite=True)
    assert (place / "dataset_info.json").stat().st_mtime_ns > written
    assert server.asked == [], "the downloads are there"
    check_prepared(tmp_path)


def test_what_was_there_stays_if_preparing_it_anew_fails(server, tmp_path, monkeypatch):
    prepare_stock(pictures(tmp_path), tmp_path)

    def fails(self, paths):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Pictures, "_generate_examples", fails)
    with pytest.raises(UserError, match=f"cannot prepare pictures in {tmp_path}: .*Input/output error"):
        prepare_stock(pictures(tmp_path), tmp_path, overwrite=True)
    check_prepared(tmp_path)


def test_a_file_that_is_gone_is_named(server, tmp_path):
    server.gone.add("/one.png")
    with pytest.raises(UserError, match=r"one.png.*404.*may have moved"):
        prepare_stock(pictures(tmp_path), tmp_path)


def test_a_folder_copied_in_part_is_not_taken_for_prepared(server, tmp_path):
    (tmp_path / "pictures" / "1.2.0").mkdir(parents=True)
    assert prepared.find("pictures", tmp_path) is None
    with pytest.raises(UserError, match="no dataset_info.json.*--force"):
        prepare_stock(pictures(tmp_path), tmp_path)
    prepare_stock(pictures(tmp_path), tmp_path, overwrite=True)
    check_prepared(tmp_path)


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGKILL, -9, ""), (signal.SIGINT, 130, "run it again"), (signal.SIGTERM, 143, "run it again")],
    ids=["kill", "ctrl-c", "terminate"],
)
def test_stopped_half_way_then_run_again(server, tmp_path, number, code, said):
    process = child(tmp_path, PICTURES_PAUSE="60")
    wait_for(process.stderr, "example 0")
    process.send_signal(number)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == code
    assert len(errors.splitlines()) == bool(said), errors
    assert said in errors
    assert bool(list(tmp_path.rglob("incomplete.*"))) == (number == signal.SIGKILL)
    assert prepared.find("pictures", tmp_path) is None
    server.asked.clear()
    again = child(tmp_path, "--json")
    out, errors = again.communicate(timeout=60)
    assert again.returncode == 0, errors
    assert server.asked == [], "both downloads were finished before"
    result = json.loads(out.splitlines()[-1])
    assert result["splits"] == {"train": 2}
    assert result["bytes"] == sum(path.stat().st_size for path in (tmp_path / "pictures" / "1.2.0").iterdir())
    assert not result["was_prepared"]
    assert "\r" not in errors, "no bar where there is no terminal"
    check_prepared(tmp_path)


def test_stopped_in_the_middle_of_a_download(server, tmp_path):
    """TFDS downloads in threads that know nothing of Ctrl-C; the program does not wait for them."""
    server.stuck.add("/two.png")
    process = child(tmp_path)
    deadline = time.monotonic() + 30
    while not list((tmp_path / "downloads" / "pictures").glob("*one*.INFO")) or len(server.asked) < 2:
        assert time.monotonic() < deadline, "the first file never arrived"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=100)
    server.freed.set()
    server.stuck.clear()
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith("stopped; pictures is not prepared; finished downloads stay in")
    server.asked.clear()
    prepare_stock(pictures(tmp_path), tmp_path)
    assert server.asked == ["/two.png"]
    check_prepared(tmp_path)


def test_two_processes_wait_for_each_other(server, tmp_path):
    first = child(tmp_path, PICTURES_PAUSE="1.5")
    wait_for(first.stderr, "example 0")
    second = child(tmp_path)
    _, errors = second.communicate(timeout=60)
    first.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0), errors
    assert "waiting for another process that prepares pictures" in errors
    assert "example" not in errors, "it was prepared once"
    check_prepared(tmp_path)


def with_sizes(monkeypatch, address, count=1000):
    infos = {
        f"{address}{path}": UrlInfo(size=Size(count), checksum=hashlib.sha256(content).hexdigest(), filename=path[1:])
        for path, content in FILES.items()
    }
    unused = {f"{address}/other.png": UrlInfo(size=Size(10**15), checksum="0" * 64, filename="other.png")}
    monkeypatch.setattr(Pictures, "url_infos", infos | unused)


def test_plan_counts_what_this_data_set_asks_for_and_lacks(server, tmp_path, monkeypatch):
    with_sizes(monkeypatch, server.address, 3 * 2**20)
    ahead = plan.plan(pictures(tmp_path), tmp_path)
    assert (ahead.download, ahead.missing, ahead.prepared) == (6 * 2**20, 6 * 2**20, None)
    host = server.address.removeprefix("http://")
    assert str(ahead) == f"pictures: download 6.0 MiB from {host}; prepared size unknown"
    with_sizes(monkeypatch, server.address, len(FILES["/one.png"]))
    assert len(FILES["/one.png"]) == len(FILES["/two.png"]), "or the checked sizes would differ"
    server.cut.add("/two.png")
    with pytest.raises(UserError):
        prepare_stock(pictures(tmp_path), tmp_path)
    ahead = plan.plan(pictures(tmp_path), tmp_path)
    assert ahead.urls == (f"{server.address}/two.png",)
    assert ahead.missing == len(FILES["/two.png"])
    assert "are there already" in str(ahead)


def test_a_download_that_changed_is_refused(server, tmp_path, monkeypatch):
    with_sizes(monkeypatch, server.address, len(FILES["/one.png"]))
    monkeypatch.setitem(FILES, "/one.png", png(np.zeros((4, 4, 3), np.uint8)))
    with pytest.raises(UserError, match=r"not the file TFDS knows.*one.png"):
        prepare_stock(pictures(tmp_path), tmp_path)


def test_too_little_room_is_refused_with_the_numbers_before_anything_is_downloaded(server, tmp_path, monkeypatch):
    with_sizes(monkeypatch, server.address, 10 * 2**20)
    ahead = plan.plan(pictures(tmp_path), tmp_path)
    notes = []

    def room(mebibytes):
        notes.clear()
        monkeypatch.setattr(plan.shutil, "disk_usage", lambda _: type("Usage", (), {"free": mebibytes * 2**20}))
        plan.require_room(ahead, notes.append)

    with pytest.raises(UserError, match=r"takes 22.0 MiB \(download 20.0 MiB, prepared unknown.*21.0 MiB are free"):
        room(21)
    room(23)
    assert "warning: pictures may take 44.0 MiB" in notes[0]
    room(45)
    assert notes == []
    assert server.asked == []


def test_unknown_sizes_are_said_to_be_unknown(server, tmp_path):
    ahead = plan.plan(pictures(tmp_path), tmp_path)
    notes = []
    plan.require_room(ahead, notes.append)
    assert "does not know how much room" in notes[0]
    assert "download of unknown size from 127.0.0.1" in str(ahead)


def test_no_network_is_said_at_once(tmp_path, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PICTURES_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
    began = time.perf_counter()
    with pytest.raises(UserError, match=r"127.0.0.1:\d+ does not answer"):
        plan.require_network(plan.plan(pictures(tmp_path), tmp_path))
    assert time.perf_counter() - began < 5, "TFDS itself would try for three minutes"


def test_files_downloaded_by_hand_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(Pictures, "MANUAL_DOWNLOAD_INSTRUCTIONS", "manual_dir should\n  contain\n  pictures.tar.")
    monkeypatch.setattr(Pictures, "_split_generators", lambda self, manager: manager.manual_dir)
    expected = f"is downloaded by hand into {tmp_path}/downloads/manual: that folder should contain pictures.tar; then"
    with pytest.raises(UserError, match=expected):
        prepare_stock(pictures(tmp_path), tmp_path)
    assert plan.plan(pictures(tmp_path), tmp_path).by_hand


ERRORS = [
    (OSError(errno.ENOSPC, "No space left on device"), "no space left while preparing mnist in /data; free some"),
    (RuntimeError("RESOURCE_EXHAUSTED: write failed: No space left on device"), "no space left"),
    (PermissionError(errno.EACCES, "Permission denied", "/data/mnist"), "cannot write /data/mnist"),
    (OSError(errno.EROFS, "Read-only file system"), "read only"),
    (ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow"), r'pip install -e "\.\[prepare\]"'),
    (ImportError("no", name="apache_beam"), "pip install apache-beam"),
    (FileNotFoundError(errno.ENOENT, "No such file", "/data/downloads/manual/a.tar"), "by hand .* not all .*a.tar"),
    (tarfile.ReadError("unexpected end of data"), "cut or damaged"),
]


@pytest.mark.parametrize(
    ("error", "said"), ERRORS, ids=[type(error).__name__ + str(n) for n, (error, _) in enumerate(ERRORS)]
)
def test_errors_are_one_line_with_the_cure(error, said, tmp_path):
    wrapped = RuntimeError("Failed to do something")
    wrapped.__cause__ = error
    for each in (error, wrapped):
        with pytest.raises(UserError, match=said):
            raise readable(each, "mnist", Path("/data"))


def test_an_error_of_the_program_itself_is_left_as_it_is():
    assert readable(TypeError("a bug"), "mnist", Path("/data")) is None


def test_a_full_disk_while_writing_is_one_line(server, tmp_path, monkeypatch):
    def full(self, paths):
        yield 0, {"image": io.BytesIO(paths[0].read_bytes()), "label": 0}
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Pictures, "_generate_examples", full)
    with pytest.raises(UserError, match="no space left while preparing pictures"):
        prepare_stock(pictures(tmp_path), tmp_path)
    assert not list(tmp_path.rglob("incomplete.*")), "TFDS removes what it wrote"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")
def test_a_full_disk_while_writing_our_own_is_one_line(tmp_path, monkeypatch):
    """The library that writes array records has an error of its own for it; /dev/full brings it about."""
    from tensorflow_datasets.core import file_adapters

    write = file_adapters.ArrayRecordFileAdapter.write_examples

    def to_full_device(path, examples):
        os.symlink("/dev/full", path)
        return write(path, examples)

    monkeypatch.setattr(file_adapters.ArrayRecordFileAdapter, "write_examples", to_full_device)
    with pytest.raises(UserError, match="no space left while preparing digits"):
        prepared.prepare_own("digits", tmp_path)


def test_names_of_tfds_are_known_without_tensorflow_or_network():
    from tensorflow_datasets.core import registered

    names = stock_names()
    ours = {*prepared.OWN_BUILDERS, "pictures"}
    assert set(registered.list_imported_builders()) - ours <= names
    assert {"mnist", "cifar100", "imagenet2012", "coco_captions", "wit", "i_naturalist2021"} <= names
    for no_data_set in ("cifar_info", "rlu_builder", "data_source", "task"):
        assert no_data_set not in names


def test_newest_version_and_default_config(tmp_path):
    for path in ("a/1.9.0", "a/1.10.0", "a/incomplete.ABCDEF_2.0.0", "b/small/1.0.0", "b/big/2.0.0"):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "dataset_info.json").write_text("{}")
    (tmp_path / "a" / "3.0.0").mkdir()
    assert prepared.find("a", tmp_path) == tmp_path / "a" / "1.10.0"
    assert prepared.find("a:1.9.0", tmp_path) == tmp_path / "a" / "1.9.0"
    assert prepared.find("a:3.0.0", tmp_path) is None
    assert prepared.find("b/big", tmp_path) == tmp_path / "b" / "big" / "2.0.0"
    assert prepared.find("b", tmp_path) is None
    (tmp_path / "b" / ".config").mkdir()
    (tmp_path / "b" / ".config" / "metadata.json").write_text('{"default_config_name": "small"}')
    assert prepared.find("b", tmp_path) == tmp_path / "b" / "small" / "1.0.0"


def test_what_is_prepared_is_named_with_its_size_and_left_alone(program):
    folder = os.environ["TFDS_DATA_DIR"]
    done = program("tools.prepare_data", "digits", "--json")
    result = json.loads(done.stdout)
    assert result["path"] == f"{folder}/digits/1.0.0"
    assert result["was_prepared"]
    assert result["splits"] == {"train": 1437, "test": 360}
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"already prepared in {result['path']}: ")
    assert "train 1,437, test 360" in line


WRONG = [
    ("mnits", ["did you mean 'mnist'"]),
    ("shape", ["did you mean 'shapes'"]),
    ("digits/8x8", ["no configs", "leave '/8x8' away"]),
    ("mnist/big", ["mnist has no config 'big'"]),
    ("imagenette/160px-v3", ["did you mean '160px-v2'"]),
    ("a+b", ["is no data set's name"]),
]
if not importlib.util.find_spec("tensorflow"):
    WRONG += [(name, ['pip install -e ".[prepare]"']) for name in ("mnist", "coco_captions", "wit")]


@pytest.mark.parametrize(("name", "parts"), WRONG, ids=[name for name, _ in WRONG])
def test_a_mistake_is_one_line_and_exit_code_2(program, tmp_path, name, parts):
    done = program("tools.prepare_data", name, "--data_dir", tmp_path / "data", check=2)
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    for part in parts:
        assert part in line
    assert not (tmp_path / "data").exists()


def test_a_folder_that_cannot_be_written_is_named(program, tmp_path):
    (tmp_path / "file").write_text("")
    done = program("tools.prepare_data", "digits", "--data_dir", tmp_path / "file" / "folder", check=2)
    assert done.stderr.splitlines()[-1].startswith(f"error: cannot prepare digits in {tmp_path}/file/folder")
