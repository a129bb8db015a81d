"""Language alone: the text transformer learns the captions of the shapes, as the next token or as masked tokens.

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/words_shapes.py:next
(or :masked; FOLDER holds `shapes24`, see configs/clip_shapes.py.) Then
`python -m experiments.write --workdir RUN --prompt "a red"` goes on from a prompt, or fills in `[mask]`.
Expected: perplexity 2.75 of the next token, 1.94 of a masked one, on the captions of the test split (one seed, see
docs/results.md), each in minutes.
"""

from ml_collections import ConfigDict

OBJECTIVES = {"next": {"name": "next_token"}, "masked": {"name": "masked_token"}}


def get_config(argument: str = "next") -> ConfigDict:
    if argument not in OBJECTIVES:
        raise ValueError(f"the argument is next or masked, got {argument!r}")
    config = ConfigDict()
    config.batch_size = 256
    config.duration = {"epochs": 10}
    config.data = {"name": "shapes24", "tokens": {"vocab_size": 700, "length": 16}}
    causal = argument == "next"
    config.model = {"name": "text/small", "depth": 2, "causal": causal, "mask_padding": not causal}
    config.objective = OBJECTIVES[argument]
    config.optimizer = {
        "name": "adamw",
        "learning_rate": 2e-3,
        "schedule": {"name": "cosine"},
        "warmup": {"epochs": 0.5},
        "weight_decay": 0.1,
        "rules": ((r"(bias|scale)$", {"weight_decay": 0.0}),),
    }
    config.evals = {"test": {"name": "perplexity", "split": "test", "every": {"epochs": 5}}}
    config.checkpoint = {"every": {"epochs": 5}, "keep": 1}
    config.logging = {"every": {"steps": 50}}
    return config
