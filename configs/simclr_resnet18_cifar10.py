"""SimCLR with a ResNet-18 on CIFAR-10, without labels, for 1,000 epochs (da Costa et al. 2022, solo-learn).

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/simclr_resnet18_cifar10.py
(FOLDER holds the prepared data set, `cifar10/3.0.2` below it.)

Expected: with solo-learn a linear classifier on the features reaches 0.9074 on the test images (its README); lightly,
with batches of 512 and other views, has 0.879 with nearest neighbours after 800 epochs. Not run here.

The recipe is solo-learn's scripts/pretrain/cifar/simclr.yaml: batches of 256, temperature 0.2, a head of two layers
without batch normalisation (2,048 and 256), warm-up of 10 epochs to 0.4, then half a cosine, weight decay 1e-4 of
kernels.

What is not quite that training: both views go through the network at once, so its batch statistics are theirs together;
the first convolution is padded by 1, not 2; the warm-up starts at 0.
"""

from ml_collections import ConfigDict

from vision.data.augment import two_views


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.batch_size = 256
    config.duration = {"epochs": 1000}
    config.precision = "params=float32,compute=bfloat16,output=float32"
    config.data = {
        "name": "cifar10",
        "views": two_views.solo_learn_simclr_cifar_views(),
        "mean": (0.4914, 0.4822, 0.4465),
        "std": (0.2470, 0.2435, 0.2616),
    }
    config.model = {"name": "resnet/18_cifar"}
    config.objective = {
        "name": "simclr",
        "temperature": 0.2,
        "hidden_size": 2048,
        "out_size": 256,
        "batch_norm": False,
    }
    config.optimizer = {
        "name": "lars",
        "trust_coefficient": 0.02,
        "clip": True,
        "momentum": 0.9,
        "learning_rate": 0.4,
        "schedule": {"name": "cosine"},
        "warmup": {"epochs": 10},
        "weight_decay": 1e-4,
        "rules": ((r"(bias|scale)$", {"weight_decay": 0.0}),),
    }
    knn = {"name": "knn", "k": 20, "metric": "cosine", "weights": "exponential", "temperature": 0.07}
    config.evals = {"knn": {**knn, "split": "test", "batch_size": 1000, "every": {"epochs": 10}}}
    config.checkpoint = {"every": {"epochs": 5}, "keep": 2}
    config.logging = {"every": {"steps": 100}}
    return config
