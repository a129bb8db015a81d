"""Runs the cases of models.py under PyTorch, with drawn weights, in float64."""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import timm
import torch
import torchvision
import transformers

from tools.golden_cases import weights
from tools.golden_cases.models import CASES, Case
from tools.golden_cases.resized_positions import positions
from tools.golden_cases.self_distillation import distilled
from tools.golden_cases.torch_pairs import paired
from tools.golden_cases.torch_references import Reference, build

_STATISTICS = ("running_mean", "running_var")


def goldens(note: Callable[[str], None]) -> dict[str, np.ndarray]:
    """Returns every array of the file, by ``CASE/what``; ``note`` is told which case comes."""
    made: dict[str, np.ndarray] = {}
    names = {}
    for case in CASES:
        note(case.name)
        reference = build(case.source, dict(case.reference))
        state = reference.renamed(reference.module.state_dict())
        names[case.name] = [[name, list(value.shape)] for name, value in sorted(state.items())]
        made |= {f"{case.name}/{what}": value for what, value in of_case(case, reference).items()}
    packages = (torch, torchvision, timm, transformers)
    made["versions"] = np.array([f"{each.__name__} {each.__version__.split('+')[0]}" for each in packages])
    made["names"] = np.frombuffer(json.dumps(names, separators=(",", ":")).encode(), np.uint8)
    made["drawn"] = weights.drawn("sample.weight", (4, 3))
    made |= {f"positions/{name}": value for name, value in positions().items()}
    made |= {f"pairs/{name}": value for name, value in paired().items()}
    return made | {f"distill/{name}": value for name, value in distilled().items()}


def of_case(case: Case, reference: Reference) -> dict[str, np.ndarray]:
    """Returns what is stored of a case, by name."""
    module = reference.module
    parameters = reference.renamed(dict(module.named_parameters()))
    drawn = {
        name: weights.drawn(name, value.shape, scales=case.scales)
        for name, value in reference.renamed(module.state_dict()).items()
        if name in parameters or name.endswith(_STATISTICS)
    }
    reference.load(drawn)
    height, width, channels = case.image_shape
    images = torch.tensor(weights.images((case.batch, channels, height, width)), dtype=torch.float64)
    module.eval()
    with torch.no_grad():
        found = {"logits": reference.call(images, *_masks(case))}
        if reference.looks:
            found |= reference.looks(images)
    if not case.train:
        return _stored(found)
    counts = _counted(reference)
    module.train()
    output = reference.call(images)
    targets = torch.tensor(weights.labels(case.batch, output.shape[1]))
    loss = torch.nn.functional.cross_entropy(output, targets)
    stored = _stored(found | {"train_logits": output, "loss": loss})
    if case.gradients:
        loss.backward()
        gradients = {  # a mask token that hides no patch has none
            name: torch.zeros_like(value) if value.grad is None else value.grad
            for name, value in module.named_parameters()
        }
        stored["gradients"] = _summary(reference.renamed(gradients))
    after = {name: value for name, value in module.state_dict().items() if name.endswith(_STATISTICS)}
    if after:
        stored["statistics"] = _summary(reference.renamed(after))
        layers = reference.renamed({f"{name}.weight": torch.tensor(count) for name, count in counts.items()})
        stored["counts"] = np.array([int(count) for _, count in sorted(layers.items())], np.int32)
    return stored


def _masks(case: Case) -> tuple[torch.Tensor, ...]:
    if not case.masked:
        return ()
    patches = math.prod(side // case.reference["patch_size"] for side in case.image_shape[:2])
    return (torch.tensor(weights.masks(case.batch, patches)),)


def _counted(reference: Reference) -> dict[str, int]:
    """Returns a dictionary that the next call fills: name of a batch normalisation to values for each channel."""
    counts: dict[str, int] = {}

    def hook(name: str) -> Any:
        def count(layer: Any, inputs: Any) -> None:
            counts[name] = inputs[0].numel() // inputs[0].shape[1]

        return count

    for name, layer in reference.module.named_modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            layer.register_forward_pre_hook(hook(name))
    return counts


def _summary(tensors: dict[str, torch.Tensor]) -> np.ndarray:
    return weights.summary({name: value.numpy() for name, value in tensors.items()}).astype(np.float32)


def _stored(found: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().astype(np.float32) for name, value in found.items()}
