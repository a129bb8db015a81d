"""AlexNet on ImageNet: the two towers of 2012, or the single tower of torchvision.

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/alexnet_imagenet.py:2012
(or :torchvision; FOLDER holds the prepared data set `imagenet2012`.)

Expected: the published top-1 accuracies 0.593 for 2012 (Krizhevsky et al. 2012, table 2: one network, the mean over ten
crops; Caffe's bvlc_alexnet, without the changes of colour and with one crop, has 0.571) and 0.565 for torchvision
(its weights IMAGENET1K_V1). Not run here.

2012 (section 5): SGD with momentum 0.9, 128 images, weight decay 5e-4, learning rate 0.01, divided by 10 three times in
90 epochs, when the validation error stopped falling; the epochs 30, 60 and 80 are ours. From images whose middle is
brought to 256x256 come random crops of 227x227 and flips; levels keep their scale of 0 to 255, less the mean. Not here
are the changes of colour along the principal components of the pixels, and the mean over ten crops of the evaluation,
which takes the whole 256x256 instead.

torchvision (references/classification): 256 images, weight decay 1e-4, learning rate 0.01 divided by 10 after 30 and 60
epochs, crops of 8% to 100% of the area resized to 224x224, and the central crop of 224 out of 256 in evaluation.
"""

from ml_collections import ConfigDict


def get_config(name: str = "2012") -> ConfigDict:
    if name not in ("2012", "torchvision"):
        raise ValueError(f"the network is 2012 or torchvision, got {name!r}")
    published = name == "2012"
    # A box of this share of the area and of the image's shape has sides of 227 pixels, and nothing is resized.
    share = (227 / 256) ** 2
    crop_227 = {"name": "random_resized_crop", "size": 227, "scale": (share, share), "ratio": (1.0, 1.0)}
    divided_at = (30, 60, 80) if published else (30, 60)
    config = ConfigDict()
    config.batch_size = 128 if published else 256
    config.duration = {"epochs": 90}
    config.precision = "params=float32,compute=bfloat16,output=float32"
    config.data = {
        "name": "imagenet2012",
        "image_size": 256 if published else 224,
        "crop": {"name": "center"} if published else {"name": "random_resized"},
        "eval_crop": {"name": "center", "fraction": 1.0 if published else 0.875},
        "augment": (*((crop_227,) if published else ()), {"name": "random_flip"}),
        "mean": (0.485, 0.456, 0.406),
        "std": (1 / 255,) * 3 if published else (0.229, 0.224, 0.225),
    }
    config.model = {"name": "alexnet/2012" if published else "alexnet/2014"}
    config.objective = {"name": "classify"}
    config.optimizer = {
        "name": "sgd",
        "momentum": 0.9,
        "learning_rate": 0.01,
        "schedule": {"name": "step", "at": tuple({"epochs": epoch} for epoch in divided_at)},
        "weight_decay": 5e-4 if published else 1e-4,
    }
    config.evals = {"val": {"name": "classification", "split": "validation", "every": {"epochs": 5}}}
    config.checkpoint = {"every": {"epochs": 1}, "keep": 2}
    return config
