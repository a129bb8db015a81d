"""DINOv2 on ImageNet without labels: ViT-L/16, the "short" training from scratch (Oquab et al. 2024).

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/dinov2_vitl16_imagenet.py
(FOLDER holds the prepared data set `imagenet2012`.)

Expected: published by the authors' README for 32 A100 and about a day: 0.816 with weighted kNN, 0.829 with a linear
probe. Not run here.

The recipe is that of the authors' vitl16_short.yaml over ssl_default_config.yaml: 2,048 images, 125,000 steps (100
"epochs" of 1,250), AdamW with learning rate 0.004 * sqrt(batch / 1024), 12,500 steps of warm-up and a cosine to 1e-6,
weight decay on a cosine from 0.04 to 0.4, a learning rate that falls by 0.9 from block to block and once more to a
fifth for the patch embedding, clipping to 3 in backbone and head each, prototypes frozen for 1,250 steps. One head for
whole images and masked patches, centred targets, KoLeo 0.1, LayerScale 1e-5, stochastic depth 0.3 that runs each branch
on a part of the batch, the teacher's momentum on a cosine from 0.992 to 1.

What is not quite the published training: the views are cut from images of 320 x 320 (see
configs/dino_vits16_imagenet.py). Of the two global views of each image one is masked, where the authors mask half of
all views of the batch. KoLeo is over all images of the step, not over those of one GPU. Adam's moments of the
prototypes begin when these are set free; there the learning rate is 0 till then, and the moments are kept. Gaussian
blur has the probabilities that were meant; `blur_as_released=True` in the views gives those of the published code.
`--config.microbatches` needs `--config.model.drop_mode=example`.
"""

import math

from ml_collections import ConfigDict

from vision.data.augment import multi_crop

EPOCH = 1250  # steps


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.batch_size = 2048
    config.duration = {"steps": 100 * EPOCH}
    config.precision = "params=float32,compute=bfloat16,output=float32"
    config.data = {
        "name": "imagenet2012",
        "image_size": 320,
        "crop": {"name": "whole"},
        "eval_image_size": 224,
        "eval_crop": {"name": "center", "fraction": 0.875},
        "interpolation": "bicubic",
        "views": multi_crop.dinov2_views(),
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    }
    config.model = {
        "name": "vit/L14_dinov2",
        "patch_size": 16,
        "stochastic_depth": 0.3,
        "drop_mode": "batch_subset",
        "remat": "full",
    }
    config.objective = {
        "name": "distill",
        "trained_gain": True,
        "teacher_temperature": 0.07,
        "warmup_teacher_temperature": 0.04,
        "warmup": {"steps": 30 * EPOCH},
        "teacher_momentum": 0.992,
        "koleo_weight": 0.1,
        "patch_weight": 1.0,
    }
    config.optimizer = {
        "name": "adamw",
        "learning_rate": 0.004 * math.sqrt(config.batch_size / 1024),
        "schedule": {"name": "cosine", "final": 1e-6},
        "warmup": {"steps": 10 * EPOCH},
        "weight_decay": 0.04,
        "weight_decay_schedule": {"name": "cosine", "final": 0.4},
        "clip_module_norm": 3.0,
        "rules": (
            (r"(bias|scale)$|norm|layer_scale", {"weight_decay": 0.0}),
            (r"^head/(prototypes|gain)$", {"freeze_for": {"steps": EPOCH}}),
        ),
        "layerwise_decay": {
            "decay": 0.9,
            "layers": (r"_token$|_position$|position_embedding|patch_embedding", r"/block(\d+)/", r"."),
            "factors": ((r"patch_embedding", 0.2),),
        },
    }
    knn = {"name": "knn", "k": (10, 20, 100, 200), "metric": "cosine", "weights": "exponential"}
    config.evals = {"knn": {**knn, "split": "validation", "every": {"steps": 10 * EPOCH}}}
    config.checkpoint = {"every": {"steps": EPOCH}, "keep": 2}
    return config
