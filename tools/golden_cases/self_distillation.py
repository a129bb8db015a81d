"""DINO's projection head, and its loss with gradients on a few crops, in PyTorch with drawn weights."""

from typing import Any

import numpy as np

from tools.golden_cases import weights

BACKBONE = {"patch_size": 8, "width": 32, "depth": 2, "num_heads": 4, "mlp_dim": 64}
GLOBAL, LOCAL, NUM_LOCAL, BATCH = 32, 16, 2, 3
PROTOTYPES, HIDDEN, BOTTLENECK = 24, 16, 8
SCALES = {r"pos_embed|cls_token": 0.5}


def crops() -> list[np.ndarray]:
    """Returns two global and the local crops, float32 ``[batch, 3, size, size]`` each."""
    random = np.random.default_rng(weights.SEED)
    sizes = (GLOBAL,) * 2 + (LOCAL,) * NUM_LOCAL
    return [random.standard_normal((BATCH, 3, size, size), np.float32) for size in sizes]


def features() -> np.ndarray:
    """Returns what the head alone is given, float32 ``[5, width]``."""
    return np.random.default_rng(weights.SEED + 1).standard_normal((5, BACKBONE["width"]), np.float32)


def drawn(network: str, name: str, shape: Any) -> np.ndarray:
    """Returns a parameter of ``student``, ``teacher`` or ``head``; gains of the first two are 1, as they start."""
    if name.endswith("weight_g") and network != "head":
        return np.ones(shape, np.float32)
    return weights.drawn(f"{network}.{name}", shape, scales=SCALES)


def distilled() -> dict[str, np.ndarray]:
    """Returns what is stored; needs torch.

    ``head`` are the logits of a head whose gains are trained; ``student`` and ``teacher`` those of the crops, all
    images of the first crop first; ``loss`` and, after it, ``centre``; ``gradients`` has norm and product with a
    direction for each trained parameter of the student, in the order of its names.
    """
    import torch

    from tools.peers.torch_dino import Head, Trainer, build

    def fill(network: str, module: Any) -> Any:
        module = module.double()
        with torch.no_grad():
            for name, each in module.named_parameters():
                each.copy_(torch.tensor(drawn(network, name, each.shape)))
        return module

    head = fill("head", Head(BACKBONE["width"], PROTOTYPES, hidden=HIDDEN, bottleneck=BOTTLENECK, trained_gain=True))
    given = [torch.tensor(each, dtype=torch.float64) for each in crops()]
    student, teacher = build({**BACKBONE, "size": GLOBAL}, PROTOTYPES, hidden=HIDDEN, bottleneck=BOTTLENECK, drop=0.0)
    trainer = Trainer(fill("student", student), teacher.double(), PROTOTYPES, steps=10, half=False)
    fill("teacher", teacher)
    trainer.loss.centre = torch.tensor(weights.drawn("centre", (1, PROTOTYPES)), dtype=torch.float64)
    with torch.no_grad():
        found = {
            "head": head(torch.tensor(features(), dtype=torch.float64)),
            "student": student(given),
            "teacher": teacher(given[:2]),
        }
    loss = trainer.losses(given)
    loss.backward()
    found |= {"loss": loss.detach(), "centre": trainer.loss.centre[0]}
    gradients = {name: each.grad.numpy() for name, each in student.named_parameters() if each.requires_grad}
    stored = {name: each.numpy().astype(np.float32) for name, each in found.items()}
    return stored | {"gradients": weights.summary(gradients).astype(np.float32)}
