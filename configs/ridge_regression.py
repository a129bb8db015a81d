"""Ridge regression of one-hot digits: least squares with an L2 penalty, whose minimum has a closed form.

Command: python -m experiments.train --config configs/ridge_regression.py
Expected: test accuracy 0.933 (see docs/results.md; the closed form has 0.936). tests/test_ridge.py holds the minimum
against the closed form.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.batch_size = 256
    config.duration = {"steps": 1000}
    config.steps_per_dispatch = 50
    config.data = {"name": "digits", "mean": (0.306,), "std": (0.376,)}
    config.model = {"name": "linear"}
    config.objective = {"name": "regress", "l2": 1e-3}
    config.optimizer = {
        "name": "sgd",
        "momentum": 0.9,
        "learning_rate": 3e-3,
        "schedule": {"name": "linear"},
    }
    config.evals = {"test": {"name": "regression", "split": "test", "batch_size": 360}}
    config.checkpoint = {"every": {"steps": 250}, "keep": 2}
    return config
