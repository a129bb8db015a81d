"""What the compiled train steps do is held against stored budgets; a change that costs a tenth more is seen."""

import json

import jax
import pytest

from tools.benchmarks.small_configs import names, small
from tools.budgets import FILE, SLACK, beyond, counted, counts_of
from vision.training.schema import resolve

STORED = json.loads(FILE.read_text())
of_this_jax = pytest.mark.skipif(
    STORED["jax"] != jax.__version__, reason=f"the budgets are of jax {STORED['jax']}, this is {jax.__version__}"
)


def test_every_config_has_a_budget():
    assert sorted(STORED["configs"]) == names()


@of_this_jax
def test_a_config_within_its_budget_passes_and_a_doubled_layer_does_not():
    budget = STORED["configs"]["quickstart"]
    assert beyond("quickstart", counts_of("quickstart"), budget) == []
    hidden = small("quickstart", batch_size=16)["model"].get("hidden_sizes", (256, 256))
    lines = beyond("quickstart", counts_of("quickstart", hidden_sizes=(*hidden, hidden[-1])), budget)
    assert any(line.startswith("quickstart: flops") for line in lines), lines


@of_this_jax
def test_what_is_computed_twice_is_over_budget():
    """Two halves of a batch, each with a forward and a backward pass of its own, are more fusions than one batch."""
    config = small("quickstart", batch_size=16, shallow=True)
    config["microbatches"] = 2
    lines = beyond("quickstart", counted(resolve(config)), STORED["configs"]["quickstart"])
    assert any("fusions" in line for line in lines), lines


def test_no_more_than_the_slack_is_over_and_what_there_was_none_of():
    budget = {"flops": 1000, "collectives": 0}
    assert beyond("x", {"flops": int(1000 * SLACK), "collectives": 0}, budget) == []
    (line,) = beyond("x", {"flops": int(1000 * SLACK) + 1, "collectives": 0}, budget)
    assert "x: flops" in line
    assert "1.10 times" in line
    assert "where there were none" in beyond("x", {"flops": 1, "collectives": 2}, budget)[0]
    assert beyond("x", {"flops": 1, "collectives": 2}, None) == ["x: has no budget"]


@of_this_jax
@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_config_is_within_its_budget(name):
    assert beyond(name, counts_of(name), STORED["configs"][name]) == []


def test_an_unknown_config_is_named_with_the_nearest(program):
    done = program("tools.budgets", "quickstrt", check=2)
    assert "quickstart" in done.stderr
