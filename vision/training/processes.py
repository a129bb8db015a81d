"""What several processes must do together: start JAX, and stop for an error that only one of them met."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import numpy as np

from vision.errors import UserError


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


def join(coordinator_address: str | None, num_processes: int, process_id: int) -> None:
    """Joins this process to the others of a run; alone it does nothing.

    Raises:
      UserError: the numbers do not fit, or the others are not to be found.
    """
    if not 0 <= process_id < num_processes:
        raise UserError(f"--process_id: must be in [0, --num_processes), got {process_id} of {num_processes}")
    if num_processes == 1:
        return
    if not coordinator_address:
        raise UserError("--num_processes needs --coordinator_address host:port")
    try:
        jax.distributed.initialize(coordinator_address, num_processes, process_id)
    except (RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"--coordinator_address {coordinator_address}: {reason}") from error


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
        raise error or UserError("another process of this run stopped; its message says why")


def check_same(text: str, what: str) -> None:
    """Raises a UserError on every process where they do not all have the same ``text``."""
    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    digest = np.frombuffer(hashlib.sha256(text.encode()).digest()[:8], np.int32)
    if len(np.unique(multihost_utils.process_allgather(digest), axis=0)) > 1:
        raise UserError(f"the processes of this run have different {what}; give them the same")
