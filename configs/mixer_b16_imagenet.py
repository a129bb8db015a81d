"""MLP-Mixer-B/16 on ImageNet alone, for 300 or 60 epochs.

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/mixer_b16_imagenet.py:300
(or :60; FOLDER holds the prepared data set `imagenet2012`.)

Expected: the published top-1 accuracies 0.763 after 300 epochs and 0.705 after 60 (the docstring of big_vision's
configs/mlp_mixer_i1k.py). Not run here.

The recipe is that of that file: 99% of the training images, sigmoid cross-entropy with the head's bias at -6.9, Adam
with learning rate 1e-3 over 4,096 images, a warm-up of 10,000 steps, then a line to 1e-5 of the peak, gradients clipped
to a norm of 1. Its weight decay 1e-4 is 0.1 here, and on kernels only; see configs/vit_s16_imagenet.py. Stochastic
depth does not rescale branches, as in that code.

What is not quite the published training: RandAugment has magnitude 15 of 10 there, beyond the scale of the operations
here, which end at 10; for the operations themselves see configs/vit_s16_imagenet.py.
"""

from ml_collections import ConfigDict


def get_config(epochs: str = "300") -> ConfigDict:
    config = ConfigDict()
    config.batch_size = 4096
    config.duration = {"epochs": int(epochs)}
    config.precision = "params=float32,compute=bfloat16,output=float32"
    config.data = {
        "name": "imagenet2012",
        "split": "train[:99%]",
        "image_size": 224,
        "crop": {"name": "random_resized", "scale": (0.05, 1.0)},
        "eval_crop": {"name": "center", "fraction": 0.875},
        "augment": (
            {"name": "random_flip"},
            {"name": "randaugment", "num_ops": 2, "magnitude": 30.0, "fill": 128.0},
        ),
        "mix": {"name": "mixup", "alpha": 0.5},
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
    }
    config.model = {"name": "mixer/B16", "stochastic_depth": 0.1, "rescale_depth": False, "head_bias": -6.9}
    config.objective = {"name": "classify", "loss": "sigmoid"}
    config.optimizer = {
        "name": "adamw",
        "learning_rate": 1e-3,
        "schedule": {"name": "linear", "final": 1e-3 * 1e-5},
        "warmup": {"steps": 10_000},
        "clip_global_norm": 1.0,
        "rules": ((r"kernel$", {"weight_decay": 0.1}),),
    }
    config.evals = {
        "minival": {"name": "classification", "loss": "sigmoid", "split": "train[99%:]", "every": {"epochs": 5}},
        "val": {"name": "classification", "loss": "sigmoid", "split": "validation", "every": {"epochs": 5}},
    }
    config.checkpoint = {"every": {"steps": 1000}, "keep": 2}
    return config
