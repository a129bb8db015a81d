"""What several processes must do together: start JAX, and stop for an error that only one of them met."""

import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from vision.errors import UserError
from vision.training.clusters import Place, find
from vision.training.peers import Peers

JOIN_SECONDS = 300
_HEARTBEAT_SECONDS = 100
_LINES_SECONDS = 30  # for processes that have already met


def start_jax() -> None:
    """Starts JAX's backend.

    Raises:
      UserError: there are no devices of the kind that JAX_PLATFORMS asks for.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        asked = os.environ.get("JAX_PLATFORMS", "")
        reason = (str(error).splitlines() or ["no such devices"])[0]
        raise UserError(
            f"JAX does not start with JAX_PLATFORMS={asked!r}: {reason}; JAX_PLATFORMS=cpu always does"
        ) from error


def join(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    distributed: str = "auto",
    timeout: int = JOIN_SECONDS,
    note: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
) -> None:
    """Joins this process to the others of a run; alone it does nothing.

    Args:
      coordinator_address: ``host:port`` of process 0; with the next two, what the environment says does not count.
      num_processes: how many there are.
      process_id: which of them this is.
      distributed: where else to look, see :func:`vision.training.clusters.find`.
      timeout: seconds to wait for the others.
      note: told what was found.

    Raises:
      UserError: the numbers do not fit, or the others are not to be found.
    """
    place, text = _place(coordinator_address, num_processes, process_id, distributed)
    if text:
        note(text)
    if place is None or place.count == 1:
        return
    if place.count is not None:
        note(f"process {place.number} of {place.count} by {place.by}, the first at {place.address}")
    what = f"--coordinator_address {coordinator_address}" if coordinator_address else f"the processes by {place.by}"
    # Otherwise JAX takes SIGTERM for itself until training begins, and a run that is starting cannot be stopped.
    jax.config.update("jax_enable_preemption_service", False)
    options: dict[str, Any] = {"initialization_timeout": timeout, "heartbeat_timeout_seconds": _HEARTBEAT_SECONDS}
    if place.count is not None:
        options |= {"coordinator_address": place.address, "num_processes": place.count, "process_id": place.number}
        # Where JAX's own detection also knows the launcher, it would choose the devices by its own lights.
        options |= {"cluster_detection_method": "deactivate", "local_device_ids": place.device}
    try:
        if place.count is not None:
            peers: Peers | None = Peers(str(place.address), place.count, place.number, timeout=timeout)
            jax.distributed.initialize(**options)
        else:
            jax.distributed.initialize(**options)
            peers = _peers_of_jax(note)
        if peers is not None:
            peers.watch()
    except UserError as error:
        raise UserError(f"{what}: {error}") from error
    except (RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{what}: {reason}") from error
    if place.count is None and jax.process_count() > 1:
        note(f"process {jax.process_index()} of {jax.process_count()} by {place.by}")


def _peers_of_jax(note: Callable[[str], None]) -> Peers | None:
    """Opens the lines between processes that JAX found: to the host of its coordinator, at the port after its own."""
    from jax._src import distributed  # there is no public name for what it found

    state = getattr(distributed, "global_state", None)
    names = ("coordinator_address", "num_processes", "process_id")
    address, count, number = (getattr(state, name, None) for name in names)
    if count == 1:
        return None
    try:
        found = re.fullmatch(r"(.+):(\d+)", str(address))
        if found is None or count is None or number is None:
            raise UserError("this version of JAX does not tell where the first is")
        return Peers(f"{found[1]}:{int(found[2]) + 1}", count, number, timeout=_LINES_SECONDS)
    except UserError as error:
        note(f"a process that is killed will be noticed after {_HEARTBEAT_SECONDS} s, no sooner: {error}")
        return None


def _place(address: str | None, count: int | None, number: int | None, distributed: str) -> tuple[Place | None, str]:
    """What the three flags say or, where none is given, the environment."""
    if address is None and count is None and number is None:
        return find(distributed)
    count, number = 1 if count is None else count, 0 if number is None else number
    if not 0 <= number < count:
        raise UserError(f"--process_id: must be in [0, --num_processes), got {number} of {count}")
    if count > 1 and not address:
        raise UserError("--num_processes needs --coordinator_address host:port")
    if count > 1 and not re.fullmatch(r".+:\d+", str(address)):
        raise UserError(f"--coordinator_address: must be host:port, got {address!r}")
    return Place("the command line", count, number, address), ""


def check_alone(what: str) -> None:
    """Raises a UserError where a launcher started several of a program that works in one process."""
    place, _ = find()
    if place is not None and place.count is not None and place.count > 1:
        raise UserError(
            f"{what} works in one process, with all its devices, and {place.by} started {place.count}: start it once"
        )


@contextmanager
def together() -> Iterator[None]:
    """Runs a block without collectives on every process; a UserError of one ends it on all."""
    error: UserError | None = None
    try:
        yield
    except UserError as mine:
        error = mine
    failed = error is not None
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        failed = bool(np.max(multihost_utils.process_allgather(np.int32(failed))))
    if failed:
        error = error or UserError("another process of this run stopped; its message says why")
        error.shared = True
        raise error


def check_same(text: str, what: str) -> None:
    """Raises a UserError on every process where they do not all have the same ``text``."""
    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    digest = np.frombuffer(hashlib.sha256(text.encode()).digest()[:8], np.int32)
    if len(np.unique(multihost_utils.process_allgather(digest), axis=0)) > 1:
        error = UserError(f"the processes of this run have different {what}; give them the same")
        error.shared = True
        raise error
