"""A checkpoint that is not what was saved is noticed, named and passed over; a good one comes back bit for bit."""

import json
import os
import shutil
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import REPOSITORY, child_environment, mesh_of
from jax.sharding import NamedSharding, PartitionSpec

from vision.errors import UserError
from vision.training.checkpoint import Checkpoints, load_arrays
from vision.training.digest import as_text, digests


def tree(seed=0, devices=1, spec=None):
    mesh = mesh_of(devices)
    values = {
        "kernel": jax.random.normal(jax.random.key(seed), (16, 8)),
        "half": jax.random.normal(jax.random.key(seed + 1), (8, 3)).astype(jnp.bfloat16),
        "count": jnp.int32(seed),
        "flag": jnp.array([True, False]),
    }
    place = lambda x: NamedSharding(mesh, spec if spec and x.ndim and x.shape[0] % devices == 0 else PartitionSpec())  # noqa: E731
    return jax.tree.map(lambda x: jax.device_put(x, place(x)), values)


def abstract(like):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)


def metadata(step):
    return {"step": step, "window": {"loss": [0.1, 3.0]}}


@pytest.fixture
def saved(tmp_path):
    """Three checkpoints, of steps 1 to 3."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step in (1, 2, 3):
        checkpoints.save(step, tree(step), metadata(step))
    checkpoints.wait()
    return checkpoints


def same(a, b):
    return jax.tree.all(jax.tree.map(lambda x, y: np.asarray(x).tobytes() == np.asarray(y).tobytes(), a, b))


def test_newest_comes_back_bit_for_bit_with_its_metadata(saved):
    state, data = saved.restore_newest(abstract(tree()))
    assert same(state, tree(3))
    assert data["step"] == 3
    assert data["window"] == {"loss": [0.1, 3.0]}


def test_an_empty_folder_has_no_newest(tmp_path):
    assert Checkpoints(tmp_path / "none").restore_newest(abstract(tree())) is None


@pytest.mark.parametrize("devices", [2, 8])
def test_restored_onto_another_device_count(saved, devices):
    target = tree(0, devices, PartitionSpec("data"))
    state, _ = saved.restore(abstract(target), 3)
    assert same(state, tree(3))
    assert len(state["kernel"].sharding.device_set) == devices
    assert state["kernel"].addressable_shards[0].data.shape == (16 // devices, 8)


def test_another_shape_type_or_array_is_refused_naming_both_sides(saved):
    target = abstract(tree())
    target["kernel"] = jax.ShapeDtypeStruct((16, 9), jnp.float32, sharding=target["kernel"].sharding)
    target["half"] = jax.ShapeDtypeStruct((8, 3), jnp.float32, sharding=target["half"].sharding)
    target["extra"] = target.pop("count")
    with pytest.raises(UserError) as caught:
        saved.restore_newest(target)
    for part in (
        "only in the checkpoint: count",
        "only in the run: extra",
        "float32[16, 8]",
        "float32[16, 9]",
        "bfloat16",
    ):
        assert part in str(caught.value)
    assert saved.steps() == [1, 2, 3], "nothing was set aside"


def test_keeps_the_last_and_the_best(tmp_path):
    for mode, best in (("max", 2), ("min", 4)):
        checkpoints = Checkpoints(tmp_path / mode, keep=2, best="test/score", best_mode=mode)
        for step, score in ((1, 0.5), (2, 0.9), (3, None), (4, 0.1), (5, 0.4), (6, None), (7, None)):
            checkpoints.save(step, tree(step), metadata(step), None if score is None else {"test/score": score})
        checkpoints.wait()
        assert checkpoints.steps() == [best, 6, 7]
        checkpoints.close()
        again = Checkpoints(tmp_path / mode, keep=2, best="test/score", best_mode=mode)
        again.save(8, tree(8), metadata(8))
        again.wait()
        assert again.steps() == [best, 7, 8], "reopened, the best is still kept"


def test_digests_do_not_depend_on_sharding_and_see_every_bit():
    one = as_text(digests(tree(5)))
    assert one == as_text(digests(tree(5, 8, PartitionSpec("data"))))
    values = np.asarray(tree(5)["kernel"])
    swapped = values.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    flipped = values.copy()
    flipped.view(np.uint32)[3, 3] ^= 1
    negative_zero = np.where(values == values[0, 0], 0.0, values).astype(np.float32)
    other_zero = np.where(negative_zero == 0, -0.0, negative_zero).astype(np.float32)
    texts = [as_text(digests(jnp.asarray(x)))[""] for x in (values, swapped, flipped, negative_zero, other_zero)]
    assert len(set(texts)) == 5


def test_digest_is_the_documented_function():
    """The same sums, written with NumPy's wrapping integers."""

    def mix(x):
        x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
        return x ^ (x >> np.uint32(16))

    values = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    position = np.arange(21, dtype=np.uint32)
    sums = [
        np.sum(mix(values.view(np.uint32).ravel() ^ mix(position + np.uint32(salt))), dtype=np.uint32)
        for salt in (0x9E3779B9, 0x85EBCA6B)
    ]
    assert as_text(digests(jnp.asarray(values)))[""] == f"{sums[0]:08x}{sums[1]:08x}"


# Reading a broken checkpoint leaves exceptions in TensorStore's threads, which would fail this very process.
DAMAGE = """
import json, pathlib, sys
import jax, jax.numpy as jnp
from jax.sharding import SingleDeviceSharding
from vision.errors import UserError
from vision.training.checkpoint import Checkpoints
here = SingleDeviceSharding(jax.devices()[0])
target = {"w": jax.ShapeDtypeStruct((64, 64), jnp.float32, sharding=here)}
folder = pathlib.Path(sys.argv[1])
if sys.argv[2] == "save":
    checkpoints = Checkpoints(folder)
    for step in (1, 2, 3):
        checkpoints.save(step, {"w": jax.random.normal(jax.random.key(step), (64, 64))}, {"step": step})
    checkpoints.wait()
else:
    notes = []
    try:
        state, metadata = Checkpoints(folder, note=notes.append).restore_newest(target)
        equal = bool((state["w"] == jax.random.normal(jax.random.key(metadata["step"]), (64, 64))).all())
        print(json.dumps({"step": metadata["step"], "equal": equal, "notes": notes}))
    except UserError as error:
        print(json.dumps({"error": str(error), "notes": notes}))
"""


def run_child(folder, what):
    done = subprocess.run(
        [sys.executable, "-c", DAMAGE, str(folder), what],
        cwd=REPOSITORY,
        env=child_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout else None


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pristine") / "checkpoints"
    run_child(folder, "save")
    return folder


def data_files(folder, step):
    """The files that hold array bytes: the largest of the checkpoint."""
    files = [path for path in (folder / str(step) / "state").rglob("*") if path.is_file() and "/d/" in str(path)]
    return sorted(files, key=lambda path: path.stat().st_size)


def flip(path):
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(255 - byte for byte in content[middle : middle + 64])
    path.write_bytes(content)


DAMAGES = {
    "flipped bytes": lambda folder: flip(data_files(folder, 3)[-1]),
    "truncated": lambda folder: os.truncate(data_files(folder, 3)[-1], 100),
    "a file gone": lambda folder: data_files(folder, 3)[-1].unlink(),
    "metadata truncated": lambda folder: os.truncate(next((folder / "3" / "metadata").rglob("metadata")), 10),
    "metadata gone": lambda folder: next((folder / "3" / "metadata").rglob("metadata")).unlink(),
    "another step's arrays": lambda folder: shutil.copytree(
        folder / "2" / "state", folder / "3" / "state", dirs_exist_ok=True
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_newest_is_reported_and_the_one_before_used(pristine, tmp_path, damage):
    folder = tmp_path / "checkpoints"
    shutil.copytree(pristine, folder)
    DAMAGES[damage](folder)
    result = run_child(folder, "load")
    assert result["step"] == 2, result
    assert result["equal"]
    assert len(result["notes"]) == 1
    assert "checkpoint 3" in result["notes"][0]
    assert (tmp_path / "damaged" / "3").is_dir(), "set aside, not deleted"


def test_never_from_scratch_when_every_checkpoint_is_bad(pristine, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(pristine, folder)
    for step in (1, 2, 3):
        flip(data_files(folder, step)[-1])
    result = run_child(folder, "load")
    assert "no good checkpoint left" in result["error"]
    assert len(result["notes"]) == 3
    again = run_child(folder, "load")
    assert "no good checkpoint left" in again["error"], "nor the second time, when a scheduler tries again"


def test_half_written_checkpoint_is_ignored_and_cleaned_up(pristine, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(pristine, folder)
    (folder / "3").rename(folder / "3.orbax-checkpoint-tmp")
    assert run_child(folder, "load")["step"] == 2
    assert not (folder / "3.orbax-checkpoint-tmp").exists()


def test_file_that_cannot_grow_is_a_clear_error_and_the_last_checkpoint_survives(tmp_path):
    """A limit on file sizes stands in for a full disk: the write fails in the same place."""
    code = textwrap.dedent("""
        import resource, signal, sys
        import jax
        from vision.errors import UserError
        from vision.training.checkpoint import Checkpoints
        checkpoints = Checkpoints(sys.argv[1])
        checkpoints.save(1, {"w": jax.numpy.ones(10)}, {"step": 1})
        checkpoints.wait()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        try:
            checkpoints.save(2, {"w": jax.random.normal(jax.random.key(0), (1000, 1000))}, {"step": 2})
            checkpoints.wait()
        except UserError as error:
            print(error)
        print(Checkpoints(sys.argv[1]).steps())
    """)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "c")],
        cwd=REPOSITORY,
        env=child_environment(),
        capture_output=True,
        text=True,
    )
    message, steps = done.stdout.strip().splitlines()[-2:]
    assert "cannot save" in message, done.stderr
    assert "the checkpoint of step 1 is safe" in message
    assert steps == "[1]"


def test_altered_metadata_is_noticed(pristine, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(pristine, folder)
    path = next((folder / "3" / "metadata").rglob("metadata"))
    path.write_text(path.read_text().replace('"step": 3', '"step": 2'))
    assert run_child(folder, "load")["step"] == 2
    assert (tmp_path / "damaged" / "3").is_dir()


def test_comparing_a_damaged_checkpoint_is_refused(pristine, tmp_path, program):
    shutil.copytree(pristine, tmp_path / "checkpoints")
    flip(data_files(tmp_path / "checkpoints", 3)[-1])
    done = program("tools.compare_checkpoints", tmp_path, tmp_path, check=2)
    assert "checkpoint 3" in done.stderr


def test_less_of_a_loss_is_better_unless_told_otherwise(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c", keep=1, best="test/loss")
    for step, loss in ((1, 0.9), (2, 0.1), (3, 0.5)):
        checkpoints.save(step, tree(step), metadata(step), {"test/loss": loss})
    checkpoints.wait()
    assert checkpoints.steps() == [2, 3]


def test_arrays_are_read_without_knowing_the_model(saved, tmp_path):
    step, arrays, data = load_arrays(tmp_path)
    assert step == 3
    assert data["step"] == 3
    assert set(arrays) == {"kernel", "half", "count", "flag"}
    np.testing.assert_array_equal(arrays["kernel"], tree(3)["kernel"])


def test_no_run_and_no_step_are_named(saved, tmp_path):
    with pytest.raises(UserError, match="is no run"):
        load_arrays(tmp_path / "nothing")
    with pytest.raises(UserError, match="has no step 9; it has 1, 2, 3"):
        load_arrays(tmp_path, 9)
