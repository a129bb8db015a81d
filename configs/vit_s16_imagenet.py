"""The plain ViT-S/16 on ImageNet, for 90 or 300 epochs (Beyer et al. 2022, "Better plain ViT baselines").

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/vit_s16_imagenet.py:90
(or :300; FOLDER holds the prepared data set `imagenet2012`.)

Expected: the published top-1 accuracies 0.765 after 90 epochs and 0.800 after 300 (abstract). Not run here.

The recipe is that of big_vision's configs/vit_s16_i1k.py: 99% of the training images, Adam with learning rate 1e-3 over
1,024 images, warm-up of 10,000 steps, cosine to 0, gradients clipped to a norm of 1. Its weight decay 1e-4 is added
after the learning rate and follows the schedule alone, which is 1e-4 / 1e-3 = 0.1 where, as here and in PyTorch, the
learning rate scales it too; only kernels are decayed. The head has a hidden layer with tanh, as in that config;
`--config.model.name=vit/S16_gap` is without, as accurate according to the paper.

What is not quite the published training: momentum is kept in float32, not bfloat16. RandAugment draws from 14
operations at the largest magnitude (10 of 10); theirs are 16, with inversion, additive solarisation and cutout but no
identity, and their enhancements only ever strengthen. Mixup's share may be below one half, which only swaps the two
images.
"""

from ml_collections import ConfigDict


def get_config(epochs: str = "90") -> ConfigDict:
    config = ConfigDict()
    config.batch_size = 1024
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
        "mix": {"name": "mixup", "alpha": 0.2},
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
    }
    config.model = {"name": "vit/S16_gap_rep"}
    config.objective = {"name": "classify"}
    config.optimizer = {
        "name": "adamw",
        "learning_rate": 1e-3,
        "schedule": {"name": "cosine"},
        "warmup": {"steps": 10_000},
        "clip_global_norm": 1.0,
        "rules": ((r"kernel$", {"weight_decay": 0.1}),),
    }
    config.evals = {
        "minival": {"name": "classification", "split": "train[99%:]", "every": {"epochs": 5}},
        "val": {"name": "classification", "split": "validation", "every": {"epochs": 5}},
    }
    config.checkpoint = {"every": {"steps": 1000}, "keep": 2}
    return config
