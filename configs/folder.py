"""A multilayer perceptron on any folder of images: the place to start with your own.

Command: python -m experiments.train --config configs/folder.py --config.data.name=folder:PATH
(or configs/folder.py:PATH). PATH has a folder for each class, or `train` and `val` with such folders in them; the
classes, their number and the size of the images are found. Any other source with labels will do as well: cifar10,
captions:FILE, tar:SHARDS, npz:FILE.
Expected: validation accuracy 0.413 on ten classes of Tiny ImageNet (see docs/results.md), in about two minutes.
`configs/folder_resnet.py` is the same with a convolutional network: better by far, and slower.
"""

from ml_collections import ConfigDict


def get_config(root: str = "images") -> ConfigDict:
    config = ConfigDict()
    config.batch_size = 128
    config.duration = {"epochs": 30}
    config.data = {
        "name": f"folder:{root}",
        "channels": 3,
        "augment": ({"name": "random_shift", "pixels": 4, "padding": "reflect"}, {"name": "random_flip"}),
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    }
    config.model = {"name": "mlp/512-512", "dropout": 0.1}
    config.objective = {"name": "classify", "label_smoothing": 0.1}
    config.optimizer = {
        "name": "adamw",
        "learning_rate": 5e-4,
        "schedule": {"name": "cosine"},
        "warmup": {"epochs": 1},
        "weight_decay": 0.05,
        "clip_global_norm": 1.0,
        "rules": ((r"bias$", {"weight_decay": 0.0}),),
    }
    config.evals = {"val": {"name": "classification", "batch_size": 256, "every": {"epochs": 5}}}
    config.checkpoint = {"every": {"epochs": 5}, "keep": 2}
    config.logging = {"every": {"steps": 50}}
    return config
