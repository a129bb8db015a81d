"""What freezing the first half of a network saves of a train step."""

import itertools
from functools import partial
from typing import Any

import jax
import numpy as np

from tools.benchmarks.rows import Row, Settings, say, seconds_of
from vision.training.assemble import assemble
from vision.training.schema import resolve

AIM = 0.75
# Name, network, number of its blocks.
NETWORKS: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("ViT-Ti/4", {"name": "vit/Ti16", "patch_size": 4}, 12),
    ("ResNet-18", {"name": "resnet/18_cifar", "width": 32}, 8),
)
_BATCH_SIZE = 32


class Training:
    """Steps of one training from arrays on the device, with the first blocks frozen or not."""

    def __init__(self, network: dict[str, Any], frozen: int):
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (4 * _BATCH_SIZE, 32, 32, 3), dtype=np.uint8)
        given: Any = {"train": {"image": images, "label": np.arange(len(images), dtype=np.int32) % 10}}
        config = {
            "data": {"name": "arrays", "residency": "device"},
            "model": network,
            "objective": {"name": "classify"},
            "optimizer": {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.05},
            "duration": {"steps": 10**6},
            "batch_size": _BATCH_SIZE,
            "freeze": {"blocks": frozen} if frozen else None,
        }
        experiment = assemble(resolve(config), given=given)
        self._step, self._constants = experiment.step, experiment.constants
        self._batches = [experiment.pipeline.batch(step) for step in range(4)]
        self._state = experiment.init(experiment.constants.keys.init)
        self.run(2)

    def run(self, steps: int) -> None:
        """Takes steps, from an idle device to an idle device."""
        for batch in itertools.islice(itertools.cycle(self._batches), steps):
            self._state, _ = self._step(self._state, batch, self._constants)
        jax.block_until_ready(self._state)


def run(settings: Settings) -> list[Row]:
    """Measures steps with and without frozen blocks in turn."""
    rows: list[Row] = []
    for name, network, blocks in NETWORKS:
        if settings.quick:
            network = {**network, "width": 16} | ({"num_heads": 1, "depth": 4} if "vit" in network["name"] else {})
            blocks = network.get("depth", blocks)
        steps, repeats = (1, 1) if settings.quick else (5, settings.times(7))
        say(f"freeze: {name}: {repeats} x {steps} steps with and without the first half frozen")
        both = {frozen: Training(network, frozen) for frozen in (0, blocks // 2)}
        times: dict[int, list[float]] = {frozen: [] for frozen in both}
        for _ in range(repeats):
            for frozen, training in both.items():
                times[frozen].append(seconds_of(partial(training.run, steps)) / steps)
        whole, half = times.values()
        label = f"{name}, batch {_BATCH_SIZE}"
        ratios = tuple(b / a for a, b in zip(whole, half, strict=True))
        rows += [
            Row("freeze", f"{label}: step, everything trained", tuple(1e3 * each for each in whole), "ms"),
            Row("freeze", f"{label}: step, first half frozen", tuple(1e3 * each for each in half), "ms"),
            Row("freeze", f"{label}: frozen / trained", ratios, "x", AIM),
        ]
    return rows
