"""Our networks give the numbers of torchvision, timm, transformers and the papers for the same weights."""

import importlib.util
import re

import jax.numpy as jnp
import numpy as np
import parity
import pytest
from parity import STORED, Ours, golden

from tools.golden_cases import resized_positions, weights
from tools.golden_cases.models import CASES
from tools.model_goldens import differences
from vision import models
from vision.interop.namings import NAMINGS
from vision.models.positions import resize_positions

_STATISTIC = re.compile(r"running_(mean|var)$")
LOGITS, GRADIENTS = 1e-4, 1e-3
PIXELS = ("linear", "mlp")  # have no counterpart with a name, and tests of their own
TRAINED = [case for case in CASES if case.train]
EVALUATED = [case for case in CASES if not case.train]


def marked(cases):
    return [pytest.param(case, id=case.name, marks=[pytest.mark.slow] * case.slow) for case in cases]


def test_weights_are_drawn_as_they_were():
    np.testing.assert_array_equal(weights.drawn("sample.weight", (4, 3)), STORED["drawn"])


def test_every_family_is_compared_in_a_published_size_in_training_and_with_gradients():
    assert {case.naming for case in CASES} <= set(NAMINGS)
    variants = {name: variant for name, variant in models.VARIANTS.items() if name.partition("/")[0] not in PIXELS}
    whole = {case.model for case in CASES if set(case.options) <= {"activation"} and "hidden" not in case.reference}
    families = {name.partition("/")[0] for name in variants}
    assert {name.partition("/")[0] for name in whole} == families
    for kind in ("train", "gradients"):
        assert {variants[case.model].module for case in CASES if getattr(case, kind)} == {
            variant.module for variant in variants.values()
        }


@pytest.mark.parametrize("case", marked(EVALUATED))
def test_outputs_are_theirs(case):
    ours = checked(case)
    output, features = parity.forward(ours)
    assert parity.off(output, golden(case, "logits")) <= LOGITS
    if not case.num_classes:
        np.testing.assert_array_equal(output, features["pre_logits"])


@pytest.mark.parametrize("case", marked(TRAINED))
def test_outputs_losses_statistics_and_gradients_are_theirs(case):
    ours = checked(case)
    evaluated, loss, output, after, gradients = parity.step(ours)
    assert parity.off(evaluated, golden(case, "logits")) <= LOGITS
    assert parity.off(output, golden(case, "train_logits")) <= LOGITS
    assert float(loss) == pytest.approx(float(golden(case, "loss")), rel=LOGITS)
    if ours.collections:
        statistics = parity.statistics_off(ours, after)
        worst = max(statistics, key=statistics.get)
        assert statistics[worst] <= LOGITS, worst
    if case.gradients:
        errors = parity.gradients_off(ours, gradients)
        worst = max(errors, key=errors.get)
        assert errors[worst] <= GRADIENTS, worst


def checked(case):
    """Our network of a case, whose names are those of theirs, with no array left out on either side."""
    ours = Ours(case)
    theirs = {
        name: tuple(shape)
        for name, shape in parity.NAMES[case.name]
        if not any(re.search(pattern, name) for pattern in ours.ignored)
    }
    assert ours.shapes == theirs
    return ours


def test_attention_weights_and_tokens_of_every_block_are_theirs():
    (case,) = (case for case in CASES if parity.has(case, "attention"))
    output, features = parity.forward(Ours(case))
    attention, tokens = golden(case, "attention"), golden(case, "tokens")
    assert len(attention) == 2
    for block, (weights_of_block, before, after) in enumerate(zip(attention, tokens, tokens[1:], strict=False)):
        name = f"block{block:02}"
        np.testing.assert_allclose(features[f"{name}/attention"], weights_of_block, rtol=0, atol=1e-6)
        assert parity.off(features[f"block{block - 1:02}"] if block else features["stem"], before) <= LOGITS
        assert parity.off(features[name], after) <= LOGITS
    assert output.shape == golden(case, "logits").shape


@pytest.mark.parametrize(("old", "grid"), resized_positions.GRIDS, ids=str)
def test_positions_are_brought_to_another_grid_as_pytorch_does_it(old, grid):
    learned = jnp.asarray(resized_positions.learned(old))
    for name, options in {
        "antialias": {"antialias": True},
        "plain": {"antialias": False},
        "offset": {"antialias": False, "offset": 0.1},
    }.items():
        theirs = STORED[f"positions/{name}/{'x'.join(map(str, grid))}"]
        np.testing.assert_allclose(resize_positions(learned, grid, **options), theirs, atol=2e-6)


def test_every_case_is_stored_and_nothing_else():
    expected = {"versions", "names", "drawn"}
    expected |= {name for name in STORED if name.startswith(("positions/", "distill/", "pairs/"))}
    for case in CASES:
        normed = any(_STATISTIC.search(name) for name, _ in parity.NAMES[case.name])
        there = {
            "logits": True,
            "train_logits": case.train,
            "loss": case.train,
            "gradients": case.gradients,
            "statistics": case.train and normed,
            "counts": case.train and normed,
            "attention": case.source == "transformers vit",
            "tokens": case.source == "transformers vit",
        }
        expected |= {f"{case.name}/{what}" for what, is_there in there.items() if is_there}
    assert set(STORED) == expected
    assert {name.split()[0] for name in STORED["versions"]} == {"torch", "torchvision", "timm", "transformers"}


def test_what_differs_from_the_stored_numbers_is_named():
    stored = {"a/logits": np.array([1.0, -2.0], np.float32), "b/loss": np.float32(3), "names": np.arange(3)}
    assert differences(stored, {**stored, "a/logits": stored["a/logits"] * np.float32(1 + 3e-7)}) == []
    made = {"a/logits": np.array([1.0, -2.00001], np.float32), "names": np.arange(3) + 1, "c/loss": np.float32(3)}
    lines = differences(stored, made)
    assert [line.partition(":")[0] for line in lines] == ["b/loss", "c/loss", "a/logits", "names"]
    assert "off by 1.0e-05" in lines[2]


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="it would run")
def test_without_pytorch_the_tool_says_what_to_install(program):
    done = program("tools.model_goldens", "--check", check=2)
    assert "pip install torch" in done.stderr
    assert not done.stdout
