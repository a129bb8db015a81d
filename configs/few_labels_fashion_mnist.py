"""Fashion-MNIST with the labels of 1% of its images, from scratch: what self-supervised learning is to be held against.

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/few_labels_fashion_mnist.py:vgg
(or :vit, :lenet; FOLDER holds the prepared data set, `fashion_mnist/3.0.1` below it.) `vit` and `vgg` are the backbones
of configs/dino_fashion_mnist.py:quick and :full, `--config.data.split='train[1%:2%]'` takes other images, and
`--config.init_from=RUN` starts from a backbone trained without labels.
Expected: test accuracy 0.833 of `vgg`, 0.777 of `vit` and 0.807 of `lenet` (means over three percents of the images,
see docs/results.md), each in two minutes on one core.
"""

from ml_collections import ConfigDict

MODELS = {
    "lenet": {"name": "lenet/5"},
    "vgg": {"name": "vgg/11_bn", "widths": (32, 64, 128), "block_depths": (1, 1, 1), "grid": 3, "hidden_sizes": ()},
    "vit": {"name": "vit/S16_dino", "patch_size": 7, "width": 96, "depth": 3, "num_heads": 3, "mlp_dim": 384},
}


def get_config(argument: str = "vgg") -> ConfigDict:
    if argument not in MODELS:
        raise ValueError(f"the argument is one of {', '.join(MODELS)}, got {argument!r}")
    config = ConfigDict()
    config.batch_size = 64
    config.duration = {"steps": 1500}
    config.data = {
        "name": "fashion_mnist",
        "split": "train[:1%]",
        "augment": ({"name": "random_shift", "pixels": 1}, {"name": "random_flip"}),
        "mean": (0.286,),
        "std": (0.353,),
    }
    config.model = MODELS[argument]
    config.objective = {"name": "classify"}
    config.optimizer = {
        "name": "adamw",
        "learning_rate": 1e-3,
        "schedule": {"name": "cosine"},
        "warmup": {"steps": 100},
        "weight_decay": 0.05,
        "rules": ((r"(bias|scale)$", {"weight_decay": 0.0}),),
    }
    config.evals = {"test": {"name": "classification", "split": "test", "batch_size": 1000}}
    config.checkpoint = {"every": {"steps": 500}, "keep": 1}
    config.logging = {"every": {"steps": 100}}
    return config
