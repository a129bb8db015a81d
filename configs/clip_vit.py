"""CLIP with ViT-B/32 or ViT-B/16 on image-text pairs from the web, by the recipe of OpenAI and OpenCLIP.

Command: python -m experiments.train --config configs/clip_vit.py:B32 --config.data.name='tar:PATH/{00000..01242}.tar' \
  --config.data.tokens.tokenizer=PATH/bpe_simple_vocab_16e6.txt.gz --config.microbatches=8
(or :B16; any captioned data will do, such as captions:FILE; the vocabulary is that of OpenAI's CLIP.)
Expected: zero-shot ImageNet accuracy 0.633 of B/32 and 0.683 of B/16 with OpenAI's 400 million pairs, 0.666 and 0.702
with the 2 billion of LAION (published). Not run here.

The recipe is that of Radford et al. 2021, tables 18 and 19, and of OpenCLIP's defaults: 32,768 pairs a step, AdamW with
betas 0.9 and 0.98, epsilon 1e-6, weight decay 0.2 but for gains, biases and the scale (OpenCLIP leaves out the class
token too), peak 5e-4 after 2,000 steps of
warm-up, a cosine, 32 epochs, random crops of 90 to 100 %. The loss over all pairs of the batch is exact for any number
of microbatches and devices; `--config.objective.form=ring` keeps its memory small on many.
"""

from ml_collections import ConfigDict


def get_config(argument: str = "B32") -> ConfigDict:
    if argument not in ("B32", "B16"):
        raise ValueError(f"the image model is B32 or B16, got {argument!r}")
    config = ConfigDict()
    config.batch_size = 32_768
    config.duration = {"epochs": 32}
    config.precision = "params=float32,compute=bfloat16,output=float32"
    config.data = {
        "name": "captions:captions.tsv",
        "image_size": 224,
        "channels": 3,
        "crop": {"name": "random_resized", "scale": (0.9, 1.0), "ratio": (0.75, 4 / 3)},
        "interpolation": "bicubic",
        "tokens": {"tokenizer": "bpe_simple_vocab_16e6.txt.gz", "length": 77},
        "mean": (0.48145466, 0.4578275, 0.40821073),
        "std": (0.26862954, 0.26130258, 0.27577711),
    }
    config.model = {"name": f"vit/{argument}_clip"}
    config.text = {"name": "text/clip_512"}
    config.objective = {"name": "contrast", "embed_dim": 512}
    config.optimizer = {
        "name": "adamw",
        "learning_rate": 5e-4,
        "b1": 0.9,
        "b2": 0.98,
        "eps": 1e-6,
        "schedule": {"name": "cosine"},
        "warmup": {"steps": 2000},
        "weight_decay": 0.2,
        "rules": ((r"(bias|scale)$", {"weight_decay": 0.0}),),
    }
    config.evals = {"retrieval": {"name": "caption_retrieval", "every": {"epochs": 1}}}
    config.checkpoint = {"every": {"steps": 1000}, "keep": 2}
    return config
