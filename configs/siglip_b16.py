"""SigLIP with ViT-B/16 on image-text pairs from the web: a sigmoid for each pair in place of a softmax over all.

Command: python -m experiments.train --config configs/siglip_b16.py --config.data.name='tar:PATH/{00000..01242}.tar'
(any captioned data will do, such as captions:FILE; the tokens are learned from its captions.)
Expected: zero-shot ImageNet accuracy 0.760 with the 9 billion pairs of WebLI (published). Not run here.

The recipe is that of Zhai et al. 2023, section 4: 32,768 pairs a step, learning rate 1e-3, weight decay 1e-4, second
beta 0.95, initial temperature 0.1 and bias -10, 64 tokens without a causal mask, images squashed to 224 x 224, 20,000
steps of warm-up. Adafactor is replaced by AdamW, whose second moments take more memory.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.batch_size = 32_768
    config.duration = {"examples": 9_000_000_000}
    config.precision = "params=float32,compute=bfloat16,output=float32"
    config.data = {
        "name": "captions:captions.tsv",
        "image_size": 224,
        "channels": 3,
        "crop": {"name": "whole"},
        "eval_crop": {"name": "whole"},
        "tokens": {"vocab_size": 32_000, "length": 64},
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
    }
    config.model = {"name": "vit/B16_siglip"}
    config.text = {"name": "text/siglip_B"}
    config.objective = {"name": "contrast", "embed_dim": 768, "loss": "sigmoid", "image_projection": False}
    config.optimizer = {
        "name": "adamw",
        "learning_rate": 1e-3,
        "b2": 0.95,
        "schedule": {"name": "cosine"},
        "warmup": {"steps": 20_000},
        "weight_decay": 1e-4,
        "clip_global_norm": 1.0,
        "rules": ((r"(bias|scale)$", {"weight_decay": 0.0}),),
    }
    config.evals = {"retrieval": {"name": "caption_retrieval", "every": {"steps": 10_000}}}
    config.checkpoint = {"every": {"steps": 1000}, "keep": 2}
    return config
