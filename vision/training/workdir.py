"""A run's folder: who may write there, which config it belongs to, and what it ran on."""

import fcntl
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from vision.config.loading import flatten, plain
from vision.errors import ConfigError, UserError
from vision.training.schema import resolve

# Changing these does not change what is learned, up to the rounding of another topology. Of the data only the place
# is free; that it holds the same data is checked by their fingerprint.
FREE = (
    "mesh",
    "sharding",
    "steps_per_dispatch",
    "logging",
    "evals",
    "checkpoint",
    "limits",
    "data.data_dir",
    "data.residency",
    "data.workers",
    "data.tokens.tokenizer",
)
_PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "tensorflow-datasets",
    "numpy",
    "chex",
    "ml-collections",
)


@contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Holds the folder for this job; the lock goes with the process, however it ends.

    Raises:
      UserError: another job holds it, or the folder cannot be made.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        handle = open(workdir / "lock", "a+")  # noqa: SIM115 (held until the end of the run)
    except OSError as error:
        reason = "it is a file, not a folder" if workdir.is_file() else error.strerror or error
        raise UserError(f"--workdir {workdir}: {reason}") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.seek(0)
            holder = handle.read().strip() or "?"
            raise UserError(
                f"--workdir {workdir} is in use by process {holder}; wait for it, stop it, or choose another"
            ) from error
        handle.truncate(0)
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        yield


def claim(workdir: Path, config: Mapping[str, Any], *, started: bool) -> None:
    """Writes the resolved config into the folder, or checks that the one there learns the same.

    Args:
      workdir: the run's folder.
      config: resolved.
      started: whether the folder holds a checkpoint; before the first one, another config may take it over.

    Raises:
      UserError: the folder belongs to another config; the message names the keys that differ.
    """
    path = workdir / "config.json"
    if path.exists() and started:
        differing = differences(as_json(_completed(read_json(path))), as_json(config))
        if differing:
            shown = "; ".join(f"config.{key}: {old!r} there, {new!r} here" for key, old, new in differing[:5])
            raise UserError(
                f"--workdir {workdir} belongs to another config ({shown}); choose another --workdir or the same config"
            )
    write_json(path, config)


def _completed(config: Any) -> Any:
    """Returns an older run's config with the defaults of keys that are newer than it, where it still resolves."""
    try:
        return resolve(plain(config))
    except ConfigError:
        return config


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Returns ``(key, old, new)`` for each difference that changes what is learned."""
    flat_old, flat_new = flatten(old), flatten(new)
    keys = sorted(set(flat_old) | set(flat_new))
    return [
        (key, flat_old.get(key), flat_new.get(key))
        for key in keys
        if key not in FREE and key.split(".")[0] not in FREE and flat_old.get(key) != flat_new.get(key)
    ]


def environment(mesh_axes: Mapping[str, int], data_fingerprint: str) -> dict[str, Any]:
    """Returns what a result depends on beside its config."""
    return {
        "versions": {name: metadata.version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "device_kind": jax.devices()[0].device_kind,
        "platform": jax.default_backend(),
        "device_count": jax.device_count(),
        "process_count": jax.process_count(),
        "cpu_count": os.cpu_count(),
        "mesh": dict(mesh_axes),
        "git_revision": git_revision(),
        "data_fingerprint": data_fingerprint,
        "flags": {name: os.environ[name] for name in ("XLA_FLAGS", "JAX_PLATFORMS") if name in os.environ},
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def git_revision() -> str | None:
    """Returns the commit of this source tree, with ``+changes`` where files differ from it; None outside git."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        status = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+changes" if status.stdout.strip() else "")


def as_json(value: Any) -> Any:
    """Returns what ``value`` is after a round trip through JSON (tuples as lists)."""
    return json.loads(json.dumps(value))


def read_json(path: Path) -> Any:
    """Reads a JSON object.

    Raises:
      UserError: the file is missing or broken.
    """
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}; put it back or choose another --workdir") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object; put it back or choose another --workdir")
    return value


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    partial = path.with_suffix(".partial")
    try:
        partial.write_text(text)
        partial.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
