"""DINO on CIFAR-10 without labels: ResNet-18, by the small-data recipe of solo-learn or of lightly.

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/dino_resnet18_cifar10.py:solo_learn
(or :lightly; FOLDER holds the prepared data set, `cifar10/3.0.2` below it.)

Expected: solo-learn states 0.8952 with a linear classifier after 1,000 epochs, lightly 0.840 with weighted kNN
(k = 200, temperature 0.1) after 200 epochs of 128 images. Not run here.

solo-learn: LARS with learning rate 0.3 and clipped trust coefficient 0.02, weight decay 1e-6, 256 images, a teacher
momentum from 0.9995, teacher temperature 0.07, 4,096 prototypes that are frozen for the first epoch, two views of 0.08
to 1 of the image without blur. lightly: SGD with learning rate 0.06, weight decay 5e-4, 128 images, a constant momentum
of 0.99, 2,048 prototypes, a head of two layers with batch normalisation, views of 0.4 to 1.

What is not quite theirs: solo-learn's warm-up starts from 3e-5, lightly's schedule goes by the epoch; both views go
through the network at once, so its batch statistics are theirs together, and the first convolution is padded by 1,
where solo-learn's is by 2.
"""

from typing import Any

from ml_collections import ConfigDict

from vision.data.augment import two_views


def get_config(argument: str = "solo_learn") -> ConfigDict:
    if argument not in ("solo_learn", "lightly"):
        raise ValueError(f"the recipe is solo_learn or lightly, got {argument!r}")
    config = ConfigDict()
    config.data = {
        "name": "cifar10",
        "views": two_views.solo_learn_cifar_views(),
        "mean": (0.4914, 0.4822, 0.4465),
        "std": (0.2470, 0.2435, 0.2616),
    }
    config.model = {"name": "resnet/18_cifar"}
    knn: dict[str, Any] = {"name": "knn", "k": (20, 200), "metric": "cosine", "weights": "exponential", "split": "test"}
    if argument == "solo_learn":
        config.batch_size = 256
        config.duration = {"epochs": 1000}
        config.objective = {
            "name": "distill",
            "num_prototypes": 4096,
            "teacher_temperature": 0.07,
            "teacher_momentum": 0.9995,
        }
        config.optimizer = {
            "name": "lars",
            "learning_rate": 0.3,
            "schedule": {"name": "cosine"},
            "trust_coefficient": 0.02,
            "clip": True,
            "weight_decay": 1e-6,
            "warmup": {"epochs": 10},
            "rules": (
                (r"(bias|scale)$", {"weight_decay": 0.0}),
                (r"^head/prototypes$", {"freeze_for": {"epochs": 1}}),
            ),
        }
    else:
        config.batch_size = 128
        config.duration = {"epochs": 200}
        config.data.views = two_views.lightly_cifar_views()
        config.objective = {
            "name": "distill",
            "num_prototypes": 2048,
            "num_layers": 2,
            "head_batch_norm": True,
            "teacher_momentum": 0.99,
            "final_teacher_momentum": 0.99,
        }
        config.optimizer = {
            "name": "sgd",
            "momentum": 0.9,
            "learning_rate": 0.06,
            "schedule": {"name": "cosine"},
            "weight_decay": 5e-4,
        }
        knn["temperature"] = 0.1
    config.evals = {"knn": {**knn, "every": {"epochs": 10}, "batch_size": 1000}}
    config.checkpoint = {"every": {"epochs": 5}, "keep": 2}
    config.logging = {"every": {"steps": 100}}
    return config
