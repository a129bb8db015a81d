"""VGG on ImageNet: 11, 13, 16 or 19 layers, with or without batch normalisation.

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/vgg_imagenet.py:16_bn
(FOLDER holds the prepared data set `imagenet2012`.)

Expected: the published top-1 accuracies 0.6905, 0.6995, 0.7159 and 0.7240 for 11, 13, 16 and 19 layers, and with batch
normalisation 0.7037, 0.7156, 0.7335 and 0.7423: those of torchvision's weights (IMAGENET1K_V1, as evaluated by timm),
which this recipe made. Not run here.

The recipe (torchvision's references/classification): SGD with momentum 0.9, 256 images, learning rate 0.01, divided by
10 after 30 and 60 of 90 epochs, weight decay 1e-4 on every parameter, crops of 8% to 100% of the area and flips. The
paper (Simonyan and Zisserman 2015, section 3.1) has weight decay 5e-4, 74 epochs with three divisions when the
validation accuracy stopped rising, crops of a fixed size, and starts its deep networks from a trained shallow one:
`--config.optimizer.weight_decay=5e-4 --config.duration.epochs=74` come nearer to it.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "16") -> ConfigDict:
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
    config.model = {"name": f"vgg/{variant}"}
    config.objective = {"name": "classify"}
    config.optimizer = {
        "name": "sgd",
        "momentum": 0.9,
        "learning_rate": 0.01,
        "schedule": {"name": "step", "at": ({"epochs": 30}, {"epochs": 60})},
        "weight_decay": 1e-4,
    }
    config.evals = {"val": {"name": "classification", "split": "validation", "every": {"epochs": 5}}}
    config.checkpoint = {"every": {"epochs": 1}, "keep": 2}
    return config
