"""ConvNeXt-T on ImageNet (Liu et al. 2022, table 5); S, B and L as well.

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/convnext_imagenet.py:T
(FOLDER holds the prepared data set `imagenet2012`.)

Expected: the published top-1 accuracies 0.821, 0.831, 0.838 and 0.843 for T, S, B and L (table 1). Not run here.

The recipe is that of the authors' TRAINING.md: AdamW with learning rate 4e-3 over 4,096 images, weight decay 0.05 on
kernels, a warm-up of 20 epochs, a cosine down to 1e-6 in 300 epochs, label smoothing 0.1, RandAugment, mixup or CutMix,
random erasing, stochastic depth 0.1, 0.4, 0.5 and 0.5, an average of the parameters with decay 0.9999 that is
evaluated. With less memory, `--config.microbatches=4` computes the same batch in parts.

What is not quite the published training: RandAugment and erased pixels, as in configs/deit_s16_imagenet.py.
"""

from ml_collections import ConfigDict

STOCHASTIC_DEPTH = {"T": 0.1, "S": 0.4, "B": 0.5, "L": 0.5}


def get_config(size: str = "T") -> ConfigDict:
    if size not in STOCHASTIC_DEPTH:
        raise ValueError(f"the size is one of {', '.join(STOCHASTIC_DEPTH)}, got {size!r}")
    policy = {
        "name": "randaugment",
        "num_ops": 1,
        "magnitude": 27.0,
        "magnitude_std": 1.5,
        "interpolation": "bilinear",
        "fill": 115.0,  # about the mean of the images
    }
    config = ConfigDict()
    config.batch_size = 4096
    config.duration = {"epochs": 300}
    config.precision = "params=float32,compute=bfloat16,output=float32"
    config.data = {
        "name": "imagenet2012",
        "image_size": 224,
        "crop": {"name": "random_resized"},
        "eval_crop": {"name": "center", "fraction": 0.875},
        "interpolation": "bicubic",
        "augment": (
            {"name": "random_flip"},
            policy,
            {"name": "random_erasing", "probability": 0.25, "scale": (0.02, 1 / 3), "value": "noise"},
        ),
        "mix": {"name": "mixup_or_cutmix", "mixup_alpha": 0.8, "cutmix_alpha": 1.0},
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    }
    config.model = {"name": f"convnext/{size}", "stochastic_depth": STOCHASTIC_DEPTH[size]}
    config.objective = {"name": "classify", "label_smoothing": 0.1}
    config.optimizer = {
        "name": "adamw",
        "learning_rate": 4e-3,
        "schedule": {"name": "cosine", "final": 1e-6},
        "warmup": {"epochs": 20},
        "rules": ((r"kernel$", {"weight_decay": 0.05}),),
    }
    config.ema = {"decay": 0.9999}
    config.evals = {"val": {"name": "classification", "split": "validation", "every": {"epochs": 10}}}
    config.checkpoint = {"every": {"epochs": 5}, "keep": 2}
    return config
