"""Checkpoints: the whole state, with what is needed to trust and to understand it. Orbax is known here alone."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import jax
import orbax.checkpoint as ocp
from absl import logging as absl_logging
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import preservation_policy

from vision.errors import UserError, did_you_mean
from vision.training.digest import as_text, digests
from vision.training.early_stopping import mode_of
from vision.training.rules import path_of

PyTree = Any
Note = Callable[[str], None]
# Truncated files surface from Orbax and TensorStore as ValueError, OSError, KeyError and, in places, bare Exception.
_UNREADABLE = Exception
_NOT_SAVED = (OSError, ValueError, RuntimeError)
_SPARE_BYTES = 2**20  # metadata, and files that grow beside the checkpoint


class Damaged(UserError):
    """A checkpoint that cannot be read, or whose arrays are not those that were saved."""


class Checkpoints:
    """The checkpoints of one run, saved in the background, newest last.

    Beside the state each has ``metadata``: the digests of its arrays and whatever the caller gives.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        keep: int = 3,
        best: str | None = None,
        best_mode: Literal["max", "min"] | None = None,
        note: Note = lambda text: print(text, file=sys.stderr),
        read_only: bool = False,
    ):
        """Opens (and creates) a folder of checkpoints.

        Args:
          directory: the folder.
          keep: how many of the newest to keep.
          best: name of a metric; the checkpoint with its best value is kept too.
          best_mode: whether more or less of it is better; None takes less of what ends in loss or error.
          note: where problems are reported that did not stop anything.
          read_only: neither create nor clean up.
        """
        absl_logging.set_verbosity(absl_logging.FATAL)  # what fails in Orbax's threads is raised again here
        self.directory = Path(directory).absolute()
        self._damaged = self.directory.parent / "damaged"
        self._note = note
        self._metric = best
        policies: list[preservation_policy.PreservationPolicy] = [preservation_policy.LatestN(keep)]
        options: dict[str, Any] = {}
        if best is not None:
            best_mode = mode_of(best, best_mode)
            options = {"best_fn": self._value, "best_mode": best_mode}
            policies.append(
                preservation_policy.BestN(
                    get_metric_fn=self._value, reverse=best_mode == "min", n=1, keep_checkpoints_without_metrics=False
                )
            )
        self._options = ocp.CheckpointManagerOptions(
            preservation_policy=preservation_policy.AnyPreservationPolicy(policies),
            cleanup_tmp_directories=not read_only,
            create=not read_only,
            read_only=read_only,
            **options,
        )
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        return ocp.CheckpointManager(self.directory, options=self._options, item_names=("state", "metadata"))

    def _value(self, metrics: Mapping[str, float]) -> float:
        return metrics[self._metric] if self._metric else 0.0

    def steps(self) -> list[int]:
        """Returns the steps of finished checkpoints, oldest first."""
        return sorted(self._manager.all_steps())

    def started(self) -> bool:
        """Whether a run has saved here before, even if every checkpoint has been set aside as damaged since."""
        return bool(self.steps()) or self._damaged.is_dir()

    def save(
        self, step: int, state: PyTree, metadata: Mapping[str, Any], metrics: Mapping[str, float] | None = None
    ) -> None:
        """Starts saving and returns once the state has been copied off its devices.

        Raises:
          UserError: this or the previous save failed, for instance on a full disk.
        """
        sums = digests(state)
        self.wait()
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        if shutil.disk_usage(self.directory).free < size + _SPARE_BYTES:
            raise self._not_saved(step, OSError(f"the disk is full, {size / 2**20:.1f} MiB are needed"))
        try:
            arrays = {
                path_of(path): {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}
                for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
            }
            for path, digest in as_text(sums).items():
                arrays[path]["digest"] = digest
            whole = {**metadata, "arrays": arrays}
            best = self._metric
            ranked = {best: float(metrics[best])} if best and metrics and best in metrics else None
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    metadata=ocp.args.JsonSave({**whole, "digest": _digest_of_json(whole)}),
                ),
                metrics=ranked,
                force=True,
            )
        except _NOT_SAVED as error:
            raise self._not_saved(step, error) from error

    def drop_after(self, step: int) -> None:
        """Deletes the checkpoints of later steps, so that ``step`` is the newest."""
        self.wait()
        for later in self.steps():
            if later > step:
                self._manager.delete(later)

    def warm_up(self, state: PyTree) -> None:
        """Compiles the digests of such a state, so that the first save holds up training no longer than the others."""
        jax.block_until_ready(digests(state))

    def wait(self) -> None:
        """Returns when the save in the background is on disk.

        Raises:
          UserError: it failed.
        """
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except _NOT_SAVED as error:
            raise self._not_saved(None, error) from error

    def saving(self) -> bool:
        """Whether a save is still on its way to disk."""
        return bool(self._manager.is_saving_in_progress())

    def close(self) -> None:
        """Ends the background work. A save that fails only now is not reported: call :meth:`wait` first to know."""
        with suppress(*_NOT_SAVED):
            self._manager.close()

    def _not_saved(self, step: int | None, error: Exception) -> UserError:
        what = "a checkpoint" if step is None else f"the checkpoint of step {step}"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        survivors = [s for s in sorted(ocp.utils.checkpoint_steps(self.directory)) if s != step]
        left = f"the checkpoint of step {survivors[-1]} is safe" if survivors else "there is no earlier checkpoint"
        free = shutil.disk_usage(self.directory).free / 2**20
        return UserError(f"cannot save {what} in {self.directory} ({free:.0f} MiB free): {reason}; {left}")

    def metadata(self, step: int) -> dict[str, Any]:
        """Returns what was saved beside the state.

        Raises:
          Damaged: it cannot be read.
        """
        try:
            restored = self._manager.restore(step, args=ocp.args.Composite(metadata=ocp.args.JsonRestore()))
            metadata = dict(restored["metadata"])
        except _UNREADABLE as error:
            raise Damaged(f"checkpoint {step} in {self.directory} cannot be read: {_first_line(error)}") from error
        if metadata.pop("digest", None) != _digest_of_json(metadata):
            raise Damaged(f"checkpoint {step} in {self.directory} was altered: digest of its metadata differs")
        return metadata

    def restore(self, abstract: PyTree, step: int) -> tuple[PyTree, dict[str, Any]]:
        """Returns ``(state, metadata)`` of one checkpoint, onto the shapes, types and shardings of ``abstract``.

        Raises:
          UserError: the checkpoint holds other arrays than ``abstract``; the message says which on which side.
          Damaged: it cannot be read, or an array's digest is not the one that was saved.
        """
        metadata = self.metadata(step)
        saved = metadata.get("arrays", {})
        _check_same_arrays(saved, abstract, step)
        try:
            state = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract)))[
                "state"
            ]
        except _UNREADABLE as error:
            raise Damaged(f"checkpoint {step} in {self.directory} cannot be read: {_first_line(error)}") from error
        self.check_digests(state, metadata, step)
        return state, metadata

    def check_digests(self, state: PyTree, metadata: Mapping[str, Any], step: int) -> None:
        """Raises Damaged, naming them, where arrays are not those that ``metadata`` was saved with."""
        saved = metadata["arrays"]
        altered = [path for path, digest in as_text(digests(state)).items() if digest != saved[path]["digest"]]
        if altered:
            raise Damaged(
                f"checkpoint {step} in {self.directory} was altered: digest of {', '.join(altered[:3])} differs"
            )

    def restore_newest(self, abstract: PyTree) -> tuple[PyTree, dict[str, Any]] | None:
        """Returns the newest good checkpoint, or None where there is none at all.

        Damaged ones are reported and set aside in ``damaged/`` beside the folder.

        Raises:
          UserError: there are checkpoints, but none is good; training never starts over silently.
        """
        problems = []
        for step in reversed(self.steps()):
            try:
                return self.restore(abstract, step)
            except Damaged as error:
                self._note(f"warning: {error}; trying the one before it")
                problems.append(str(error))
                self._set_aside(step)
        if self.started():
            found = f" ({problems[0]})" if problems else ""
            raise UserError(
                f"no good checkpoint left in {self.directory}{found}; the damaged ones are in {self._damaged}; "
                "choose another --workdir to start over"
            )
        return None

    def _set_aside(self, step: int) -> None:
        if jax.process_index() == 0:
            target = self._damaged / str(step)
            target.parent.mkdir(exist_ok=True)
            if target.exists():
                shutil.rmtree(target)
            shutil.move(self.directory / str(step), target)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"checkpoint {step} set aside")
        self._manager.reload()


def _check_same_arrays(saved: Mapping[str, Any], abstract: PyTree, step: int) -> None:
    wanted = {path_of(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(abstract)[0]}
    only_saved, only_wanted = sorted(set(saved) - set(wanted)), sorted(set(wanted) - set(saved))
    differing = [
        f"{path} (saved {saved[path]['dtype']}{saved[path]['shape']}, wanted {leaf.dtype}{list(leaf.shape)})"
        for path, leaf in wanted.items()
        if path in saved and (saved[path]["shape"] != list(leaf.shape) or saved[path]["dtype"] != str(leaf.dtype))
    ]
    parts = [
        f"{label}: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
        for label, names in (
            ("only in the checkpoint", only_saved),
            ("only in the run", only_wanted),
            ("other", differing),
        )
        if names
    ]
    if parts:
        raise UserError(f"checkpoint {step} does not fit this run; {'; '.join(parts)}")


def load_arrays(workdir: str | Path, step: int | None = None) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Reads one checkpoint of a run as NumPy arrays, whatever model it is of.

    Returns:
      ``(step, {path: array}, metadata)``.

    Raises:
      UserError: there is no such run or step, or it is damaged.
    """
    directory = Path(workdir) / "checkpoints"
    checkpoints = open_existing(workdir)
    chosen = pick_step(checkpoints, step)
    metadata = checkpoints.metadata(chosen)
    try:
        tree = _restore_here(directory.absolute() / str(chosen) / "state")
    except _UNREADABLE as error:
        raise Damaged(f"checkpoint {chosen} in {directory} cannot be read: {_first_line(error)}") from error
    flat = {path_of(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(jax.device_get(tree))[0]}
    checkpoints.check_digests(flat, metadata, chosen)
    return chosen, flat, metadata


def _restore_here(path: Path) -> PyTree:
    """Reads arrays onto the first device, whatever devices and processes they were saved from."""
    with ocp.StandardCheckpointer() as checkpointer:
        described = checkpointer.metadata(path).item_metadata.tree
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), described)
        return checkpointer.restore(path, target)


def open_existing(workdir: str | Path) -> Checkpoints:
    """Returns the checkpoints of a run for reading.

    Raises:
      UserError: there is no such run.
    """
    directory = Path(workdir) / "checkpoints"
    if not directory.is_dir():
        near = [str(path.parent) for path in Path(workdir).parent.glob("*/checkpoints")]
        raise UserError(f"{workdir} is no run: it has no folder checkpoints{did_you_mean(str(workdir), near)}")
    return Checkpoints(directory, read_only=True)


def pick_step(checkpoints: Checkpoints, step: int | None) -> int:
    """Returns ``step``, or the newest; a UserError names those that exist."""
    steps = checkpoints.steps()
    if not steps:
        raise UserError(f"{checkpoints.directory} holds no checkpoint")
    if step is not None and step not in steps:
        raise UserError(f"{checkpoints.directory} has no step {step}; it has {', '.join(map(str, steps))}")
    return steps[-1] if step is None else step


def _digest_of_json(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
