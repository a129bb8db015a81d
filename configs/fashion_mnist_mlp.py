"""A multilayer perceptron on Fashion-MNIST, a stock TFDS data set read without TensorFlow.

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/fashion_mnist_mlp.py
(FOLDER holds the prepared data set, `fashion_mnist/3.0.1` below it.)
Expected: test accuracy 0.893 (see docs/results.md), above the 0.871 of the data set's own table of classic
estimators (Xiao, Rasul and Vollgraf 2017, table 3: MLP with 100 units); about two minutes on two cores.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.batch_size = 256
    config.duration = {"epochs": 20}
    config.steps_per_dispatch = 20
    config.data = {
        "name": "fashion_mnist",
        "augment": ({"name": "random_shift", "pixels": 1}, {"name": "random_flip"}),
        "mean": (0.286,),
        "std": (0.353,),
    }
    config.model = {"name": "mlp/512-512", "dropout": 0.2}
    config.objective = {"name": "classify"}
    config.optimizer = {
        "name": "adamw",
        "learning_rate": 1e-3,
        "schedule": {"name": "cosine"},
        "warmup": {"epochs": 1},
        "weight_decay": 0.05,
        "rules": ((r"bias$", {"weight_decay": 0.0}),),
    }
    config.ema = {"decay": 0.998}
    config.evals = {
        "test": {"name": "classification", "split": "test", "batch_size": 2000, "every": {"epochs": 4}},
    }
    config.checkpoint = {"every": {"epochs": 2}, "keep": 2}
    config.logging = {"every": {"steps": 100}}
    return config
