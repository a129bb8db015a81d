"""A multilayer perceptron on MNIST, read from a prepared TFDS data set.

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/mnist_mlp.py
`python -m tools.prepare_data mnist` downloads and prepares the data set there.
Expected: 0.98 to 0.986, where multilayer perceptrons without distortions end (LeCun et al. 1998 and since); not
measured here yet.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.batch_size = 256
    config.duration = {"epochs": 20}
    config.steps_per_dispatch = 20
    config.data = {
        "name": "mnist",
        "augment": ({"name": "random_affine", "degrees": (-10.0, 10.0), "translate": (0.1, 0.1)},),
        "mean": (0.1307,),
        "std": (0.3081,),
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
    config.evals = {
        "test": {"name": "classification", "split": "test", "batch_size": 2000, "every": {"epochs": 4}},
    }
    config.checkpoint = {"every": {"epochs": 2}, "keep": 2}
    config.logging = {"every": {"steps": 100}}
    return config
