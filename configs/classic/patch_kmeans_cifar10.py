"""Whitened patches, k-means and a linear classifier on CIFAR-10 (Coates, Ng and Lee 2011): the strongest classic rung.

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/classic/patch_kmeans_cifar10.py:1600
(the number of centroids.)
Expected: test accuracy at least 0.77 (see docs/results.md); the paper has 77.9 % with 1,600 centroids (table 1 and
figure 4). About six gigabytes of memory.
"""

from ml_collections import ConfigDict


def get_config(centroids: str = "1600") -> ConfigDict:
    config = ConfigDict()
    config.data = {"name": "cifar10"}
    config.features = (
        {"name": "patch_kmeans", "centroids": int(centroids)},
        {"name": "standardize", "variance_floor": 0.01},
    )
    config.estimator = {"name": "ridge", "alpha": 10.0}
    config.evals = {"test": {"split": "test"}}
    config.limits = {"memory_gib": 16.0, "minutes": 120.0}
    return config
