"""What all tests share: runtime shape checks, eight CPU devices, a compilation cache, the digits prepared once."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Eight devices; and tests compile far more than they compute, which is faster without LLVM's optimizations. Programs
# that tests start have neither flag, and whoever sets a level keeps it, as CI does for the slow tests.
_FLAGS = "--xla_force_host_platform_device_count=8"
if "xla_backend_optimization_level" not in os.environ.get("XLA_FLAGS", ""):
    _FLAGS += " --xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}".strip()
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
_SCRATCH = Path(tempfile.gettempdir()) / f"functional-vision-tests-{os.getuid()}"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_SCRATCH / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# A worker of pytest-xdist inherits the folder below; what the user named is kept beside it.
_TFDS = os.environ.setdefault("TESTS_TFDS_DATA_DIR", os.environ.get("TFDS_DATA_DIR", ""))
# Fresh for every session, so that a broken builder cannot hide behind what an earlier one prepared.
_PREPARED = os.environ.setdefault("TESTS_PREPARED_DIR", "") or tempfile.mkdtemp(prefix="functional-vision-tfds-")
os.environ["TESTS_PREPARED_DIR"] = os.environ["TFDS_DATA_DIR"] = _PREPARED

from jaxtyping import install_import_hook  # noqa: E402

_HOOK = install_import_hook("vision", "beartype.beartype")

import jax  # noqa: E402
import ml_collections  # noqa: E402
import pytest  # noqa: E402

REPOSITORY = Path(__file__).parent.parent


def pytest_configure(config):
    """Prepares the digits once, before the workers start."""
    if not hasattr(config, "workerinput"):
        code = "from vision.data.sources import Opener; Opener('digits')('test')"
        subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, env=child_environment(), check=True)


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        shutil.rmtree(_PREPARED, ignore_errors=True)


@pytest.fixture
def program():
    """Runs a program of the repository in a process of its own, on one device unless told otherwise."""

    def run(*arguments, devices: int = 1, check: int | None = 0, timeout: float = 300, environment=None, **options):
        done = subprocess.run(
            [sys.executable, "-m", *map(str, arguments)],
            cwd=options.pop("cwd", REPOSITORY),
            env=child_environment(devices) | (environment or {}),
            capture_output=True,
            text=True,
            timeout=timeout,
            **options,
        )
        if check is not None:
            assert done.returncode == check, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


def child_environment(devices: int = 1) -> dict[str, str]:
    """The environment of a child process: no runtime checks, the asked number of devices."""
    flags = f"--xla_force_host_platform_device_count={devices}" if devices > 1 else ""
    return {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(REPOSITORY)}


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of prepared data sets that TFDS_DATA_DIR named when the tests were started."""
    if not _TFDS or not Path(_TFDS).is_dir():
        pytest.skip("TFDS_DATA_DIR names no folder of prepared data sets")
    return Path(_TFDS)


def mesh_of(count: int, **axes: int) -> jax.sharding.Mesh:
    """A mesh over the first devices: all on the data axis unless axes are given."""
    from vision.training.sharding import AXES

    sizes = {"data": count, "fsdp": 1, "tensor": 1} | axes
    kinds = (jax.sharding.AxisType.Auto,) * len(AXES)
    return jax.make_mesh(tuple(sizes[axis] for axis in AXES), AXES, axis_types=kinds, devices=jax.devices()[:count])


@pytest.fixture
def tiny_config() -> ml_collections.ConfigDict:
    """A config of one's own to change; see :func:`tiny`."""
    return tiny()


class Killed(Exception):
    """Leaves the loop at once, as a crash would."""


def killed() -> None:
    """What a run is interrupted by, as one of its ``at_step``."""
    raise Killed


def tiny() -> ml_collections.ConfigDict:
    """A run of a few steps on the digits that has everything a run can have."""
    return ml_collections.ConfigDict(
        {
            "batch_size": 64,
            "duration": {"steps": 12},
            "data": {"name": "digits", "augment": ({"name": "random_shift", "pixels": 1},)},
            "model": {"name": "mlp/128", "hidden_sizes": (16,), "dropout": 0.2},
            "objective": {"name": "classify"},
            "optimizer": {"name": "adamw", "learning_rate": 1e-2, "weight_decay": 0.01},
            "ema": {"decay": 0.9},
            "evals": {"test": {"name": "classification", "split": "test", "batch_size": 64, "every": {"steps": 6}}},
            "checkpoint": {"every": {"steps": 4}},
            "logging": {"every": {"steps": 5}, "tensorboard": False},
        }
    )
