"""What accelerators can do at their best, as their makers publish it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Chip:
    """The published peaks of one chip.

    Attributes:
      name: short, such as ``v5e``.
      flops: a second, of dense bfloat16 products (a multiplication and an addition count two).
      bandwidth: of its memory, bytes a second.
      memory: bytes.
      links: bytes a second that it sends to other chips of the same pod or host, over all links, in one direction.
    """

    name: str
    flops: float
    bandwidth: float
    memory: int
    links: float


# TPUs: Google Cloud's page of each version ("system architecture"); GPUs: NVIDIA's data sheets, SXM, without sparsity.
# Both give links in two directions together, such as 400 GB/s of v5e and 900 GB/s of NVLink; here is one of the two.
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", 275e12, 1228e9, 32 * 2**30, 300e9),
        Chip("v5e", 197e12, 819e9, 16 * 2**30, 200e9),
        Chip("v5p", 459e12, 2765e9, 95 * 2**30, 600e9),
        Chip("v6e", 918e12, 1640e9, 32 * 2**30, 400e9),
        Chip("a100", 312e12, 2039e9, 80 * 10**9, 300e9),
        Chip("h100", 989e12, 3350e9, 80 * 10**9, 450e9),
        Chip("h200", 989e12, 4800e9, 141 * 10**9, 450e9),
    )
}
# Beginnings of what JAX calls a device of each kind (``device.device_kind``), the longer ones first.
_KINDS = {
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5p": "v5p",
    "TPU v5": "v5p",
    "TPU v6": "v6e",
    "NVIDIA A100-SXM4-80GB": "a100",
    "NVIDIA H100 80GB HBM3": "h100",  # the SXM card; that for PCIe has another name, and other peaks
    "NVIDIA H200": "h200",
}


def chip_of(device_kind: str) -> Chip | None:
    """Returns the chip that JAX calls by this name; None for one whose peaks are not known, such as a CPU."""
    for beginning, name in _KINDS.items():
        if device_kind.startswith(beginning):
            return CHIPS[name]
    return None
