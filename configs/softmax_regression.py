"""Softmax regression on the handwritten digits: the simplest learner by gradient, a convex problem.

Command: python -m experiments.train --config configs/softmax_regression.py
Expected: test accuracy 0.967 (see docs/results.md), in a few seconds.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.batch_size = 256
    config.duration = {"steps": 600}
    config.steps_per_dispatch = 50
    config.data = {"name": "digits", "mean": (0.306,), "std": (0.376,)}
    config.model = {"name": "linear"}
    config.objective = {"name": "classify", "l2": 1e-4}
    config.optimizer = {
        "name": "sgd",
        "momentum": 0.9,
        "nesterov": True,
        "learning_rate": 0.05,
        "schedule": {"name": "cosine"},
    }
    config.evals = {"test": {"name": "classification", "split": "test", "batch_size": 360}}
    config.checkpoint = {"every": {"steps": 200}, "keep": 2}
    return config
