"""DINO on ImageNet without labels: ResNet-50 (Caron et al. 2021, table 2).

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/dino_resnet50_imagenet.py
(FOLDER holds the prepared data set `imagenet2012`.)

Expected: the published weights have 0.675 with weighted kNN (k = 20) and 0.753 with a linear probe. This is the command
that the authors' README gives for ResNet-50, for which it states no number. Not run here.

The recipe: SGD with momentum 0.9, learning rate 0.03 * batch / 256 with 10 epochs of warm-up and a cosine to 1e-6,
weight decay 1e-4 throughout, two global views of 0.14 to 1 and eight local ones of 0.05 to 0.14 of the image. Teacher
and student both take their batch statistics from their own views, over the whole batch.

What is not quite the published training: see configs/dino_vits16_imagenet.py.
"""

from ml_collections import ConfigDict

from vision.data.augment import multi_crop


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.batch_size = 512
    config.duration = {"epochs": 100}
    config.precision = "params=float32,compute=bfloat16,output=float32"
    config.data = {
        "name": "imagenet2012",
        "image_size": 320,
        "crop": {"name": "whole"},
        "eval_image_size": 224,
        "eval_crop": {"name": "center", "fraction": 0.875},
        "interpolation": "bicubic",
        "views": multi_crop.dino_views(global_scale=(0.14, 1.0), local_scale=(0.05, 0.14)),
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    }
    config.model = {"name": "resnet/50"}
    config.objective = {"name": "distill"}
    config.optimizer = {
        "name": "sgd",
        "momentum": 0.9,
        "learning_rate": 0.03 * config.batch_size / 256,
        "schedule": {"name": "cosine", "final": 1e-6},
        "warmup": {"epochs": 10},
        "weight_decay": 1e-4,
        "clip_tensor_norm": 3.0,
        "rules": (
            (r"(bias|scale)$", {"weight_decay": 0.0}),
            (r"^head/prototypes$", {"freeze_for": {"epochs": 1}}),
        ),
    }
    knn = {"name": "knn", "k": (10, 20, 100, 200), "metric": "cosine", "weights": "exponential"}
    config.evals = {"knn": {**knn, "split": "validation", "every": {"epochs": 10}}}
    config.checkpoint = {"every": {"steps": 1000}, "keep": 2}
    return config
