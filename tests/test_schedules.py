"""Learning rates are PyTorch's at every step; a warm-up goes before any of them."""

import json
import math
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision.config.calling import fill_named
from vision.config.duration import steps_of
from vision.config.loading import plain
from vision.errors import ConfigError
from vision.training.make_optimizer import make_schedule
from vision.training.schedules import SCHEDULES

GOLDEN = json.loads((Path(__file__).parent / "goldens" / "schedules.json").read_text())
PEAK = 0.4
REQUIRED = {"step": {"at": [{"steps": 7}]}, "exponential": {"every": {"steps": 4}}}


def build(schedule, *, total, peak=PEAK, warmup=None):
    """The schedule of a config section, as a run builds it, with epochs of 10 steps."""
    full = fill_named(
        SCHEDULES,
        plain(schedule),
        "config.optimizer.schedule",
        kind="schedule",
        provided=("peak", "total", "steps"),
    )
    section = {"schedule": full, "learning_rate": peak, "warmup": warmup}
    return make_schedule(section, total, partial(steps_of, batch_size=5, num_examples=50))


def values(schedule, steps) -> np.ndarray:
    """As the train step calls it: jitted, with an integer array."""
    return np.asarray(jax.jit(jax.vmap(lambda step: jnp.asarray(schedule(step), jnp.float32)))(jnp.asarray(steps)))


def test_no_schedule_is_without_an_outside_golden():
    assert {case["schedule"]["name"] for case in GOLDEN["cases"]} == set(SCHEDULES)


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_learning_rates_are_those_of_pytorch(case):
    warmup = {"steps": case["warmup"]} if case["warmup"] else None
    schedule = build(case["schedule"], total=GOLDEN["total"], peak=GOLDEN["peak"], warmup=warmup)
    assert len(case["values"]) == GOLDEN["total"] + 1
    np.testing.assert_allclose(values(schedule, range(GOLDEN["total"] + 1)), case["values"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("schedule", "first", "middle", "last"),
    [
        ({"name": "constant"}, PEAK, PEAK, PEAK),
        ({"name": "step", "at": [{"steps": 50}, {"steps": 80}]}, PEAK, 0.1 * PEAK, 0.01 * PEAK),
        ({"name": "step", "at": [{"epochs": 5}, {"examples": 400}]}, PEAK, 0.1 * PEAK, 0.01 * PEAK),
        ({"name": "cosine", "final": 0.1}, PEAK, 0.25, 0.1),
        ({"name": "linear", "final": 0.1}, PEAK, 0.25, 0.1),
        ({"name": "exponential", "every": {"epochs": 1}, "factor": 0.5}, PEAK, PEAK / 2**5, PEAK / 2**10),
        ({"name": "one_cycle", "rise": 0.5, "initial_divisor": 4.0, "final_divisor": 10.0}, 0.1, PEAK, 0.01),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else None,
)
def test_first_middle_and_last_learning_rate(schedule, first, middle, last):
    np.testing.assert_allclose(values(build(schedule, total=100), [0, 50, 100]), [first, middle, last], rtol=1e-5)


def test_a_step_happens_at_its_time_and_not_before():
    before, at = values(build({"name": "step", "at": [{"epochs": 3}]}, total=50), [29, 30])
    assert before == pytest.approx(PEAK)
    assert at == pytest.approx(0.1 * PEAK)


def test_one_cycle_is_two_half_cosines_with_the_peak_between():
    total, rise, start, end = 40, 0.25, PEAK / 25, PEAK / 25 / 1e4
    half = lambda t, a, b: b + (a - b) * (1 + math.cos(math.pi * t)) / 2  # noqa: E731
    expected = [half(t / 10, start, PEAK) if t < 10 else half((t - 10) / 30, PEAK, end) for t in range(total + 1)]
    ours = values(build({"name": "one_cycle", "rise": rise}, total=total), range(total + 1))
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-7)
    assert np.argmax(ours) == 10


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_learning_rate_stays_at_its_last_value_after_the_end(name):
    schedule = build({"name": name, **REQUIRED.get(name, {})}, total=20)
    after = values(schedule, [20, 21, 40, 10_000])
    assert np.all(np.isfinite(after))
    assert np.all(after >= -1e-7 * PEAK)  # rounding: XLA multiplies by 1/20 where 1 - t/20 is written
    if name != "exponential":  # which has no end
        np.testing.assert_allclose(after, after[0], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_warm_up_is_a_line_from_zero_and_then_the_schedule_from_its_beginning(name):
    section = {"name": name, **REQUIRED.get(name, {})}
    warm = values(build(section, total=25, warmup={"steps": 5}), range(26))
    np.testing.assert_allclose(warm[:5], PEAK * np.arange(5) / 5, rtol=1e-6)
    # What comes after is the schedule of the remaining 20 steps, so that it ends with the training.
    np.testing.assert_allclose(warm[5:], values(build(section, total=20), range(21)), rtol=1e-6, atol=1e-9)


def test_warm_up_in_epochs_counts_steps():
    schedule = build({"name": "constant"}, total=100, warmup={"epochs": 2})
    np.testing.assert_allclose(values(schedule, [0, 10, 19, 20]), [0, PEAK / 2, PEAK * 0.95, PEAK], rtol=1e-6)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_warm_up_may_be_the_whole_training_but_not_more(name):
    section = {"name": name, **REQUIRED.get(name, {})}
    whole = values(build(section, total=10, warmup={"steps": 10}), range(10))
    np.testing.assert_allclose(whole, PEAK * np.arange(10) / 10, rtol=1e-6)
    with pytest.raises(ConfigError, match=r"config\.optimizer\.warmup: 11 steps are more than the 10 of the training"):
        build(section, total=10, warmup={"steps": 11})


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"name": "one_cycle", "rise": 0.0}, "rise must be in (0, 1), got 0.0"),
        ({"name": "one_cycle", "rise": 1.0}, "rise must be in (0, 1), got 1.0"),
        ({"name": "one_cycle", "initial_divisor": 0.0}, "the divisors must be above 0"),
        ({"name": "exponential", "every": {"steps": 5}, "factor": 0.0}, "every and factor must be above 0"),
        ({"name": "exponential", "every": {"steps": 0}}, "every and factor must be above 0"),
        ({"name": "step", "at": [{"steps": 5}], "factor": -0.1}, "factor"),
        ({"name": "step", "at": [{"steps": 5}, {"step": 6}]}, ".at[1]: write exactly one of steps, epochs, examples"),
    ],
)
def test_impossible_value_is_refused_in_its_place(schedule, message):
    with pytest.raises(ConfigError) as caught:
        build(schedule, total=20)
    assert str(caught.value).startswith("config.optimizer.schedule")
    assert message in str(caught.value)
