"""CLIP's train step beside PyTorch's: small towers in float32 on a CPU, ViT-B/16 in bfloat16 on an accelerator."""

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from tools.benchmarks.contenders import Turn, all_cores, ratios, start_all, take_turns
from tools.benchmarks.rows import Row, Settings, say
from tools.peers import Pairs

_MODULES = {"house": "tools.benchmarks.house_clip", "torch": "tools.peers.torch_clip"}
_AIM = 1.1  # times PyTorch's pairs a second, on an accelerator
_TINY = {"width": 192, "num_heads": 3, "mlp_dim": 768}
_SMALL: dict[str, Any] = {
    **{"image": {"patch_size": 4, "depth": 12, **_TINY}, "text": {"depth": 6, **_TINY}, "size": 32},
    **{"length": 32, "vocab_size": 1000, "embed_dim": 128, "batch_size": 32},
}
# Radford et al. 2021, tables 19 and 20.
_LARGE: dict[str, Any] = {
    "image": {"patch_size": 16, "width": 768, "depth": 12, "num_heads": 12, "mlp_dim": 3072},
    "text": {"width": 512, "depth": 12, "num_heads": 8, "mlp_dim": 2048},
    **{"size": 224, "length": 77, "vocab_size": 49_408, "embed_dim": 512, "batch_size": 256, "half": True},
}
_QUICK: dict[str, Any] = {
    "image": {"patch_size": 8, "width": 32, "depth": 1, "num_heads": 2, "mlp_dim": 64},
    "text": {"width": 16, "depth": 1, "num_heads": 2, "mlp_dim": 32},
    **{"size": 16, "length": 4, "vocab_size": 20, "embed_dim": 8, "batch_size": 4},
}


def run(settings: Settings) -> list[Row]:
    """Measures pairs a second; without PyTorch, the house's alone; on a device that is known, its share of the peak.

    Raises:
      UserError: a contender ended.
    """
    import jax

    from tools.benchmarks.distill import utilisation

    on_cpu = jax.default_backend() == "cpu"
    work = Pairs(all_cores(), **(_QUICK if settings.quick else _SMALL if on_cpu else _LARGE))
    parameters, flops = counts(work)
    work = replace(work, parameters=parameters)
    name = f"CLIP, ViT-{work.image['width']}/{work.image['patch_size']} at {work.size}, batch {work.batch_size}"
    what = f"{name}{', bfloat16' if work.half else ''}: train step"
    repeats, calls = settings.times(5), 1 if settings.quick or on_cpu else 20
    say(f"contrast: {what}: {repeats} x {calls}")
    with ExitStack() as stack:
        contenders = start_all(stack, _MODULES, settings.peers, work, settings.scratch / "clip.txt")
        turns = [Turn(side, each, "step", calls) for side, each in contenders.items()]
        measured: Any = take_turns(turns, repeats)
    labels = {"house": what, "torch": f"{what}, torch"}
    rows = [
        Row("contrast", labels[side], tuple(each.rate for each in timed), "images/s", better="more")
        for side, timed in measured.items()
    ]
    rows += utilisation(rows, flops, jax.devices()[0].device_kind, "contrast")
    if "torch" in measured:
        found = ratios(measured, "house", "torch")
        aim = None if on_cpu else _AIM
        rows.append(Row("contrast", f"{what}: house / torch", found, "x", aim=aim, better="more"))
    return rows


def counts(work: Pairs) -> tuple[int, float]:
    """Returns the parameters of the house's CLIP, and the FLOPs of its products in a step for each pair."""
    import jax
    import jax.numpy as jnp

    from tools.benchmarks.house_clip import make_step
    from vision.models.cost import multiply_adds

    init, step = make_step(work)
    state = jax.eval_shape(init)
    batch = {
        "image": jax.ShapeDtypeStruct((work.batch_size, work.size, work.size, 3), jnp.float32),
        "tokens": jax.ShapeDtypeStruct((work.batch_size, work.length), jnp.int32),
    }
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state[0]))
    return parameters, 2.0 * multiply_adds(jax.make_jaxpr(step)(state, batch)) / work.batch_size
