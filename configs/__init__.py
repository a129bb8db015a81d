"""Experiments: one file each, ``get_config() -> ConfigDict``, with its command and its expected result."""
