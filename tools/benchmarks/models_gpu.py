"""Train steps of networks of ImageNet in bfloat16 on a GPU, beside PyTorch's compiled ones on the same card."""

from contextlib import ExitStack
from typing import Any

from tools.benchmarks.contenders import MODELS, Turn, all_cores, ratios, start_all, take_turns
from tools.benchmarks.distill import utilisation
from tools.benchmarks.rows import Row, Settings, say
from tools.peers import Networks

_BATCH_SIZES = {"ViT-S/16": 256, "ViT-B/16": 256, "ResNet-50": 256}
_AIM = 1.1  # times PyTorch's images a second


def run(settings: Settings) -> list[Row]:
    """Measures images a second of a train step on a batch that lies ready, and the share of the device's peak.

    Raises:
      UserError: a contender ended.
    """
    import jax

    from tools.benchmarks.counts import count_parameters, count_products

    scratch = settings.scratch / "models"
    scratch.mkdir()
    batch_sizes = dict.fromkeys(_BATCH_SIZES, 1) if settings.quick else _BATCH_SIZES
    rows: list[Row] = []
    for name, batch in batch_sizes.items():
        work = Networks(all_cores(), {name: batch}, {name: count_parameters(name)}, half=True)
        what = f"{name}, batch {batch}, bfloat16: train step"
        repeats, calls = settings.times(7), 1 if settings.quick else 20
        say(f"models: {what}: {repeats} x {calls}")
        with ExitStack() as stack:  # a network at a time: its memory is free again for the next
            contenders = start_all(stack, MODELS, settings.peers, work, scratch / f"{len(rows)}.txt")
            turns = [Turn(side, each, f"{name} step", calls) for side, each in contenders.items()]
            measured: Any = take_turns(turns, repeats)
        labels = {"house": what, "torch": f"{what}, torch"}
        steps = [
            Row("models", labels[side], tuple(each.rate for each in timed), "images/s", better="more")
            for side, timed in measured.items()
        ]
        rows += [*steps, *utilisation(steps, 3.0 * count_products(name), jax.devices()[0].device_kind, "models")]
        if "torch" in measured:
            found = ratios(measured, "house", "torch")
            rows.append(Row("models", f"{what}: torch / house", found, "x", aim=_AIM, better="more"))
    return rows
