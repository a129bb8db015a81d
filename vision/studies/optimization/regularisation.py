"""What narrows the gap between training and test: one over-sized network, few examples, one cure at a time."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vision.studies.ladder.datasets import ground
from vision.training.loop import train

EXAMPLES, HELD_OUT, STEPS = 100, 100, 600
SHIFT = {"name": "random_shift", "pixels": 1}

# What each row changes in the config of :func:`config`: section -> keys.
ROWS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "dropout 0.5": {"model": {"dropout": 0.5}},
    "weight decay": {"optimizer": {"weight_decay": 0.5}},
    "batch normalisation": {"model": {"batch_norm": True}},
    "augmentation: shifts by a pixel": {"data": {"augment": (SHIFT,)}},
    "early stopping": {"early_stopping": {"metric": "val/loss", "patience": 5}},
    "dropout, weight decay and augmentation": {
        "model": {"dropout": 0.5},
        "optimizer": {"weight_decay": 0.5},
        "data": {"augment": (SHIFT,)},
    },
}


def config(dataset: str, changes: Mapping[str, Any], *, seed: int) -> dict[str, Any]:
    """Returns the config of one training.

    Args:
      dataset: ``digits``, ``fashion_mnist`` or ``cifar10``.
      changes: of one of :data:`ROWS`.
      seed: of the training.

    Raises:
      UserError: there is no such data set.
    """
    split, on = f"train[:{EXAMPLES}]", ground(dataset, "small")
    base: dict[str, Any] = {
        "seed": seed,
        "batch_size": 50,
        "duration": {"steps": STEPS},
        "steps_per_dispatch": 20,
        "data": {"name": dataset, "split": split, "mean": on.mean, "std": on.std},
        "model": {"name": "mlp/512-512"},
        "objective": {"name": "classify"},
        "optimizer": {"name": "adamw", "learning_rate": 1e-3, "schedule": {"name": "cosine"}},
        "evals": {
            "fitted": {"name": "classification", "split": split},
            "test": {"name": "classification", "split": "test"},
        },
        "checkpoint": {"keep": 1},
        "logging": {"every": {"steps": 100}, "tensorboard": False, "progress": False},
    }
    full = copy.deepcopy(base)
    for section, keys in changes.items():
        full[section] = {**full.get(section, {}), **keys}
    if "early_stopping" in changes:
        held_out = f"train[{EXAMPLES}:{EXAMPLES + HELD_OUT}]"
        full["evals"]["val"] = {"name": "classification", "split": held_out, "every": {"steps": 20}}
    return full


def run(dataset: str, *, seeds: int, workdir: Path, note: Callable[[str], None]) -> dict[str, Any]:
    """Trains every row of :data:`ROWS` with every seed; what is complete in the folder is not trained again.

    Args:
      dataset: what is learned.
      seeds: trainings of each row.
      workdir: folder of the runs.
      note: told about progress.

    Raises:
      UserError: the data are not there.
    """
    rows = []
    for number, (name, changes) in enumerate(ROWS.items()):
        results = [
            train(config(dataset, changes, seed=seed), workdir / f"{dataset}_{number}_seed{seed}")
            for seed in range(seeds)
        ]
        fitted = [result["fitted"]["accuracy"] for result in results]
        test = [result["test"]["accuracy"] for result in results]
        steps = [result["step"] for result in results]
        rows.append({"name": name, "train_accuracy": fitted, "test_accuracy": test, "steps": steps})
        note(f"{name}: train {sum(fitted) / seeds:.3f}, test {sum(test) / seeds:.3f}")
    return {
        "dataset": dataset,
        "examples": EXAMPLES,
        "held_out": HELD_OUT,
        "steps": STEPS,
        "seeds": seeds,
        "rows": rows,
    }
