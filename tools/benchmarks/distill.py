"""Steps of DINO, views and all, beside PyTorch's of the same networks; and what our step takes of the device.

Both sides are processes of their own that take turns. On a CPU the network is a ViT-Ti/16 in float32; where there is
an accelerator it is DINO's ViT-S/16 in bfloat16, and the rows tell memory and model FLOPs utilisation too.
"""

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, redirect_stderr
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from tools.benchmarks import jpegs
from tools.benchmarks.contenders import Contender, Turn, all_cores, ratios, start_all, take_turns
from tools.benchmarks.distill_steps import make_steps
from tools.benchmarks.rows import Row, Settings, say
from tools.peers import Distillation

_MODULES = {"house": "tools.benchmarks.house_distill", "torch": "tools.peers.torch_distill"}
_TINY = {"patch_size": 16, "width": 192, "depth": 12, "num_heads": 3, "mlp_dim": 768}
_SMALL = {"patch_size": 16, "width": 384, "depth": 12, "num_heads": 6, "mlp_dim": 1536}
_QUICK: dict[str, Any] = {
    **{"network": {"patch_size": 8, "width": 32, "depth": 2, "num_heads": 4, "mlp_dim": 64}, "batch_size": 2},
    **{"prototypes": 32, "hidden_dim": 16, "bottleneck_dim": 8, "global_size": 32, "local_size": 16, "num_local": 2},
}
# Of dense matrix products in bfloat16 a second, as NVIDIA's data sheets have them; the first name that fits counts.
_PEAK_FLOPS = {"H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "A100": 312e12}
_IMAGES, _SIDE = 64, 256


def run(settings: Settings) -> list[Row]:
    """Measures steps on views that lie ready, and steps that make them; without PyTorch, the house's alone.

    Raises:
      UserError: a contender ended.
    """
    scratch = settings.scratch / "distill"
    scratch.mkdir()
    work = work_of(str(scratch / "images.npy"), str(scratch / "report.json"), quick=settings.quick)
    count, side = (4, 48) if settings.quick else (_IMAGES, _SIDE)
    count = max(count, work.batch_size)
    np.save(work.images, np.stack([jpegs.picture(number, side, side) for number in range(count)]))
    rows: list[Row] = []
    with ExitStack() as stack:
        contenders = start_all(stack, _MODULES, settings.peers, work, scratch / "log.txt")
        for stream, what in (("step", "step on ready views"), ("train", "step with its views")):
            rows += _compared(settings, contenders, stream, f"{_named(work)}: {what}", work)
    report = json.loads((scratch / "report.json").read_text())
    name = _named(work)
    rows.append(Row("distill", f"{name}: memory of the step with its views", (report["bytes"] / 2**20,), "MiB"))
    rows.append(Row("distill", f"{name}: multiplications and additions", (report["flops"] / 1e9,), "GFLOP/image"))
    if work.half:
        rows += utilisation(rows, report["flops"], jax.devices()[0].device_kind)
    return rows


def utilisation(rows: Sequence[Row], flops: float, device: str, suite: str = "distill") -> list[Row]:
    """Returns the share of the device's peak that the house's rates come to; nothing for a device that is not known.

    Args:
      rows: images a second, the house's and others'.
      flops: of an image.
      device: its name, as JAX has it.
      suite: of the new rows.
    """
    peak = next((each for name, each in _PEAK_FLOPS.items() if name in device), None)
    return [
        Row(suite, f"{row.name}: MFU", tuple(100 * rate * flops / peak for rate in row.values), "%", better="more")
        for row in rows
        if peak is not None and row.unit == "images/s" and not row.name.endswith(", torch")
    ]


def work_of(images: str, report: str, *, quick: bool) -> Distillation:
    """Returns what is measured on this device."""
    on_cpu = jax.default_backend() == "cpu"
    sizes: dict[str, Any] = {"network": _TINY, "batch_size": 4} if on_cpu else {"network": _SMALL, "batch_size": 64}
    work = Distillation(images, report, all_cores(), half=not on_cpu and not quick, **(_QUICK if quick else sizes))
    return replace(work, parameters=count_parameters(work))


def count_parameters(work: Distillation) -> dict[str, int]:
    """Returns how many parameters the house trains in each part of the network."""
    blank = np.zeros((work.batch_size, work.global_size, work.global_size, 3), np.uint8)
    with redirect_stderr(io.StringIO()):  # what it says of these blank images means nothing to anybody
        params = make_steps(work, blank).experiment.abstract_state.params
    return {part: sum(leaf.size for leaf in jax.tree.leaves(tree)) for part, tree in params.items()}


def _compared(
    settings: Settings, contenders: Mapping[str, Contender], stream: str, what: str, work: Distillation
) -> list[Row]:
    repeats = settings.times(5)
    say(f"distill: {what}: {repeats} turns")
    measured = take_turns([Turn(side, each, stream, 1) for side, each in contenders.items()], repeats)
    labels = {"house": what, "torch": f"{what}, torch"}
    rows = [
        Row("distill", labels[side], tuple(each.rate for each in timed), "images/s", better="more")
        for side, timed in measured.items()
    ]
    if "torch" in measured:
        rows.append(Row("distill", f"{what}: house / torch", ratios(measured, "house", "torch"), "x", better="more"))
    return rows


def _named(work: Distillation) -> str:
    """Such as ``ViT-384/16, 2x224 + 8x96, K 65536, batch 64, bfloat16``."""
    network = f"ViT-{work.network['width']}/{work.network['patch_size']}"
    views = f"2x{work.global_size} + {work.num_local}x{work.local_size}"
    kind = ", bfloat16" if work.half else ""
    return f"{network}, {views}, K {work.prototypes}, batch {work.batch_size}{kind}"
