"""Networks trained for the same number of steps on more and more examples, each run a folder of its own."""

import statistics
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vision.config.loading import plain
from vision.data.host import HostPart
from vision.data.materialize import materialize
from vision.data.source import ArraySource
from vision.data.sources import Opener
from vision.errors import UserError, did_you_mean
from vision.studies import parts
from vision.studies.data_size.subsets import nested
from vision.studies.ladder.datasets import Ground, ground
from vision.studies.ladder.rungs import networks, training
from vision.training.loop import train
from vision.training.processes import start_jax

Note = Callable[[str], None]
LEARNERS = {"cnn": "lenet", "vit": "vit", "mixer": "mixer", "mlp": "mlp"}
SIZES = {"digits": (50, 150, 450, 1350), "fashion_mnist": (300, 1000, 3000, 10000), "cifar10": (300, 1000, 3000, 10000)}
STEPS = {"digits": 300, "fashion_mnist": 1000, "cifar10": 1500}


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
      dataset: ``digits``, ``fashion_mnist`` or ``cifar10``.
      workdir: folder of the study.
      rungs: of :data:`LEARNERS`.
      sizes: numbers of training examples; empty for those of :data:`SIZES`.
      seeds: how many, each with its own subsets.
      steps: of every run; None for those of :data:`STEPS`.
      data_dir: folder of prepared data sets.
    """

    dataset: str
    workdir: Path
    rungs: tuple[str, ...] = tuple(LEARNERS)
    sizes: tuple[int, ...] = ()
    seeds: int = 2
    steps: int | None = None
    data_dir: str | None = None


def study(options: Options, *, note: Note) -> dict[str, Any]:
    """Trains what is not trained yet, and returns what ``data_size.json`` holds.

    Raises:
      UserError: what was asked for cannot be done.
      Stopped: a signal came; what is finished stays finished.
    """
    on = ground(options.dataset, "medium")
    steps = STEPS[on.name] if options.steps is None else options.steps
    sizes = tuple(sorted(set(options.sizes or SIZES[on.name])))
    for name in options.rungs:
        if name not in LEARNERS:
            raise UserError(
                f"--rungs: unknown rung {name!r}{did_you_mean(name, LEARNERS)}; known: {', '.join(LEARNERS)}"
            )
    for flag, value in (("--seeds", options.seeds), ("--steps", steps)):
        if value < 1:
            raise UserError(f"{flag} must be at least 1, got {value}")
    start_jax()
    opener = Opener(on.name, options.data_dir)
    encoded = [opener(split) for split in ("train", "test")]
    subsets = [nested(encoded[0].labels(), sizes, seed=seed) for seed in range(options.seeds)]
    rows = []
    for name in dict.fromkeys(options.rungs):
        side = side_of(on, name)
        whole, test = (materialize(each, HostPart((side, side), on.channels)) for each in encoded)
        for size in sizes:
            values = [
                _run(on, name, _part(whole, subset[size]), test, steps, seed, options.workdir, note)
                for seed, subset in enumerate(subsets)
            ]
            spread = statistics.stdev(values) if len(values) > 1 else None
            row = {"rung": name, "size": size, "accuracy": statistics.fmean(values), "sd": spread}
            rows.append(row | {"accuracies": values})
    return {
        "workdir": str(options.workdir),
        "dataset": on.name,
        "steps": steps,
        "seeds": options.seeds,
        "sizes": list(sizes),
        "test_examples": len(encoded[1]),
        "chance": 1 / encoded[0].num_classes,
        "rows": rows,
    }


def _part(whole: ArraySource, positions: np.ndarray) -> ArraySource:
    return ArraySource(whole[positions], whole.num_classes, whole.class_names)


def _run(
    on: Ground, name: str, examples: ArraySource, test: ArraySource, steps: int, seed: int, workdir: Path, note: Note
) -> float:
    """The test accuracy of one training."""
    word = f"{name}_{len(examples)}_{seed}"
    config = config_of(on, name, steps=steps, seed=seed)
    folder = workdir / "runs" / word

    def accuracy() -> float:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "log.txt", "a") as log, redirect_stderr(log):
            outcome = train(config, folder, sources={"train": examples, "test": test})
        return outcome["test"]["accuracy"]

    settings = {"config": plain(config), "examples": examples.fingerprint}
    found = parts.done_or_new(workdir / "parts", word, settings, accuracy, note=note)
    note(f"{name} on {len(examples):,} examples, seed {seed}: test accuracy {found:.4f}")
    return found


def config_of(on: Ground, name: str, *, steps: int, seed: int) -> dict[str, Any]:
    """Returns the config of a run: the ladder's network and optimizer, without augmentation, for so many steps."""
    _, model = networks(on)[LEARNERS[name]]
    # From the host come batches of one shape, so that a network is compiled once for all sizes.
    given = {"name": "arrays", "split": "train", "residency": "host"}
    data = on.data(side=side_of(on, name)) | given
    config = training(on, data, model, epochs=1.0, augment=False)
    config["duration"] = {"steps": steps}
    config["optimizer"]["warmup"] = {"steps": steps // 20}
    config["evals"] = {"test": {**config["evals"]["test"], "split": "test"}}
    return {**config, "seed": seed}


def side_of(on: Ground, name: str) -> int:
    """Returns the side of the images that a network sees: pixels are enough for the perceptron."""
    return on.native if name == "mlp" else on.side
