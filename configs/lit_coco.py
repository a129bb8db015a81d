"""Locked-image tuning: a text model learns to read a frozen image model, with the sigmoid loss, on COCO's captions.

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/lit_coco.py:RUN
(RUN is where the image model comes from: the folder of a run or of tools.convert_weights, or a weight file of a
ViT-B/16; FOLDER holds the prepared data set `coco_captions`.)
Expected: not run here.

The image model is locked by `config.freeze` (Zhai et al. 2022, LiT): it runs as in evaluation, and no gradient is
computed for it. It is not projected. The form of the training is that of big_vision's small example of SigLIP: 512
pairs a step, 5,000 steps, learning rate 1e-3, weight decay 0.01, 16 tokens, initial temperature 0.1 and bias -2.71, 3 %
of warm-up.
"""

from ml_collections import ConfigDict


def get_config(run: str = "runs/vit_b16") -> ConfigDict:
    config = ConfigDict()
    config.batch_size = 512
    config.duration = {"steps": 5000}
    config.precision = "params=float32,compute=bfloat16,output=float32"
    config.init_from = run
    config.data = {
        "name": "coco_captions",
        "image_size": 224,
        "crop": {"name": "whole"},
        "eval_crop": {"name": "whole"},
        "tokens": {"vocab_size": 8000, "length": 16},
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
    }
    config.model = {"name": "vit/B16"}
    config.text = {"name": "text/siglip_B", "depth": 6}
    config.freeze = {"patterns": ("^backbone/",)}
    config.objective = {
        "name": "contrast",
        "embed_dim": 768,
        "loss": "sigmoid",
        "bias": -2.71,
        "image_projection": False,
    }
    config.optimizer = {
        "name": "adamw",
        "learning_rate": 1e-3,
        "schedule": {"name": "cosine"},
        "warmup": {"steps": 150},
        "weight_decay": 0.01,
        "clip_global_norm": 1.0,
        "rules": ((r"(bias|scale)$", {"weight_decay": 0.0}),),
    }
    config.evals = {"retrieval": {"name": "caption_retrieval", "every": {"steps": 1000}}}
    config.checkpoint = {"every": {"steps": 1000}, "keep": 2}
    return config
