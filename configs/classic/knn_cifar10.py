"""Nearest neighbours on the raw pixels of CIFAR-10, all 50,000 training images the bank.

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/classic/knn_cifar10.py:1,l2
(number of neighbours and metric: l1, l2 or cosine.)
Expected: test accuracy 0.3539 with 1 neighbour and L2, 0.3398 with 5, 0.3386 with 10; 0.3859 with 1 and L1. The notes
of Stanford's CS231n have 35.4 % and 38.6 % for one neighbour.
"""

from ml_collections import ConfigDict

from vision.errors import ConfigError


def get_config(argument: str = "1,l2") -> ConfigDict:
    k, _, metric = argument.partition(",")
    if not k.isdecimal():
        raise ConfigError(f"--config: {argument!r} is not a number and a metric, such as 5,l2")
    config = ConfigDict()
    config.data = {"name": "cifar10"}
    config.features = ({"name": "pixels"},)
    config.estimator = {"name": "knn", "k": int(k), "metric": metric or "l2"}
    config.evals = {"test": {"split": "test"}}
    config.limits = {"minutes": 120.0}
    return config
