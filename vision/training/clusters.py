"""What a launcher told this process of the others, read from the environment.

JAX has such a detection of its own, which is left to work where only it can, on Cloud TPUs. That of SLURM and of Open
MPI is read here, because JAX's takes a shell inside an allocation for one of several tasks and then waits for ever,
and shows a task that is alone on its host only the first of the host's GPUs.
"""

import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from vision.errors import UserError, did_you_mean

WAYS = ("auto", "off", "slurm", "openmpi", "tpu")
_PORTS = 2**12  # the last ones of 16 bits, which JAX takes its own from


@dataclass(frozen=True)
class Place:
    """Where a process stands among those of its run.

    Attributes:
      by: who started them, for people.
      count: how many there are; None is known to the TPUs alone.
      number: which of them this is.
      address: ``host:port`` of the first.
      device: which of the host's accelerators is this process's, or None for all of them.
    """

    by: str
    count: int | None = 1
    number: int = 0
    address: str | None = None
    device: int | None = None


def find(way: str = "auto", environment: Mapping[str, str] | None = None) -> tuple[Place | None, str]:
    """Returns the place that the environment gives this process, and what people should know of it.

    Args:
      way: one of WAYS; ``auto`` takes the first that the environment has.
      environment: the variables, by default those of this process, once JAX is imported.

    Returns:
      ``(place, note)``; no place is a process that is alone.

    Raises:
      UserError: no such way, the environment does not have it, or what it says makes no sense.
    """
    if way not in WAYS:
        raise UserError(f"--distributed: no way {way!r}{did_you_mean(way, WAYS)}; known: {', '.join(WAYS)}")
    given = os.environ if environment is None else environment
    finders = {"slurm": _slurm, "openmpi": _open_mpi, "tpu": _tpu}
    if way == "off":
        return None, ""
    if way != "auto":
        place, note = finders[way](given)
        if place is None:
            raise UserError(f"--distributed {way}: {note or 'the environment has none of its variables'}; see --help")
        return place, note
    notes = []
    for finder in finders.values():
        place, note = finder(given)
        if place is not None:
            return place, note
        notes.append(note)
    return None, "; ".join(filter(None, notes))


def _slurm(given: Mapping[str, str]) -> tuple[Place | None, str]:
    """A task of a job step; JAX's documentation has the variables, and ``man srun`` what they hold."""
    if "SLURM_JOB_ID" not in given:
        return None, ""
    tasks = given.get("SLURM_STEP_NUM_TASKS") or given.get("SLURM_NTASKS", "1")
    if "SLURM_STEP_NODELIST" not in given:
        if tasks.isdecimal() and int(tasks) > 1:
            return None, f"one process in the shell of a SLURM job of {tasks} tasks; srun starts it in all of them"
        return None, ""
    count, number = _number(tasks, "SLURM_STEP_NUM_TASKS"), _number(given.get("SLURM_PROCID"), "SLURM_PROCID")
    job, step = _number(given["SLURM_JOB_ID"], "SLURM_JOB_ID"), given.get("SLURM_STEP_ID", "0")
    offset = job + (int(step) if step.isdecimal() else 0)  # two steps of one job do not share a port
    address = f"{first_host(given['SLURM_STEP_NODELIST'])}:{_port(given, offset)}"
    device = _number(given.get("SLURM_LOCALID"), "SLURM_LOCALID") if _tasks_here(given) > 1 else None
    return Place("SLURM", count, number, address, device), ""


def _tasks_here(given: Mapping[str, str]) -> int:
    """How many tasks SLURM put on this host, from a list such as ``2(x3),1``."""
    counts: list[int] = []
    for tasks, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", given.get("SLURM_STEP_TASKS_PER_NODE", "1")):
        counts += [int(tasks)] * int(times or 1)
    node = given.get("SLURM_NODEID", "0")
    return counts[int(node)] if node.isdecimal() and int(node) < len(counts) else max(counts, default=1)


def first_host(nodes: str) -> str:
    """Returns the first host of a list in SLURM's notation, such as ``node[007-015,020],other``."""
    found = re.match(r"([^,\[]+)(?:\[([^,\-\]]+)[^\]]*\]([^,\[]*))?", nodes)
    if found is None:
        raise UserError(f"SLURM_STEP_NODELIST: not a list of hosts: {nodes!r}")
    return found[1] + (found[2] or "") + (found[3] or "")


def _open_mpi(given: Mapping[str, str]) -> tuple[Place | None, str]:
    """A rank that mpirun of Open MPI started; from version 5 on it no longer says where the first one is."""
    if "OMPI_COMM_WORLD_SIZE" not in given:
        return None, ""
    count = _number(given["OMPI_COMM_WORLD_SIZE"], "OMPI_COMM_WORLD_SIZE")
    number = _number(given.get("OMPI_COMM_WORLD_RANK"), "OMPI_COMM_WORLD_RANK")
    here = _number(given.get("OMPI_COMM_WORLD_LOCAL_SIZE", "1"), "OMPI_COMM_WORLD_LOCAL_SIZE")
    device = _number(given.get("OMPI_COMM_WORLD_LOCAL_RANK"), "OMPI_COMM_WORLD_LOCAL_RANK") if here > 1 else None
    if count == 1:
        return Place("Open MPI"), ""
    uri = given.get("OMPI_MCA_orte_hnp_uri", "")
    host = re.search(r"tcp://([^,:]+)|tcp6://\[([^,\]]+)", uri)
    if host:
        name = host[1] or f"[{host[2]}]"
        address = f"{name}:{_port(given, _number(uri.split('.')[0], 'OMPI_MCA_orte_hnp_uri') // 2**12)}"
    elif here == count:
        job = given.get("PMIX_NAMESPACE") or given.get("OMPI_MCA_ess_base_jobid", "")
        address = f"127.0.0.1:{_port(given, zlib.crc32(job.encode()))}"
    else:
        raise UserError(
            f"mpirun started {count} processes and does not say where the first is; give --coordinator_address, "
            "--num_processes $OMPI_COMM_WORLD_SIZE and --process_id $OMPI_COMM_WORLD_RANK"
        )
    return Place("Open MPI", count, number, address, device), ""


def _tpu(given: Mapping[str, str]) -> tuple[Place | None, str]:
    """A host of Cloud TPUs. JAX, once imported, says by TPU_SKIP_MDS_QUERY that a machine has no chips."""
    platforms = given.get("JAX_PLATFORMS", "")
    hosts = given.get("TPU_WORKER_HOSTNAMES", "")
    if (platforms and "tpu" not in platforms.split(",")) or not find_spec("libtpu"):
        return None, ""
    if "," not in hosts and "TPU_SKIP_MDS_QUERY" in given:
        return None, ""
    return Place("the TPU's metadata", count=None), ""


def _port(given: Mapping[str, str], offset: int) -> int:
    asked = given.get("JAX_COORDINATOR_PORT")
    return _number(asked, "JAX_COORDINATOR_PORT") if asked else 2**16 - _PORTS + offset % _PORTS


def _number(text: str | None, name: str) -> int:
    if text is None or not text.isdecimal():
        said = "is not set" if text is None else f"is {text!r}, no number"
        raise UserError(f"{name} {said}; start all processes the same way, or with --distributed off")
    return int(text)
