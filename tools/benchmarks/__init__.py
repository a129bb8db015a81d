"""What ``tools/benchmark.py`` measures: one module for each suite, each with ``run(settings) -> rows``."""
