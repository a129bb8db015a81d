"""The project's configs at a size that compiles in seconds: few images, few layers, the same parts."""

from pathlib import Path
from typing import Any

from vision.config.loading import load
from vision.data import tokenizer
from vision.training.schema import resolve

CONFIGS = Path(__file__).parents[2] / "configs"
SIDE = 80  # of the images that stand in for ImageNet's: a multiple of 16, and AlexNet needs 67
# What stands in for data that may not be there: shape of an image, number of classes, examples of the real train split.
KNOWN: dict[str, tuple[tuple[int, int, int], int, int]] = {
    "digits": ((8, 8, 1), 10, 1437),
    "mnist": ((28, 28, 1), 10, 60_000),
    "fashion_mnist": ((28, 28, 1), 10, 60_000),
    "cifar10": ((32, 32, 3), 10, 50_000),
    "imagenet2012": ((SIDE, SIDE, 3), 1000, 1_281_167),
    "shapes": ((64, 64, 3), 64, 10_000),
    "shapes24": ((64, 64, 3), 64, 20_000),
    "captions:captions.tsv": ((64, 64, 3), 0, 12_000_000),
    "captions:captions.txt": ((64, 64, 3), 0, 800),
    "coco_captions": ((64, 64, 3), 0, 82_783),
    "folder:images": ((32, 24, 3), 5, 10_000),
}


def names() -> list[str]:
    """Returns the names of all configs that are trained by gradient."""
    return sorted(path.stem for path in CONFIGS.glob("*.py") if path.name != "__init__.py")


def loaded(spec: str) -> dict[str, Any]:
    """Returns a config, ``name`` or ``name:argument``, resolved."""
    stem, colon, argument = spec.partition(":")
    return resolve(load(f"{CONFIGS / stem}.py{colon}{argument}"))


def small(spec: str, *, batch_size: int, shallow: bool = False) -> dict[str, Any]:
    """Returns a config with small batches and images, no warm-up (longer than a stand-in's epochs) and few layers.

    Args:
      spec: ``name`` or ``name:argument``.
      batch_size: of training and evaluation.
      shallow: two layers where the network has more; always for the largest.
    """
    config = loaded(spec)
    config["batch_size"] = batch_size
    config["optimizer"]["warmup"] = None
    for section in config["evals"].values():
        section["batch_size"] = batch_size
        if isinstance(section.get("k"), tuple):
            section["k"] = tuple(range(3, 3 + len(section["k"])))  # the stand-in is a small bank
    model = config["model"]
    if config["text"] is not None:
        config["text"]["depth"] = 1  # the image model beside it is large enough
        config["data"]["tokens"]["vocab_size"] = tokenizer.LEAST_SIZE
        shallow = True
        if config["data"]["image_size"]:
            config["data"]["image_size"] = 64
    if config["data"]["name"] == "imagenet2012":
        config["data"]["image_size"] = SIDE
        for section in config["data"]["augment"]:
            if "size" in section:
                section["size"] = SIDE - 8
        if "hidden_sizes" in model:
            model["hidden_sizes"] = (64, 64)  # eight devices would hold 4096 x 25088 weights eight times
    if config["objective"]["name"] == "distill":
        config["objective"]["num_prototypes"] = 32  # the teacher doubles what eight devices hold eight times
        shallow = True
        for chains in (config["data"]["views"] or {}).values():
            for section in (section for chain in chains for section in chain):
                if section.get("size", 0) > 32:
                    section["size"] = {224: 64, 96: 32}[section["size"]]
        if config["data"]["eval_image_size"]:
            config["data"]["eval_image_size"] = 64
    if shallow and "depth" in model:
        model["depth"] = 2
    if shallow and "decoder_depth" in config["objective"]:
        config["objective"]["decoder_depth"] = 1
    if shallow and "stage_sizes" in model:
        model["stage_sizes"] = (1, 1)
        if "widths" in model:
            model["widths"] = model["widths"][:2]
    return resolve(config)
