"""Exponents are the slopes of power laws, and every axis of the tool ends with a picture and a number."""

import json

import pytest

from tools.benchmarks.growth_axes import AXES, exponent


@pytest.mark.parametrize("power", [-1.0, 0.0, 1.47, 2.0])
def test_the_exponent_of_a_power_law_is_its_power(power):
    sizes = (3, 5, 40, 700)
    assert exponent(sizes, [7.0 * size**power for size in sizes]) == pytest.approx(power)


def test_constants_that_matter_for_small_sizes_do_not_count():
    sizes = (1, 10, 1000, 10_000, 100_000)
    assert exponent(sizes, [1.0 + 2.0 * size for size in sizes]) == pytest.approx(1.0, abs=1e-3)


def test_an_unknown_axis_is_named_with_the_nearest(program):
    assert "batch" in program("tools.growth", "--only", "bach", check=2).stderr


@pytest.mark.slow
def test_every_axis_has_its_line_and_its_picture(program, tmp_path):
    done = program("tools.growth", "--quick", "--out", str(tmp_path / "growth.html"), "--json")
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert {row["axis"] for row in rows} == set(AXES)
    (devices,) = (row for row in rows if row["line"] == "FLOPs")
    assert devices["exponent"] == pytest.approx(-1.0, abs=0.1)
    page = (tmp_path / "growth.html").read_text()
    assert page.count("<svg") == len(AXES)
