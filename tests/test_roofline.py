"""The steps that are compiled beside other projects' are configs that resolve, and mistakes are told in a line."""

import pytest

from tools.planning.chips import has_compiler, read_target
from tools.roofline import CASES, config_of


@pytest.mark.parametrize("name", CASES)
def test_cases_are_configs(name):
    config = config_of(CASES[name], 4, "full")
    assert config["batch_size"] == 4 * CASES[name].batch
    if name.startswith("vit"):
        assert config["model"]["remat"] == "full"
    assert "bfloat16" in config["precision"]


def test_an_unknown_case_is_named_with_the_nearest(program):
    assert "vit_s16" in program("tools.roofline", "vit_s61", check=2).stderr


@pytest.mark.skipif(has_compiler(read_target("v5e:2x2")), reason="the compiler is there")
def test_without_the_compiler_the_tool_says_what_to_install(program):
    assert "plan-tpu" in program("tools.roofline", check=2).stderr
