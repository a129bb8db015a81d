"""The benchmark: every suite runs to its end, and its file and table hold numbers that a person can trust."""

import json

import pytest

from tools import benchmark
from tools.benchmarks.rows import Row, Settings, table

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Every suite at its smallest, in a process of its own, which is what a maintainer runs."""
    import subprocess
    import sys

    from tests.conftest import REPOSITORY, child_environment
