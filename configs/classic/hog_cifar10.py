"""Histograms of oriented gradients on CIFAR-10, in grey cells of 8x8 pixels: 324 numbers for an image.

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/classic/hog_cifar10.py:svm
(svm is a linear support vector machine, knn the weighted vote of 20 neighbours by cosine similarity.)
Expected: test accuracy at least 0.51 with svm and 0.57 with knn (see docs/results.md).
"""

from ml_collections import ConfigDict

from vision.config.calling import lookup


def get_config(estimator: str = "svm") -> ConfigDict:
    config = ConfigDict()
    config.data = {"name": "cifar10"}
    hog = {"name": "hog", "cell_size": 8}
    neighbours = {"name": "knn", "k": 20, "metric": "cosine", "weights": "exponential"}
    # Without the mean taken off, all histograms point the same way and cosines tell them badly apart.
    config.features = (hog, {"name": "standardize", "scale": 0.3})
    known = {"svm": {"name": "linear_svm", "c": 0.01}, "knn": neighbours}
    config.estimator = lookup(known, estimator, "--config", kind="estimator")
    config.evals = {"test": {"split": "test"}}
    return config
