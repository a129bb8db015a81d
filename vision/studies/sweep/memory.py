"""What a compiled program takes of memory, and what there is."""

from typing import Any

import jax

_SHARE = 0.8  # of what is free; the rest is for what comes and goes


def needed_bytes(compiled: Any) -> int:
    """Returns the bytes of a compiled program on one device: arguments, results and what lies between."""
    stats = compiled.memory_analysis()
    if stats is None:  # not every backend says
        return 0
    sizes = stats.argument_size_in_bytes + stats.output_size_in_bytes + stats.temp_size_in_bytes
    return int(sizes - stats.alias_size_in_bytes)


def free_bytes() -> int:
    """Returns the bytes that may be taken of the first device, or of the host where it computes itself."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats:
        return int(_SHARE * (stats["bytes_limit"] - stats["bytes_in_use"]))
    return int(_SHARE * _free_of_the_host())


def _free_of_the_host() -> int:
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    raise RuntimeError("/proc/meminfo names no available memory")
