"""CIFAR-10 to 94% in a few epochs: airbench94 with Muon (Jordan 2024, arXiv:2404.00498, and the released code).

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/cifar10_airbench.py
(FOLDER holds the prepared data set, `cifar10/3.0.2` below it; `:8` after the path is the published number of epochs.)

Expected: test accuracy 0.9418 after 10 epochs with six views of each test image, `test/accuracy` (mean of 3 seeds,
standard deviation 0.0011; docs/results.md), and 0.9334 of the image alone, `plain/accuracy`; about 85 minutes on one
core of a CPU. The published one after 8 epochs is 0.9401 (mean of 200 trainings, standard deviation 0.0014).

The recipe of airbench94_muon.py: 2,000 images a step, whitening filters made of the first 5,000 training images and
frozen, their bias trained for 3 epochs, every other convolution by Muon with its weights scaled to a norm of
sqrt(outputs) before each step, biases of normalisations and the head by SGD with Nesterov's momentum 0.85, learning
rates that fall to 0 on a line, label smoothing 0.2, images flipped at every second visit and moved by up to 2 pixels.

The published loss is the sum over a batch and here it is the mean, so that SGD's learning rates are 2,000 times the
published 0.053 and 0.67 (written below as multiples of Muon's 0.24) and its weight decay the published one,
2e-6 * 2000 / learning rate, divided by 2,000. Muon's iteration runs in float32 where theirs runs in bfloat16, and the
network in float32 where theirs runs in float16.
"""

from ml_collections import ConfigDict

BATCH_SIZE = 2000
MUON_RATE, BIAS_RATE, HEAD_RATE = 0.24, 0.053, 0.67
WEIGHT_DECAY = 2e-6 * BATCH_SIZE
EPOCHS_OF_WHITENING_BIAS = 3


def by_sgd(rate: float) -> dict[str, float]:
    return {"learning_rate_scale": rate * BATCH_SIZE / MUON_RATE, "weight_decay": WEIGHT_DECAY / rate / BATCH_SIZE}


def get_config(epochs: str = "10") -> ConfigDict:
    config = ConfigDict()
    config.batch_size = BATCH_SIZE
    config.duration = {"epochs": int(epochs)}
    config.data = {
        "name": "cifar10",
        "augment": ({"name": "alternating_flip"}, {"name": "random_shift", "pixels": 2, "padding": "reflect"}),
        "mean": (0.4914, 0.4822, 0.4465),
        "std": (0.2470, 0.2435, 0.2616),
    }
    config.model = {"name": "airbench/94"}
    config.freeze = {"patterns": ("^whiten/kernel$",)}
    config.objective = {"name": "classify", "label_smoothing": 0.2}
    whitening_bias = {"train_for": {"epochs": min(EPOCHS_OF_WHITENING_BIAS, int(epochs))}}
    config.optimizer = {
        "name": "muon",
        "learning_rate": MUON_RATE,
        "schedule": {"name": "linear"},
        "beta": 0.6,
        "newton_schulz_steps": 3,
        "unit_rows": True,
        "others": "sgd",
        "momentum": 0.85,
        "exclude": ("^head/",),
        "rules": (
            (r"^whiten/bias$", by_sgd(BIAS_RATE) | whitening_bias),
            (r"/bias$", by_sgd(BIAS_RATE)),
            (r"^head/kernel$", by_sgd(HEAD_RATE)),
        ),
    }
    config.evals = {
        "test": {"name": "classification", "split": "test", "views": "mirror_and_shift", "batch_size": 1000},
        "plain": {"name": "classification", "split": "test", "batch_size": 1000, "every": {"epochs": 1}},
    }
    config.checkpoint = {"every": {"epochs": 1}, "keep": 2}
    config.logging = {"every": {"steps": 5}}
    return config
