"""Nearest neighbours on the raw pixels of the digits: the smallest fit there is.

Command: python -m experiments.train --config configs/classic/knn_digits.py
Expected: test accuracy 0.986 in seconds (see docs/results.md).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.data = {"name": "digits"}
    config.features = ({"name": "pixels"},)
    config.estimator = {"name": "knn", "k": 3, "metric": "l2"}
    config.evals = {"test": {"split": "test"}}
    return config
