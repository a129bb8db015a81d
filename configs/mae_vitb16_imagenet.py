"""A masked autoencoder with a ViT-B/16 on ImageNet, without labels, for 800 epochs (He et al. 2022).

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/mae_vitb16_imagenet.py
(FOLDER holds the prepared data set `imagenet2012`.)

Expected: of ViT-B the paper has 0.836 after 1,600 epochs and fine-tuning with labels (table 3); of 800 epochs it has
ViT-L alone (0.854, table 1d). Its features are not made for neighbours, which are reported here. Not run here.

The recipe is that of the paper's table 8 and PRETRAIN.md of github.com/facebookresearch/mae: three quarters of the
patches hidden, normalised pixels as targets, a decoder of 8 blocks of width 512; AdamW with b2 = 0.95 and learning rate
1.5e-4 for each 256 images of a batch of 4,096, warm-up of 40 epochs, half a cosine, weight decay 0.05 except of biases
and normalisations; crops of at least 0.2 of the image, mirrored half of the time.

What is not quite that training: the frequencies of the fixed positions are those of MoCo v3; the class token starts at
zero, not at a deviation of 0.02; query, key and value are initialised each on its own.
"""

from ml_collections import ConfigDict

BATCH_SIZE = 4096


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.batch_size = BATCH_SIZE
    config.duration = {"epochs": 800}
    config.precision = "params=float32,compute=bfloat16,output=float32"
    config.data = {
        "name": "imagenet2012",
        "image_size": 224,
        "crop": {"name": "random_resized", "scale": (0.2, 1.0)},
        "eval_crop": {"name": "center", "fraction": 0.875},
        "interpolation": "bicubic",
        "augment": ({"name": "random_flip"},),
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    }
    config.model = {"name": "vit/B16", "positions": "sincos2d"}
    config.objective = {"name": "masked_autoencoder", "mask_ratio": 0.75, "normalise_pixels": True}
    config.optimizer = {
        "name": "adamw",
        "b2": 0.95,
        "learning_rate": 1.5e-4 * BATCH_SIZE / 256,
        "schedule": {"name": "cosine"},
        "warmup": {"epochs": 40},
        "weight_decay": 0.05,
        "rules": ((r"(bias|scale)$", {"weight_decay": 0.0}),),
    }
    knn = {"name": "knn", "k": 20, "metric": "cosine", "weights": "exponential", "temperature": 0.07}
    config.evals = {"knn": {**knn, "split": "validation", "every": {"epochs": 100}}}
    config.checkpoint = {"every": {"steps": 1000}, "keep": 2}
    return config
