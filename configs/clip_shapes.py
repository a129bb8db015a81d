"""CLIP on captioned shapes, from scratch, on two cores of a CPU: words understood in combinations never seen.

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/clip_shapes.py
(FOLDER holds the prepared set: `python -m tools.prepare_data shapes24 --data_dir FOLDER` draws it in a minute.)
24 of the 64 combinations of colour and shape, three of every word, are in no training picture; `heldout` has no others.
`python -m experiments.compositional --workdir RUN` measures it in full.
`--config.data.tokens.shuffled=True` is the control: every picture with the captions of another.
Expected: 0.94 of the held-out pictures are named rightly among the 24 held-out combinations (chance 0.04), and an image
finds a true caption first in 0.95 of cases (mean of 3 seeds, see docs/results.md); with shuffled captions both stay at
chance.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.batch_size = 128
    config.duration = {"epochs": 20}
    config.data = {
        "name": "shapes24",
        "tokens": {"vocab_size": 700, "length": 16},
        "augment": ({"name": "random_shift", "pixels": 2, "padding": "reflect"},),
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
    }
    # A grid of 2x2 keeps where things are, which captions tell of.
    config.model = {
        "name": "vgg/11_bn",
        "widths": (16, 32, 64, 128),
        "block_depths": (1, 1, 1, 1),
        "grid": 2,
        "hidden_sizes": (),
    }
    config.text = {"name": "text/small", "depth": 2}
    config.objective = {"name": "contrast", "embed_dim": 128}
    config.optimizer = {
        "name": "adamw",
        "learning_rate": 1e-3,
        "schedule": {"name": "cosine"},
        "warmup": {"epochs": 0.5},
        "weight_decay": 0.1,
        "rules": ((r"(bias|scale)$", {"weight_decay": 0.0}),),
    }
    zero_shot = {"name": "zero_shot", "templates": "shapes", "every": {"epochs": 4}, "batch_size": 500}
    config.evals = {
        "heldout": {**zero_shot, "split": "heldout", "among": "present"},
        "all": {**zero_shot, "split": "test", "unseen_split": "heldout"},
        "retrieval": {"name": "caption_retrieval", "split": "test", "batch_size": 500},
    }
    config.checkpoint = {"every": {"epochs": 4}, "keep": 2}
    config.logging = {"every": {"steps": 50}}
    return config
