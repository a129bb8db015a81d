"""LeNet-5 on MNIST (LeCun et al. 1998): as it is built today, or as published.

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/lenet_mnist.py
`python -m tools.prepare_data mnist` downloads and prepares the data set there.

Expected: the published test accuracy 0.9905 without distorted digits and 0.992 with them (LeCun et al. 1998, section
III-B); networks of this size with ReLU and max pooling end between 0.990 and 0.993. Not run here.

`configs/lenet_mnist.py:5_1998` is the network of the paper, but not its training: the paper has 20 passes of a
stochastic Levenberg-Marquardt method on squared distances to codes of digits, here it is AdamW on cross-entropy.
"""

from ml_collections import ConfigDict

from configs import lenet_fashion_mnist


def get_config(variant: str = "5") -> ConfigDict:
    config = lenet_fashion_mnist.get_config()
    config.model = {"name": f"lenet/{variant}"}
    config.data = {
        "name": "mnist",
        "augment": ({"name": "random_shift", "pixels": 2},),
        "mean": (0.1307,),
        "std": (0.3081,),
    }
    return config
