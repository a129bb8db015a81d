"""DINO on Fashion-MNIST without its labels."""

from ml_collections import ConfigDict


def get_config(size: str = "quick") -> ConfigDict:
    config = ConfigDict()
    config.batch_size = 256
    config.duration = {"epochs": 4}
    config.data = {
        "name": "fashion_mnist",
        "views": {
            "global": (_view(28, (0.4, 1.0)), _view(28, (0.4, 1.0))),
            "local": (_view(14, (0.1, 0.4)),) * 2,
        },
        "mean": (0.286,),
        "std": (0.353,),
    }
    config.objective = {
        "name": "distill",
        "num_prototypes": 1024,
        "hidden_dim": 512,
        "bottleneck_dim": 128,
        "teacher_temperature": 0.04,
        "teacher_momentum": 0.99,
    }
    if size == "quick":
        config.model = {
            "name": "vit/S16_dino",
            "patch_size": 7,
            "width": 128,
            "depth": 4,
            "num_heads": 4,
            "mlp_dim": 512,
        }
    else:
        config.model = {
            "name": "vgg/11_bn",
            "widths": (32, 64, 128),
            "block_depths": (1, 1, 1),
            "hidden_sizes": (),
            "grid": 1,
        }
    config.optimizer = {
        "name": "adamw",
        "learning_rate": 1e-3,
        "schedule": {"name": "cosine", "final": 1e-5},
        "warmup": {"epochs": 0.5},
        "weight_decay": 0.04,
        "weight_decay_schedule": {"name": "cosine", "final": 0.4},
        "clip_tensor_norm": 3.0,
        "rules": (
            (r"(bias|scale)$", {"weight_decay": 0.0}),
            (r"^head/prototypes$", {"freeze_for": {"epochs": 0.5}}),
        ),
    }
    knn = {"name": "knn", "k": 20, "metric": "cosine", "weights": "exponential", "split": "test"}
    config.evals = {"knn": {**knn, "every": {"epochs": 1}, "at_start": True, "batch_size": 1000}}
    config.checkpoint = {"every": {"epochs": 1}, "keep": 2}
    config.logging = {"every": {"steps": 20}}
    return config


def _view(size, scale):
    return (
        {"name": "random_resized_crop", "size": size, "scale": scale, "interpolation": "bilinear"},
        {"name": "random_flip", "probability": 0.5},
        {"name": "color_jitter", "brightness": 0.4, "contrast": 0.4, "probability": 0.8},
    )
