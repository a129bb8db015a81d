"""DINO on ImageNet without labels: ViT-S/16, 100 epochs or the boosted 300 (Caron et al. 2021).

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/dino_vits16_imagenet.py:vanilla
(or :boosted; FOLDER holds the prepared data set `imagenet2012`. Afterwards
`python -m experiments.evaluate --workdir RUN --evaluator linear_probe` and the like.)

Expected: published for the code's two commands, kNN with k = 20 and linear accuracy: 0.693 and 0.740 vanilla (8 GPUs,
1.75 days), 0.733 and 0.760 boosted (16 GPUs, 2.6 days). Not run here.

The recipe is that of the authors' main_dino.py: AdamW, learning rate 5e-4 * batch / 256 with 10 epochs of warm-up and
a cosine to 1e-6, weight decay on a cosine from 0.04 to 0.4, gradients clipped to 3 in each tensor, the prototypes
frozen for the first epoch, stochastic depth 0.1 in the student. Boosted: 1,024 images, the teacher's temperature
rising from 0.04 to 0.07 over 30 epochs, and gains of the prototypes that are trained (`norm_last_layer` false).

What is not quite the published training: the host brings each image to 320 x 320 as a whole, and the device cuts the
views from that, where the published views are cut from the full image. The warm-ups go by the step, the published
teacher temperature by the epoch, and the learning rate's first step is 0 and its peak comes one step later. bfloat16
takes the place of float16 with loss scaling.
"""

from ml_collections import ConfigDict

from vision.data.augment import multi_crop

BOOSTED = {
    "teacher_temperature": 0.07,
    "warmup_teacher_temperature": 0.04,
    "warmup": {"epochs": 30},
    "trained_gain": True,
}


def get_config(argument: str = "vanilla") -> ConfigDict:
    if argument not in ("vanilla", "boosted"):
        raise ValueError(f"the recipe is vanilla or boosted, got {argument!r}")
    boosted = argument == "boosted"
    config = ConfigDict()
    config.batch_size = 1024 if boosted else 512
    config.duration = {"epochs": 300 if boosted else 100}
    config.precision = "params=float32,compute=bfloat16,output=float32"
    config.data = {
        "name": "imagenet2012",
        "image_size": 320,
        "crop": {"name": "whole"},
        "eval_image_size": 224,
        "eval_crop": {"name": "center", "fraction": 0.875},
        "interpolation": "bicubic",
        "views": multi_crop.dino_views(),
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    }
    config.model = {"name": "vit/S16_dino", "stochastic_depth": 0.1}
    config.objective = {"name": "distill", **(BOOSTED if boosted else {})}
    config.optimizer = {
        "name": "adamw",
        "learning_rate": 5e-4 * config.batch_size / 256,
        "schedule": {"name": "cosine", "final": 1e-6},
        "warmup": {"epochs": 10},
        "weight_decay": 0.04,
        "weight_decay_schedule": {"name": "cosine", "final": 0.4},
        "clip_tensor_norm": 3.0,
        "rules": (
            (r"(bias|scale)$", {"weight_decay": 0.0}),
            (r"^head/(prototypes|gain)$", {"freeze_for": {"epochs": 1}}),
        ),
    }
    knn = {"name": "knn", "k": (10, 20, 100, 200), "metric": "cosine", "weights": "exponential"}
    config.evals = {"knn": {**knn, "split": "validation", "every": {"epochs": 10}}}
    config.checkpoint = {"every": {"steps": 1000}, "keep": 2}
    return config
