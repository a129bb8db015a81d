"""What the tests of weight files share."""

import tracemalloc

import pytest

from vision.errors import UserError
from vision.interop.files import read_weights


def refused(path, *parts, **options):
    """Reads, expects one sentence with these parts, and returns the peak of what Python allocated for it."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as caught:
            read_weights(path, **options)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    text = str(caught.value)
    assert "\n" not in text
    for part in parts:
        assert part in text
    return peak
