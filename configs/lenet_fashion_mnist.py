"""LeNet-5 on Fashion-MNIST: the smallest convolutional network here.

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/lenet_fashion_mnist.py
(FOLDER holds the prepared data set, `fashion_mnist/3.0.1` below it.)
Expected: test accuracy 0.914 (mean of 3 seeds; see docs/results.md), with a tenth of the parameters of the multilayer
perceptron that has 0.892; about ten minutes on two cores that were shared with other programs.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.batch_size = 128
    config.duration = {"epochs": 20}
    config.data = {
        "name": "fashion_mnist",
        "augment": ({"name": "random_shift", "pixels": 1}, {"name": "random_flip"}),
        "mean": (0.286,),
        "std": (0.353,),
    }
    config.model = {"name": "lenet/5"}
    config.objective = {"name": "classify"}
    config.optimizer = {
        "name": "adamw",
        "learning_rate": 3e-3,
        "schedule": {"name": "cosine"},
        "warmup": {"epochs": 1},
        "weight_decay": 0.05,
        "rules": ((r"bias$", {"weight_decay": 0.0}),),
    }
    config.evals = {"test": {"name": "classification", "split": "test", "batch_size": 2000, "every": {"epochs": 4}}}
    config.checkpoint = {"every": {"epochs": 2}, "keep": 2}
    config.logging = {"every": {"steps": 200}}
    return config
