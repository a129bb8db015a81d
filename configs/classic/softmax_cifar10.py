"""Softmax regression on the raw pixels of CIFAR-10.

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/classic/softmax_cifar10.py
Expected: test accuracy 0.418 (see docs/results.md).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.data = {"name": "cifar10"}
    config.features = ({"name": "pixels"},)
    config.estimator = {"name": "softmax_regression", "l2": 1e-3}
    config.evals = {"test": {"split": "test"}}
    config.limits = {"minutes": 120.0}
    return config
