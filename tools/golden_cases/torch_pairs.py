"""Runs the cases of pairs.py under PyTorch, with drawn weights, in float64."""

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers

from tools.golden_cases import pairs, weights
from tools.golden_cases.torch_references import Reference


def paired() -> dict[str, np.ndarray]:
    """Returns for each case both embeddings, the logits, names with shapes, and the config.json, by ``CASE/what``."""
    return {f"{case.name}/{what}": value for case in pairs.CASES for what, value in _of_case(case).items()}


def _of_case(case: pairs.PairCase) -> dict[str, np.ndarray]:
    made = getattr(transformers, f"{case.kind}Config")(
        vision_config=dict(case.vision), text_config=dict(case.text), **case.config, attn_implementation="eager"
    )
    network = getattr(transformers, f"{case.kind}Model")(made).eval()
    reference = Reference(network, network)
    state = reference.renamed(network.state_dict())
    reference.load({name: np.asarray(weights.drawn(name, value.shape)) for name, value in state.items()})
    network.double()
    with torch.no_grad():
        found = network(
            pixel_values=torch.tensor(pairs.images(), dtype=torch.float64),
            input_ids=torch.tensor(pairs.tokens(), dtype=torch.int64),
        )
    with tempfile.TemporaryDirectory() as folder:
        made.save_pretrained(folder)
        config = json.loads((Path(folder) / "config.json").read_text())
    names = {name: list(value.shape) for name, value in sorted(state.items())}
    stored = {"image": found.image_embeds, "text": found.text_embeds, "logits": found.logits_per_image}
    arrays = {what: value.numpy().astype(np.float32) for what, value in stored.items()}
    words = {"names": names, "config": config}
    return arrays | {
        what: np.frombuffer(json.dumps(value, separators=(",", ":")).encode(), np.uint8)
        for what, value in words.items()
    }
