"""ResNet-50 on ImageNet in 90 epochs: the classic recipe, for 18, 34, 101 and 152 layers too.

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/resnet50_imagenet.py
(FOLDER holds the prepared data set `imagenet2012`; configs/resnet50_imagenet.py:18 is the network of 18 layers.)

Expected: the published top-1 accuracies 0.6975, 0.7330, 0.7616, 0.7740 and 0.7833 for 18, 34, 50, 101 and 152 layers,
those of torchvision's first weights (IMAGENET1K_V1, as evaluated by timm), which this recipe made. Not run here.

The recipe (He et al. 2016, section 3.4, as in torchvision's references/classification): SGD with momentum 0.9, learning
rate 0.1 for 256 images, divided by 10 after 30, 60 and 80 epochs, weight decay 1e-4 on every parameter, no label
smoothing; random crops of 8% to 100% of the area and flips. Torchvision divides at 30 and 60 epochs; the third division
is Goyal et al.'s (2017, section 5.1). Another batch size wants a learning rate in proportion, and from 1,024 images on
a warm-up (`--config.optimizer.warmup.epochs=5`, likewise Goyal et al., section 2.2).
"""

from ml_collections import ConfigDict

DEPTHS = ("18", "34", "50", "101", "152")


def get_config(depth: str = "50") -> ConfigDict:
    if depth not in DEPTHS:
        raise ValueError(f"the depth is one of {', '.join(DEPTHS)}, got {depth!r}")
    config = ConfigDict()
    config.batch_size = 256
    config.duration = {"epochs": 90}
    config.precision = "params=float32,compute=bfloat16,output=float32"
    config.data = {
        "name": "imagenet2012",
        "image_size": 224,
        "crop": {"name": "random_resized"},
        "eval_crop": {"name": "center", "fraction": 0.875},
        "augment": ({"name": "random_flip"},),
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    }
    config.model = {"name": f"resnet/{depth}"}
    config.objective = {"name": "classify"}
    config.optimizer = {
        "name": "sgd",
        "momentum": 0.9,
        "learning_rate": 0.1,
        "schedule": {"name": "step", "at": ({"epochs": 30}, {"epochs": 60}, {"epochs": 80})},
        "weight_decay": 1e-4,
    }
    config.evals = {"val": {"name": "classification", "split": "validation", "every": {"epochs": 5}}}
    config.checkpoint = {"every": {"epochs": 1}, "keep": 2}
    return config
