"""DINO on Fashion-MNIST without its labels, on two cores of a CPU: a small ViT, or a small convolutional network.

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/dino_fashion_mnist.py:quick
(or :full; FOLDER holds the prepared data set, `fashion_mnist/3.0.1` below it.)
Expected: weighted kNN (k = 20) on the test images, untrained and at the end: 0.684 and 0.793 of the ViT, 0.857 and
0.871 of the convolutional network (means of 3 seeds, see docs/results.md); 16 to 26 minutes on one busy core.
"""

from typing import Any

from ml_collections import ConfigDict


def _view(size: int, scale: tuple[float, float], aspect: float = 4 / 3) -> tuple[dict[str, Any], ...]:
    """A crop of so much of the image, its sides in a ratio of up to ``aspect``, mirrored or not, brighter or darker."""
    return (
        {"name": "random_resized_crop", "size": size, "scale": scale, "ratio": (1 / aspect, aspect)},
        {"name": "random_flip"},
        {"name": "color_jitter", "brightness": 0.4, "contrast": 0.4, "probability": 0.8},
    )


MODELS: dict[str, dict[str, Any]] = {
    "quick": {"name": "vit/S16_dino", "patch_size": 7, "width": 96, "depth": 3, "num_heads": 3, "mlp_dim": 384},
    "full": {
        "name": "vgg/11_bn",
        "widths": (32, 64, 128),
        "block_depths": (1, 1, 1),
        "grid": 3,
        "hidden_sizes": (),
    },
}
EPOCHS = {"quick": 4, "full": 2}
VIEWS = {
    "quick": {"global": (_view(28, (0.4, 1.0)),) * 2, "local": (_view(14, (0.1, 0.4)),) * 2},
    # Milder: the network has been given much of what a garment's shape says, and stronger crops take it away.
    "full": {"global": (_view(28, (0.6, 1.0), 1.1),) * 2, "local": (_view(14, (0.2, 0.5), 1.1),) * 2},
}


def get_config(argument: str = "quick") -> ConfigDict:
    if argument not in MODELS:
        raise ValueError(f"the argument is one of {', '.join(MODELS)}, got {argument!r}")
    config = ConfigDict()
    config.batch_size = 256
    config.duration = {"epochs": EPOCHS[argument]}
    config.data = {
        "name": "fashion_mnist",
        "views": VIEWS[argument],
        "mean": (0.286,),
        "std": (0.353,),
    }
    config.model = MODELS[argument]
    config.objective = {
        "name": "distill",
        "num_prototypes": 512,
        "hidden_dim": 512,
        "bottleneck_dim": 128,
        "teacher_momentum": 0.99,
        # With the moving centre, and without KoLeo, features spread over two directions only (docs/results.md).
        "centering": "sinkhorn_knopp",
        "koleo_weight": 0.1,
    }
    config.optimizer = {
        "name": "adamw",
        "learning_rate": 2e-3,
        "schedule": {"name": "cosine", "final": 1e-5},
        "warmup": {"epochs": 0.25},
        "weight_decay": 0.04,
        "weight_decay_schedule": {"name": "cosine", "final": 0.4},
        "clip_tensor_norm": 3.0,
        "rules": (
            (r"(bias|scale)$", {"weight_decay": 0.0}),
            (r"^head/prototypes$", {"freeze_for": {"epochs": 0.5}}),
        ),
    }
    knn = {"name": "knn", "k": 20, "metric": "cosine", "weights": "exponential", "split": "test"}
    config.evals = {"knn": {**knn, "at_start": True, "every": {"epochs": 1}, "batch_size": 1000}}
    config.checkpoint = {"every": {"epochs": 1}, "keep": 2}
    config.logging = {"every": {"steps": 50}}
    return config
