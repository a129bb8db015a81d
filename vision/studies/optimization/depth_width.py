"""Depth against width at the same number of parameters."""

from collections.abc import Callable
from typing import Any

import numpy as np

from vision import models
from vision.studies.optimization.methods import METHODS
from vision.studies.optimization.small_runs import Data, train

PARAMETERS = 20_000
DEPTHS = (1, 2, 4, 8, 16)
RATES = (3e-4, 1e-3, 3e-3)
STEPS, FEW, HELD_OUT = 400, 32, 237


def width_for(depth: int, *, inputs: int, outputs: int, parameters: int) -> int:
    """Returns the width of ``depth`` equal hidden layers whose network comes nearest to a number of parameters.

    A network of width w has ``(inputs + 1) w + (depth - 1) (w + 1) w + (w + 1) outputs`` of them.
    """
    return min(range(1, parameters), key=lambda w: abs(count(depth, w, inputs=inputs, outputs=outputs) - parameters))


def count(depth: int, width: int, *, inputs: int, outputs: int) -> int:
    """Returns the number of weights and biases of a network with ``depth`` hidden layers of ``width`` units."""
    return (inputs + 1) * width + (depth - 1) * (width + 1) * width + (width + 1) * outputs


def run(data: Data, *, seeds: int, note: Callable[[str], None]) -> dict[str, Any]:
    """Returns train and test accuracy for each depth, one of each seed.

    Adam at the learning rate of :data:`RATES` that does best on the last training examples, which no run learns from.

    Args:
      data: what the networks learn; :data:`HELD_OUT` training examples, or a fifth where there are few, choose.
      seeds: trainings of each.
      note: told about progress.
    """
    held_out = min(HELD_OUT, len(data.labels) // 5)
    split = Data(
        data.images[:-held_out],
        data.labels[:-held_out],
        np.concatenate([data.images[-held_out:], data.test_images]),
        np.concatenate([data.labels[-held_out:], data.test_labels]),
    )
    shape = (data.images.shape[1], data.images.shape[2], data.images.shape[3])
    inputs, outputs = int(np.prod(shape)), int(data.labels.max()) + 1
    pairs = [(rate, seed) for rate in RATES for seed in range(seeds)]
    rows = []
    for depth in DEPTHS:
        width = width_for(depth, inputs=inputs, outputs=outputs, parameters=PARAMETERS)
        model = models.build("mlp/128", num_classes=outputs, image_shape=shape, hidden_sizes=(width,) * depth)
        found = train(
            model,
            split,
            METHODS["Adam"],
            rates=[rate for rate, _ in pairs],
            seeds=[seed for _, seed in pairs],
            steps=STEPS,
            every=STEPS,
            few=FEW,
        )
        held = found.test_correct[:, :held_out].mean(axis=1).reshape(len(RATES), seeds)
        chosen = int(held.mean(axis=1).argmax())
        own = slice(chosen * seeds, (chosen + 1) * seeds)
        test_accuracy = found.test_correct[own, held_out:].mean(axis=1)
        rows.append(
            {
                "depth": depth,
                "width": width,
                "parameters": count(depth, width, inputs=inputs, outputs=outputs),
                "learning_rate": RATES[chosen],
                "train_accuracy": found.train_accuracy[own].tolist(),
                "test_accuracy": test_accuracy.tolist(),
            }
        )
        note(f"depth {depth} x width {width}: test accuracy {test_accuracy.mean():.3f}")
    return {"parameters": PARAMETERS, "steps": STEPS, "seeds": seeds, "rows": rows}
