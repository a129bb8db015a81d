"""CLIP on a thousand photos of Flickr8k with five captions each, from a small pretrained ResNet, on two cores of a CPU.

Command: python -m experiments.train --config configs/clip_flickr8k.py:RUN --config.data.name=captions:FILE
(RUN is a training of configs/folder_resnet.py on tiny images, or any ResNet-18 of width 16; FILE is the table of
captions, with the photos beside it in `images`.)
Expected: of the 200 photos that are held out a text finds its own among the first ten in 0.217 of cases, chance 0.050
(one seed, see docs/results.md), in seven minutes of one core. 800 photos teach few words; the number is what it is.
"""

from ml_collections import ConfigDict


def get_config(run: str = "runs/folder_resnet") -> ConfigDict:
    config = ConfigDict()
    config.batch_size = 96
    config.duration = {"epochs": 60}
    config.init_from = run
    config.data = {
        "name": "captions:captions.txt",
        "split": "train[:800]",
        "image_size": 64,
        "channels": 3,
        "tokens": {"vocab_size": 1500, "length": 24},
        "augment": (
            {"name": "random_resized_crop", "size": 64, "scale": (0.5, 1.0), "ratio": (0.75, 4 / 3)},
            {"name": "random_flip"},
            {"name": "color_jitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.4},
        ),
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    }
    config.model = {"name": "resnet/18", "width": 16}
    config.text = {"name": "text/small", "depth": 2, "dropout": 0.1}
    config.objective = {"name": "contrast", "embed_dim": 128}
    config.optimizer = {
        "name": "adamw",
        "learning_rate": 1e-3,
        "schedule": {"name": "cosine"},
        "warmup": {"epochs": 3},
        "weight_decay": 0.2,
        "rules": (
            (r"(bias|scale)$", {"weight_decay": 0.0}),
            (r"^backbone/", {"learning_rate_scale": 0.3}),
        ),
    }
    config.evals = {
        "retrieval": {
            "name": "caption_retrieval",
            "split": "train[800:]+val",
            "batch_size": 96,
            "every": {"epochs": 10},
            "at_start": True,
        }
    }
    config.checkpoint = {"every": {"epochs": 10}, "keep": 1}
    config.logging = {"every": {"steps": 40}}
    return config
