"""The multilayer perceptron of Fashion-MNIST on MNIST.

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/mnist_mlp.py
`python -m tools.prepare_data mnist` downloads and prepares the data set there.
Expected: 0.98 to 0.986, where multilayer perceptrons end that see no distorted digits; not measured here yet.
"""

from ml_collections import ConfigDict

from configs import fashion_mnist_mlp


def get_config() -> ConfigDict:
    config = fashion_mnist_mlp.get_config()
    config.data = {
        "name": "mnist",
        "augment": ({"name": "random_shift", "pixels": 1},),
        "mean": (0.1307,),
        "std": (0.3081,),
    }
    return config
