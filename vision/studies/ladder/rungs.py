"""The rungs: each is a config of a training or a fit, as one could launch it alone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vision.studies.ladder.datasets import Ground, ground

Section = Mapping[str, Any]


@dataclass(frozen=True)
class Rung:
    """One way to learn.

    Attributes:
      name: one word, also that of its folder.
      title: for people.
      family: ``none``, ``linear``, ``neighbours``, ``kernel``, ``trees``, ``features`` or ``network``.
      config: of :func:`vision.training.loop.train`, or of :func:`vision.training.fit.fit` where it has an estimator.
      before: config of a training whose weights this one starts from, or None; its data are ``arrays``, the examples
        of the training split that belong to the first half of the classes.
    """

    name: str
    title: str
    family: str
    config: Section
    before: Section | None = None


def rungs(dataset: str, size: str, *, rung_minutes: float = 240.0, memory_gib: float = 8.0) -> tuple[Rung, ...]:
    """Returns the ladder for a data set, the lowest rung first.

    Args:
      dataset: ``digits``, ``fashion_mnist`` or ``cifar10``.
      size: ``small``, ``medium`` or ``full``.
      rung_minutes: what a fit may take, by its estimate; see :func:`vision.training.fit_schema.limits_section`.
      memory_gib: likewise.

    Raises:
      UserError: there is no such data set or size.
    """
    on = ground(dataset, size)
    limits = {"minutes": rung_minutes, "memory_gib": memory_gib}
    fitted = (replace(rung, config={**rung.config, "limits": limits}) for rung in _fitted(on))
    return (*fitted, *_trained(on), _transferred(on))


def _fitted(on: Ground) -> tuple[Rung, ...]:
    pixels, standard = ({"name": "pixels"},), ({"name": "pixels"}, {"name": "standardize"})
    hog = ({"name": "hog", "cell_size": 4}, {"name": "standardize", "scale": 0.3})
    words = (
        {"name": "dense_sift", "upsample": 4 if on.native > 8 else 8},
        {"name": "bag_of_words", "words": 100, "pyramid_levels": 2},
    )
    patches = (
        {"name": "patch_kmeans", "centroids": {"digits": 100}.get(on.name, 400), "patch_size": min(6, on.native // 2)},
        {"name": "standardize"},
    )
    k = on.neighbours
    # A round is a tree for each class.
    boosting = {"name": "gradient_boosting", "num_rounds": 40, "learning_rate": 0.2}
    return (
        _fit(on, "most_frequent", "The most frequent class", "none", pixels, {"name": "mean_class"}),
        _fit(
            on,
            "linear_regression",
            "Linear regression on one-hot targets",
            "linear",
            pixels,
            {"name": "linear_regression"},
        ),
        _fit(on, "softmax_regression", "Softmax regression", "linear", standard, {"name": "softmax_regression"}),
        _fit(
            on, "knn_l1", f"{k} nearest neighbours, L1", "neighbours", pixels, {"name": "knn", "k": k, "metric": "l1"}
        ),
        _fit(
            on, "knn_l2", f"{k} nearest neighbours, L2", "neighbours", pixels, {"name": "knn", "k": k, "metric": "l2"}
        ),
        _fit(on, "linear_svm", "Support vectors, linear", "kernel", standard, {"name": "linear_svm", "c": 0.01}),
        _fit(on, "rbf_svm", "Support vectors, RBF kernel", "kernel", standard, {"name": "kernel_svm", "c": 10.0}),
        _fit(on, "tree", "Decision tree", "trees", pixels, {"name": "decision_tree"}),
        _fit(on, "forest", "Random forest", "trees", pixels, {"name": "random_forest"}),
        _fit(on, "boosting", "Gradient boosting", "trees", pixels, boosting),
        _fit(on, "hog_svm", "HOG + linear SVM", "features", hog, {"name": "linear_svm", "c": 0.01}, side=on.side),
        _fit(on, "sift_bow_forest", "SIFT words + random forest", "features", words, {"name": "random_forest"}),
        _fit(on, "patches_linear", "Patch k-means + linear", "features", patches, {"name": "linear_svm", "c": 0.01}),
    )


def _fit(
    on: Ground,
    name: str,
    title: str,
    family: str,
    features: tuple[Section, ...],
    estimator: Section,
    *,
    side: int | None = None,
) -> Rung:
    evals = {"test": {"split": on.test}, "training": {"split": on.train}}
    config = {
        "data": on.data(side=side),
        "features": features,
        "estimator": estimator,
        "evals": evals,
    }
    return Rung(name, title, family, config)


def networks(on: Ground) -> dict[str, tuple[str, dict[str, Any]]]:
    """Returns title and model section of every network, by the name of its rung."""
    w, patch = on.width, on.side // 7 if on.side == 28 else 4
    token: dict[str, Any] = {"patch_size": patch, "width": 4 * w, "depth": 4}
    return {
        "mlp": ("Multilayer perceptron", {"name": "mlp/256-256", "dropout": 0.2}),
        "lenet": ("LeNet-5", {"name": "lenet/5", "field": 0 if on.side == 16 else 32}),
        "vgg": ("A small VGG", {"name": "vgg/11_cifar", "block_depths": (1, 1, 2), "widths": (w, 2 * w, 4 * w)}),
        "resnet": ("A small ResNet", {"name": "resnet/20", "stage_sizes": (1, 1, 1), "width": w}),
        "mixer": ("MLP-Mixer", {"name": "mixer/S32", **token, "tokens_dim": 2 * w, "channels_dim": 8 * w}),
        "vit": (
            "Vision transformer",
            {"name": "vit/Ti16", **token, "num_heads": 4, "mlp_dim": 8 * w, "pool": "gap", "class_token": False},
        ),
    }


def _trained(on: Ground) -> tuple[Rung, ...]:
    made = []
    for name, (title, model) in networks(on).items():
        # Pixels are enough for the perceptron; the others need room for their poolings and patches.
        data = on.data(side=on.native if name == "mlp" else on.side)
        made.append(Rung(name, title, "network", training(on, data, model, epochs=float(on.epochs))))
    return tuple(made)


def training(on: Ground, data: Section, model: Section, *, epochs: float, augment: bool = True) -> dict[str, Any]:
    """Returns the config that all networks share: AdamW, a cosine with a short warm-up, light augmentation."""
    steps = {"digits": 64}.get(on.name, 128)
    test = {"name": "classification", "batch_size": 500}
    return {
        "batch_size": steps,
        "duration": {"epochs": epochs},
        "steps_per_dispatch": 20,
        "data": {**data, "augment": on.augment if augment else (), "mean": on.mean, "std": on.std},
        "model": dict(model),
        "objective": {"name": "classify"},
        "optimizer": {
            "name": "adamw",
            "learning_rate": 2e-3,
            "schedule": {"name": "cosine"},
            "warmup": {"epochs": min(2.0, epochs / 5)},
            "weight_decay": 0.05,
            "clip_global_norm": 1.0,
        },
        "evals": {"test": {**test, "split": on.test}, "training": {**test, "split": data["split"]}},
        "checkpoint": {"keep": 1},
        "logging": {"every": {"steps": 100}, "tensorboard": False},
    }


def _transferred(on: Ground) -> Rung:
    """A network that knows half of the classes, frozen, under a new head that learns all of them."""
    _, model = networks(on)["vgg"]
    data = on.data(side=on.side)
    before = training(on, {**data, "name": "arrays", "split": "train"}, model, epochs=float(on.epochs))
    before["evals"] = {}
    config = training(on, data, model, epochs=float(on.epochs), augment=False)
    config["optimizer"] |= {"learning_rate": 1e-2, "weight_decay": 0.0, "rules": ((r"^(?!head)", {"freeze": True}),)}
    title = "Transfer from half of the classes"
    return Rung("transfer", title, "network", config, before)
