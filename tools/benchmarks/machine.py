"""What a time depends on beside the code: the machine, the versions, the flags."""

import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint")


def describe() -> dict[str, Any]:
    """Returns the machine, its load now, versions, git revision and flags."""
    import jax

    from vision.training.workdir import git_revision

    flags = {name: value for name, value in sorted(os.environ.items()) if name in ("XLA_FLAGS", "JAX_PLATFORMS")}
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "load_average": [round(each, 2) for each in os.getloadavg()],
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind} ({jax.default_backend()})",
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "git_revision": git_revision(),
        "flags": flags,
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def lines(machine: dict[str, Any]) -> str:
    """Returns the description in three lines for people."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    flags = " ".join(f"{name}={value}" for name, value in machine["flags"].items()) or "no XLA flags"
    load = machine["load_average"][0]
    return (
        f"machine   {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}, "
        f"{machine['devices']}; load {load} before\n"
        f"versions  python {machine['python']}, {versions}; {flags}\n"
        f"revision  {machine['git_revision'] or 'not known'}, {machine['date']}"
    )


def _cpu_model() -> str:
    """The name that Linux gives the processor, or whatever Python knows of it."""
    path = Path("/proc/cpuinfo")
    named = (
        [line.partition(":")[2].strip() for line in path.read_text().splitlines() if line.startswith("model name")]
        if path.exists()
        else []
    )
    return named[0] if named else platform.processor() or platform.machine()
