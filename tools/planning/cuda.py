"""NVIDIA cards as XLA describes them to its compiler (``GpuTargetConfigProto``), so that none need be there."""

# core_count, bytes of level-two cache and of memory, bytes a second; OpenXLA keeps such a file for each card, in
# xla/backends/gpu/target_config/specs.
_CARDS = {
    "h100": (132, 52_428_800, 85_028_896_768, 3_352_320_000_000, "NVIDIA H100 80GB HBM3"),
    "h200": (132, 62_914_560, 151_397_597_184, 4_800_000_000_000, "NVIDIA H200"),
}
_TEXT = """
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  threads_per_core_limit: 2048
  core_count: {cores}
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth}
  l2_cache_size: {cache}
  clock_rate_ghz: 1.98
  device_memory_size: {memory}
  cuda_compute_capability {{ major: 9 minor: 0 }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 8 }}
runtime_version {{ major: 12 minor: 8 }}
device_description_str: "{name}"
"""

CUDA = {
    kind: _TEXT.format(cores=cores, cache=cache, memory=memory, bandwidth=bandwidth, name=name)
    for kind, (cores, cache, memory, bandwidth, name) in _CARDS.items()
}


def topology_of(count: int, of_a_host: int) -> str:
    """Returns XLA's ``partitions x hosts x devices of a host`` of so many cards."""
    return f"1x{-(-count // of_a_host)}x{min(count, of_a_host)}"
