"""Predictions and train steps of a convolutional network, a residual one and a transformer, beside PyTorch's.

Both sides are processes of their own on the same cores that take turns, with networks of equal size in float32.
"""

from contextlib import ExitStack
from typing import Any

from tools.benchmarks.contenders import Contender, Turn, ratios, take_turns
from tools.benchmarks.rows import Row, Settings, say
from tools.peers import NETWORKS, Networks

_MODULES = {"house": "tools.benchmarks.house_models", "torch": "tools.peers.torch_models"}
_BATCH_SIZES = {"LeNet-5": 128, "ResNet-18": 32, "ViT-Ti/4": 32}
_QUICK = {"LeNet-5": 4, "ResNet-18": 1, "ViT-Ti/4": 1}
_CALLS = {"LeNet-5": 40, "ResNet-18": 1, "ViT-Ti/4": 1}


def run(settings: Settings) -> list[Row]:
    """Measures each network on one core and on two; without PyTorch, the house's alone.

    Raises:
      UserError: a contender ended.
    """
    scratch = settings.scratch / "models"
    scratch.mkdir()
    batch_sizes = _QUICK if settings.quick else _BATCH_SIZES
    parameters = {name: count_parameters(name) for name in batch_sizes}
    pythons = {"house": None, **{name: python for name, python in settings.peers.items() if name in _MODULES}}
    rows = []
    for cores in (1, 2):
        work = Networks(cores, batch_sizes, parameters)
        with ExitStack() as stack:
            contenders = {}
            for name, python in pythons.items():
                log = scratch / f"{name}-{cores}.txt"
                contenders[name] = Contender(python, _MODULES[name], work, log)
                stack.callback(contenders[name].close)
            for name in batch_sizes:
                for kind in ("forward", "step"):
                    rows += _compared(settings, contenders, name, kind, work)
    return rows


def count_parameters(name: str) -> int:
    """Returns how many parameters the house's network has."""
    import jax
    import jax.numpy as jnp

    from tools.benchmarks.model_steps import NUM_CLASSES
    from vision import models

    network = NETWORKS[name]
    shape = (network.size, network.size, network.channels)
    model = models.build(network.model, num_classes=NUM_CLASSES, image_shape=shape, **dict(network.options))
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    params, _ = jax.eval_shape(lambda key: model.init(key, images), jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _compared(settings: Settings, contenders: dict[str, Contender], name: str, kind: str, work: Networks) -> list[Row]:
    batch = work.batch_sizes[name]
    repeats, calls = settings.times(7), 1 if settings.quick else _CALLS[name] * (3 if kind == "forward" else 1)
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
