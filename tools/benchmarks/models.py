"""Predictions and train steps of networks of every kind, beside PyTorch's, and shares of what the machine can do.

Both sides are processes of their own on the same cores that take turns, with networks of equal size: small ones in
float32 on a CPU, and where JAX has an accelerator, those of ImageNet in bfloat16 (:mod:`tools.benchmarks.models_gpu`).
"""

import statistics
from contextlib import ExitStack
from typing import Any

from tools.benchmarks.contenders import MODELS, Contender, Turn, ratios, start_all, take_turns
from tools.benchmarks.counts import count_parameters, count_products
from tools.benchmarks.rows import Row, Settings, say
from tools.peers import CEILING, Networks

_BATCH_SIZES = {"MLP": 128, "LeNet-5": 128, "ResNet-20": 128, "ResNet-18": 32, "Mixer-192/4": 32, "ViT-Ti/4": 32}
_QUICK = dict.fromkeys(_BATCH_SIZES, 1) | {"LeNet-5": 4}
_CALLS = {"MLP": 100, "LeNet-5": 40}


def run(settings: Settings) -> list[Row]:
    """Measures each network on one core and on two; without PyTorch, the house's alone.

    Raises:
      UserError: a contender ended.
    """
    import jax

    from tools.benchmarks import models_gpu

    if jax.default_backend() != "cpu":
        return models_gpu.run(settings)
    scratch = settings.scratch / "models"
    scratch.mkdir()
    batch_sizes = _QUICK if settings.quick else _BATCH_SIZES
    parameters = {name: count_parameters(name) for name in batch_sizes}
    rows = []
    for cores in (1, 2):
        work = Networks(cores, batch_sizes, parameters)
        with ExitStack() as stack:
            contenders = start_all(stack, MODELS, settings.peers, work, scratch / f"{cores}.txt")
            rows += _ceilings(settings, contenders, cores)
            ceiling = statistics.median(rows[-len(contenders)].values)
            for name in batch_sizes:
                for kind in ("forward", "step"):
                    rows += _compared(settings, contenders, name, kind, work)
                    if kind == "step":
                        rows.append(_share(rows, name, work, ceiling))
    return rows


def _compared(settings: Settings, contenders: dict[str, Contender], name: str, kind: str, work: Networks) -> list[Row]:
    batch = work.batch_sizes[name]
    repeats, calls = settings.times(7), 1 if settings.quick else _CALLS.get(name, 1) * (3 if kind == "forward" else 1)
    called = "forwards" if kind == "forward" else "train step"
    what = f"{name}, batch {batch}, {work.cores} core{'s' * (work.cores > 1)}: {called}"
    say(f"models: {what}: {repeats} x {calls}")
    turns = [Turn(side, contender, f"{name} {kind}", calls) for side, contender in contenders.items()]
    measured: Any = take_turns(turns, repeats)
    labels = {"house": what, "torch": f"{what}, torch"}
    rows = [
        Row("models", labels[side], tuple(1e3 * each.seconds / each.images * batch for each in timed), "ms")
        for side, timed in measured.items()
    ]
    if "torch" in measured:
        rows.append(Row("models", f"{what}: torch / house", ratios(measured, "house", "torch"), "x", better="more"))
    return rows


def _ceilings(settings: Settings, contenders: dict[str, Contender], cores: int) -> list[Row]:
    """What each side makes of the product of two large matrices: the house's first."""
    turns = [Turn(side, contender, "ceiling", 1) for side, contender in contenders.items()]
    measured: Any = take_turns(turns, settings.times(7))
    what = f"product of two matrices of {CEILING:,} rows, {cores} core{'s' * (cores > 1)}"
    labels = {"house": what, "torch": f"{what}, torch"}
    flops = 2 * CEILING**3
    return [
        Row("models", labels[side], tuple(1e-9 * flops / each.seconds for each in timed), "GFLOP/s", better="more")
        for side, timed in measured.items()
    ]


def _share(rows: list[Row], name: str, work: Networks, ceiling: float) -> Row:
    """A step's products, three times those of a prediction, against the house's ceiling."""
    what = f"{name}, batch {work.batch_sizes[name]}, {work.cores} core{'s' * (work.cores > 1)}: train step"
    (step,) = (row for row in rows if row.name == what)
    flops = 3 * count_products(name) * work.batch_sizes[name]
    shares = tuple(100 * 1e-9 * flops / (1e-3 * milliseconds) / ceiling for milliseconds in step.values)
    return Row("models", f"{what}: of the product's pace", shares, "%", better="more")
