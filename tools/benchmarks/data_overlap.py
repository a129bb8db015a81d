"""Whether reading ahead hides the host path behind the step: the loop's time against the longer of the two."""

from tools.benchmarks.contenders import Contender
from tools.benchmarks.rows import Row, Settings, say
from tools.peers import Work

OVERLAP_AIM = 10.0
_STEPS = (0.5, 1.0, 2.0, 4.0)


def run(settings: Settings, work: Work, house: Contender) -> list[Row]:
    """Measures a loop over batches whose step takes 0.5 to 4 times as long as the host path does for a batch.

    The step is a sleep: on a CPU a real one would take the cores that decode. The aim is for steps that are longer
    than the host path, which reading ahead can hide; its time is measured again before each loop.
    """
    repeats, batches = settings.times(5), 2 if settings.quick else 10
    say(f"data: reading ahead under steps of {', '.join(f'{each:g}' for each in _STEPS)} x the host path's time")
    house.measure("threads", 1)
    alone: list[float] = []
    loops: dict[float, list[tuple[float, float, float]]] = {factor: [] for factor in _STEPS}
    for _ in range(repeats):
        for factor in _STEPS:
            host = house.measure("threads", batches).seconds / batches
            step = factor * host
            alone.append(host)
            loops[factor].append((host, step, house.measure("threads", batches, step_seconds=step).seconds / batches))
    rows = [Row("data", f"overlap, batch {work.batch_size}: host path alone", _milliseconds(alone), "ms")]
    for factor, measured in loops.items():
        what = f"overlap, step {factor:g} x host"
        over = tuple(100 * (loop / max(host, step) - 1) for host, step, loop in measured)
        together = tuple(100 * loop / (host + step) for host, step, loop in measured)
        rows += [
            Row("data", f"{what}: loop", _milliseconds([loop for *_, loop in measured]), "ms"),
            Row("data", f"{what}: loop beyond the longer", over, "%", OVERLAP_AIM if factor > 1 else None),
            Row("data", f"{what}: loop / (step + host)", together, "%"),
        ]
    return rows


def _milliseconds(seconds: list[float]) -> tuple[float, ...]:
    return tuple(1e3 * each for each in seconds)
