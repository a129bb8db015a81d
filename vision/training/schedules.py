"""Learning rates as functions of the step, all from optax, with a warm-up before any of them."""

from collections.abc import Callable

import optax

from vision.config.duration import Duration

Steps = Callable[[Duration, str], int]


def constant(peak: float, total: int, steps: Steps) -> optax.Schedule:
    """``peak`` for ever."""
    return optax.constant_schedule(peak)


def step(peak: float, total: int, steps: Steps, *, at: tuple[Duration, ...], factor: float = 0.1) -> optax.Schedule:
    """Multiplied by ``factor`` at each of the given times, counted from the end of the warm-up."""
    scales: dict[int, float] = {}
    for index, when in enumerate(at):
        boundary = steps(when, f"at[{index}]")
        scales[boundary] = scales.get(boundary, 1.0) * factor  # two times may be one step in a short training
    return optax.piecewise_constant_schedule(peak, scales)


def cosine(peak: float, total: int, steps: Steps, *, final: float = 0.0) -> optax.Schedule:
    """``final + (peak - final) (1 + cos(pi t / total)) / 2`` (Loshchilov and Hutter 2017, equation 5)."""
    return optax.cosine_decay_schedule(peak, max(total, 1), alpha=final / peak if peak else 0.0)


def linear(peak: float, total: int, steps: Steps, *, final: float = 0.0) -> optax.Schedule:
    """A straight line from ``peak`` to ``final``."""
    return optax.linear_schedule(peak, final, max(total, 1))


def exponential(
    peak: float, total: int, steps: Steps, *, every: Duration, factor: float = 0.9, staircase: bool = False
) -> optax.Schedule:
    """``peak * factor ** (t / every)``, in whole powers with ``staircase``."""
    period = steps(every, "every")
    if not period or factor <= 0.0:
        raise ValueError(f"every and factor must be above 0, got {every} and {factor}")
    return optax.exponential_decay(peak, period, factor, staircase=staircase)


def one_cycle(
    peak: float,
    total: int,
    steps: Steps,
    *,
    rise: float = 0.3,
    initial_divisor: float = 25.0,
    final_divisor: float = 1e4,
) -> optax.Schedule:
    """Cosine from ``peak / initial_divisor`` up to ``peak``, then down to the initial value over ``final_divisor``.

    Smith and Topin 2018. ``rise`` is the share of the steps that go up: the peak is at step ``int(rise * total)``,
    the last value at step ``total``, one after the last update, as in the other schedules. PyTorch's OneCycleLR
    has both one step earlier; it gives these values for ``total_steps = total + 1`` and ``pct_start = (int(rise *
    total) + 1) / (total + 1)``.
    """
    if not 0.0 < rise < 1.0:
        raise ValueError(f"rise must be in (0, 1), got {rise}")
    if initial_divisor <= 0.0 or final_divisor <= 0.0:
        raise ValueError(f"the divisors must be above 0, got {initial_divisor} and {final_divisor}")
    return optax.cosine_onecycle_schedule(max(total, 1), peak, rise, initial_divisor, final_divisor)


SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {
    "constant": constant,
    "step": step,
    "cosine": cosine,
    "linear": linear,
    "exponential": exponential,
    "one_cycle": one_cycle,
}


def with_warmup(schedule: optax.Schedule, *, peak: float, warmup_steps: int) -> optax.Schedule:
    """Returns a straight line from 0 to ``peak`` over ``warmup_steps``, then ``schedule`` from its beginning."""
    if not warmup_steps:
        return schedule
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup_steps), schedule], [warmup_steps])
