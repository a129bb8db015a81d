"""Degradation (He et al. 2016, figures 1 and 6): a deeper plain network fits even its *training* images worse.

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/degradation_cifar10.py:plain20
(FOLDER holds the prepared data set, `cifar10/3.0.2` below it), likewise `:plain56`, `:resnet20` and `:resnet56`, each
with a `--workdir` of its own; then `python -m tools.report RUN RUN RUN RUN --out FILE.html` compares them. The
training error is 1 - accuracy of `fitted`, an evaluation over the training images themselves, without augmentation.

Expected: training errors of 0.345 (`plain20`), 0.805 (`plain56`), 0.108 (`resnet20`) and 0.063 (`resnet56`; one seed,
see docs/results.md): the deeper plain network is worse, and what it lacks is no regularisation; the deeper residual one
is not. About 13 minutes of one core for 56 layers and 4 for 20, with the XLA_FLAGS of docs/results.md; the paper's
figure 6 has the same networks on all of CIFAR-10.

Made small for one core: half of the paper's width, images of 16x16 pixels, a fifth of the training images, so that 23
epochs are enough to tell the networks apart. Else the recipe of section 4.2 in short: SGD with momentum 0.9, learning
rate 0.1 after a warm-up, weight decay 1e-4 and flips, but batches of 64 and half a cosine. Shortcuts have no parameters
(option A), so networks of one depth differ in nothing but them. The same runs serve `experiments.loss_surface`.
"""

from ml_collections import ConfigDict

NETWORKS = {"plain20": "plain/20", "plain56": "plain/56", "resnet20": "resnet/20", "resnet56": "resnet/56"}
TRAINING = "train[:10000]"


def get_config(argument: str = "plain20") -> ConfigDict:
    if argument not in NETWORKS:
        raise ValueError(f"the argument is one of {', '.join(NETWORKS)}, got {argument!r}")
    config = ConfigDict()
    config.batch_size = 64
    config.duration = {"steps": 3600}
    config.data = {
        "name": "cifar10",
        "split": TRAINING,
        "image_size": 16,
        "augment": ({"name": "random_flip"},),
        "mean": (0.4914, 0.4822, 0.4465),
        "std": (0.2470, 0.2435, 0.2616),
    }
    config.model = {"name": NETWORKS[argument], "width": 8}
    config.objective = {"name": "classify"}
    config.optimizer = {
        "name": "sgd",
        "momentum": 0.9,
        "learning_rate": 0.1,
        "schedule": {"name": "cosine"},
        "warmup": {"steps": 100},
        "weight_decay": 1e-4,
    }
    config.evals = {
        "fitted": {"name": "classification", "split": TRAINING, "batch_size": 1000},
        "test": {"name": "classification", "split": "test", "batch_size": 1000},
    }
    config.checkpoint = {"every": {"steps": 600}, "keep": 1}
    config.logging = {"every": {"steps": 50}}
    return config
