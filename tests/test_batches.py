"""Batches are the same bits on any workers, processes and devices, and after a resume, for every kind of source."""

import multiprocessing
import sys

import batches as data
import jax
import numpy as np
import pytest
from test_distributed import free_address, run_together

from vision.data.sources import Opener
from vision.errors import UserError

KINDS = tuple(data.configs(data.Path("root")))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    data.write(folder)
    return folder


def child(root, out, *, count=1, devices=1, workers=0):
    address = free_address()
    script = [sys.executable, "tests/batches.py", str(root), str(out), address, str(count)]
    run_together([[*script, str(number), str(workers)] for number in range(count)], devices)
    return np.load(out)


@pytest.fixture(scope="module")
def alone(root, tmp_path_factory):
    """One process, one device, threads."""
    return child(root, tmp_path_factory.mktemp("alone") / "seen.npz")


def assert_same(one, other):
    assert sorted(one) == sorted(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def of_kind(seen, kind):
    return {name.removeprefix(f"{kind}/"): seen[name] for name in seen.files if name.startswith(f"{kind}/")}


@pytest.mark.parametrize("kind", KINDS)
def test_eight_devices_and_a_step_asked_for_first(root, alone, kind):
    """Every pipeline here begins at step 3: what a resume does."""
    assert jax.device_count() == 8
    assert_same(of_kind(alone, kind), data.batches(data.experiment(root, kind), data.STEPS[::-1]))


@pytest.mark.slow
def test_two_processes(root, alone, tmp_path):
    two = child(root, tmp_path / "two.npz", count=2, devices=2)
    assert_same({name: alone[name] for name in alone.files}, {name: two[name] for name in two.files})


def _chunks_of(root, kinds):
    """In a process of its own, as a worker is: the pieces of step 3 of each kind."""
    return {kind: [made(3 * made.parts + n) for n in range(made.parts)] for kind, made in kinds.items()}


def test_a_worker_process_makes_the_pieces_that_threads_make(root):
    made = {kind: data.experiment(root, kind).pipeline.ahead for kind in KINDS}
    chunks = {kind: ahead._chunks for kind, ahead in made.items() if ahead is not None}
    assert set(chunks) == set(KINDS) - {"resident"}
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        there = pool.apply(_chunks_of, (root, chunks))
    for kind, pieces in _chunks_of(root, chunks).items():
        for piece, other in zip(pieces, there[kind], strict=True):
            assert_same(piece, other)


def test_four_worker_processes(root, alone):
    seen = data.batches(data.experiment(root, "folder", workers=4), (0, 1, 2, 3))
    assert_same(of_kind(alone, "folder"), {name: seen[name] for name in seen if name[0] in "03"})


@pytest.mark.slow
def test_four_worker_processes_for_every_kind(root, alone, tmp_path):
    four = child(root, tmp_path / "four.npz", workers=4)
    assert_same({name: alone[name] for name in alone.files}, {name: four[name] for name in four.files})


def test_what_is_drawn_differs_by_visit_and_the_rows_are_those_asked_for(alone):
    for kind in KINDS:
        images = alone[f"{kind}/0/image"]
        assert images.shape == (48, 16, 16, 3)
        assert len(np.unique(images.reshape(48, -1), axis=0)) >= 40, kind
    repeated, once = alone["repeated/0/index"], alone["folder/0/index"]
    np.testing.assert_array_equal(repeated.reshape(16, 3)[:, 0], once[:16])
    np.testing.assert_array_equal(np.bincount(alone["balanced/0/label"]), [16, 16, 16])


def test_labels_belong_to_the_images(root, alone):
    """The class of an image is known from the folder; the index says which image a row is."""
    source = Opener(f"folder:{root / 'folder'}", note=print)("train")
    for step in data.STEPS:
        index, label = alone[f"folder/{step}/index"], alone[f"folder/{step}/label"]
        for row, position in enumerate(index):
            assert f"/{data.CLASSES[label[row]]}/" in source.where(int(position))


def test_captions_are_chosen_among_those_of_the_image(root, alone):
    from vision.data.sources.captions import unpack

    seen = set()
    for step in data.STEPS:
        for row, caption in enumerate(alone[f"captions/{step}/caption"]):
            word, name = unpack(caption).split()
            assert name == data.CLASSES[alone[f"captions/{step}/label"][row]]
            seen.add(word)
    assert seen == {"a", "one", "some"}


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_does_not_decode_ends_the_run_with_its_path(root, tmp_path, workers):
    import shutil

    shutil.copytree(root, tmp_path / "copy")
    (tmp_path / "copy" / "folder" / "bee" / "01.jpg").write_bytes(b"\xff\xd8\xffnothing")
    made = data.experiment(tmp_path / "copy", "folder", workers)
    with pytest.raises(UserError, match=r"bee/01.jpg: the image does not decode.*on_error=skip"):
        [made.pipeline.batch(step) for step in range(3)]


@pytest.mark.slow
def test_a_folder_reproduces_after_a_kill(root, program):
    arguments = ["--config", "configs/folder.py", f"--config.data.name=folder:{root / 'folder'}", "--json"]
    arguments += ["--config.data.crop.name=random_resized", "--config.data.image_size=16", "--config.batch_size=16"]
    arguments += ["--config.evals.val.every=None", "--config.evals.val.batch_size=4", "--config.logging.every.steps=5"]
    done = program("experiments.reproduce", *arguments, "--steps", "24", "--interrupt", "11")
    assert "bitwise equal" in done.stdout


def test_a_worker_that_died_is_one_line(root):
    made = data.experiment(root, "folder", workers=1)
    made.pipeline.batch(0)
    (worker,) = [child for child in multiprocessing.active_children() if "grain" in child.name]
    worker.kill()
    with pytest.raises(UserError, match="a worker process died"):
        [made.pipeline.batch(step) for step in range(1, 20)]
