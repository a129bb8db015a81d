"""The axes along which :mod:`tools.growth` measures; JAX is imported by those that need it."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

WIDTH = 192  # of the ViT-Ti


@dataclass
class Axis:
    """One quantity against one size.

    Attributes:
      name: of the axis, for the command line.
      what: the quantity, with its unit.
      size: what grows.
      theory: the exponent that is expected between the last points, and why.
      lines: label -> (sizes, values).
      counted: whether the values are counts and not times.
    """

    name: str
    what: str
    size: str
    theory: tuple[float, str]
    counted: bool = False
    lines: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)

    def add(self, label: str, size: float, value: float) -> None:
        """Adds a point to a line."""
        sizes, values = self.lines.setdefault(label, ([], []))
        sizes.append(size)
        values.append(value)

    def exponents(self) -> dict[str, float]:
        """Returns the exponent of each line."""
        return {label: exponent(*points) for label, points in self.lines.items()}


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Returns the slope of the logarithms of the last three points, by least squares."""
    x, y = ([math.log(each) for each in column[-3:]] for column in (sizes, values))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    rise = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return rise / sum((a - mean_x) ** 2 for a in x)


def _sizes(sizes: Sequence[int], quick: bool) -> Sequence[int]:
    return sizes[:3] if quick else sizes


def _seconds(function: Callable[[], Any], repeats: int) -> float:
    """The least time of a call, after one that compiles."""
    import jax

    jax.block_until_ready(function())
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - began)
    return min(times)


def _experiment(model: dict[str, Any], *, batch: int, side: int, classes: int = 10, devices: int = 1) -> Any:
    import jax
    import numpy as np

    from vision.training.assemble import assemble
    from vision.training.schema import resolve

    count = max(batch, classes)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int32) % classes
    config = {
        "data": {"name": "arrays", "residency": "device"},
        "model": model,
        "objective": {"name": "classify"},
        "optimizer": {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.05},
        "duration": {"steps": 10**6},
        "batch_size": batch,
    }
    return assemble(
        resolve(config), given={"train": {"image": images, "label": labels}}, devices=jax.devices()[:devices]
    )


def _step_seconds(experiment: Any, repeats: int) -> float:
    state = experiment.init(experiment.constants.keys.init)
    batch = experiment.pipeline.batch(0)

    def step() -> Any:
        nonlocal state
        state, _ = experiment.step(state, batch, experiment.constants)
        return state

    return _seconds(step, repeats)


def _compiled(experiment: Any) -> Any:
    arguments = (experiment.abstract_state, experiment.pipeline.spec(), experiment.constants)
    return experiment.step.lower(*arguments).compile()


def _vit(**more: Any) -> dict[str, Any]:
    return {"name": "vit/Ti16", "patch_size": 4, "depth": 4, "class_token": False, "pool": "gap", **more}


def _batch(repeats: int, quick: bool) -> Axis:
    axis = Axis("batch", "seconds of a train step", "images in a batch", (1.0, "Every image is computed once."))
    for batch in _sizes((4, 8, 16, 32, 64), quick):
        axis.add("ViT-Ti/4, 4 blocks, 32 px", batch, _step_seconds(_experiment(_vit(), batch=batch, side=32), repeats))
    return axis


def _tokens(repeats: int, quick: bool) -> Axis:
    sides = _sizes((16, 32, 64, 96, 128), quick)
    last = (sides[-1] // 4) ** 2
    middle = (sides[-3] // 4) ** 2
    # Multiply-adds of a block for T tokens of width d: 12 T d^2 of the matrices, 2 T^2 d of the attention.
    cost = lambda tokens: 12 * tokens * WIDTH**2 + 2 * tokens**2 * WIDTH  # noqa: E731
    theory = math.log(cost(last) / cost(middle)) / math.log(last / middle)
    words = "A block of T tokens of width d takes 12 T d^2 multiply-adds in its matrices and 2 T^2 d in its attention."
    axis = Axis("tokens", "seconds of a train step", "tokens of an image", (theory, words))
    for side in sides:
        experiment = _experiment(_vit(), batch=2, side=side)
        axis.add("ViT-Ti/4, 4 blocks, 2 images", (side // 4) ** 2, _step_seconds(experiment, repeats))
    return axis


def _classes(repeats: int, quick: bool) -> Axis:
    words = "Logits, their gradient and the optimizer of a matrix with a column for each class."
    axis = Axis("classes", "seconds of a train step", "classes", (1.0, words))
    for classes in _sizes((10, 100, 1000, 4000, 16_000), quick):
        experiment = _experiment({"name": "linear"}, batch=64, side=16, classes=classes)
        axis.add("softmax regression, 64 images", classes, _step_seconds(experiment, repeats))
    return axis


def _parameters(repeats: int, quick: bool) -> Axis:
    import jax

    words = "Three multiply-adds for each weight and image, and the optimizer's few operations for each weight."
    axis = Axis("parameters", "seconds of a train step", "parameters", (1.0, words))

    for width in _sizes((128, 256, 512, 1024, 2048), quick):
        experiment = _experiment({"name": "mlp/128", "hidden_sizes": (width,) * 3}, batch=64, side=8)
        count = sum(leaf.size for leaf in jax.tree.leaves(experiment.abstract_state.params))
        axis.add("perceptron, 3 hidden layers", count, _step_seconds(experiment, repeats))
    return axis


def _devices(repeats: int, quick: bool) -> Axis:
    words = (
        "Of one global batch each computes its share; gradients, which they add up, stay as large as the parameters."
    )
    axis = Axis(
        "devices", "a device's part of a step, relative to one device's", "devices", (-1.0, words), counted=True
    )
    first: dict[str, float] = {}
    for devices in _sizes((1, 2, 4, 8), quick):
        compiled = _compiled(_experiment(_vit(), batch=64, side=32, devices=devices))
        counts = {
            "FLOPs": compiled.cost_analysis()["flops"],
            "bytes of temporaries": compiled.memory_analysis().temp_size_in_bytes,
        }
        for label, value in counts.items():
            axis.add(label, devices, value / first.setdefault(label, value))
    return axis


def _memory(repeats: int, quick: bool) -> Axis:
    words = (
        "What the backward pass needs is kept for every image; with remat the inputs of blocks alone. In a scan, as "
        "XLA for CPUs puts what an unrolled network computes twice together again, where remat then saves nothing."
    )
    axis = Axis("memory", "MiB of temporaries of a train step", "images in a batch", (1.0, words), counted=True)
    for batch in _sizes((8, 16, 32, 64, 128), quick):
        for remat in ("none", "dots", "full"):
            compiled = _compiled(_experiment(_vit(depth=12, remat=remat, scan=True), batch=batch, side=32))
            axis.add(
                f"12 blocks in a scan, remat {remat}", batch, compiled.memory_analysis().temp_size_in_bytes / 2**20
            )
    return axis


def _knn(repeats: int, quick: bool) -> Axis:
    import numpy as np

    from vision.evaluation.knn_search import search

    axis = Axis("knn", "seconds of 500 queries", "images searched", (1.0, "Every query is held against every image."))
    random = np.random.default_rng(0)
    queries = random.random((500, 256), np.float32)
    for count in _sizes((1000, 4000, 16_000, 64_000), quick):
        bank = random.random((count, 256), np.float32)
        seconds = _seconds(partial(search, queries, bank, k=20, metric="l2"), repeats)
        axis.add("l2, 256 features, k = 20", count, seconds)
    return axis


def _sinkhorn(repeats: int, quick: bool) -> Axis:
    import jax
    import jax.numpy as jnp

    from vision.objectives.self_distillation import sinkhorn_knopp

    words = "Three times the rows and the columns of a matrix of rows by 4,096 prototypes are summed."
    axis = Axis("sinkhorn", "seconds of three iterations", "rows of the global batch", (1.0, words))
    assign = jax.jit(lambda logits, valid: sinkhorn_knopp(logits, valid, temperature=0.05))
    for rows in _sizes((64, 128, 256, 512, 1024), quick):
        logits, valid = jax.random.normal(jax.random.key(0), (rows, 4096)), jnp.ones(rows)
        axis.add("4,096 prototypes", rows, _seconds(partial(assign, logits, valid), repeats))
    return axis


AXES: dict[str, Callable[[int, bool], Axis]] = {
    "batch": _batch,
    "tokens": _tokens,
    "classes": _classes,
    "parameters": _parameters,
    "devices": _devices,
    "memory": _memory,
    "knn": _knn,
    "sinkhorn": _sinkhorn,
}
