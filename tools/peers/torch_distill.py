"""PyTorch's side of the suite of self-distillation: DINO's own training step, written plainly.

Command: python -m tools.peers.torch_distill WORK, see :mod:`tools.peers`. It needs torch and torchvision alone.
"""

import itertools
from collections.abc import Iterator
from typing import Any, cast

from tools.peers import MEAN, STD, Distillation, Start, Stream, begin, serve


def main() -> None:
    """Serves training steps, with and without the making of crops."""
    serve(streams(begin(Distillation)))


def streams(work: Distillation) -> dict[str, Start]:
    """Returns what can be timed: ``step`` on crops that lie ready, and ``train`` on crops made of images by Pillow.

    The crops of ``train`` come from a DataLoader with a worker process for each core, as those of DINO do. Where a
    GPU is there, the step runs on it.

    Raises:
      ValueError: when it starts, student or head has another number of trained parameters than the house's.
    """
    import torch

    torch.set_num_threads(work.cores)
    sizes = (work.global_size,) * 2 + (work.local_size,) * work.num_local

    def step() -> Stream:
        torch.manual_seed(0)
        crops = [torch.randn(work.batch_size, 3, size, size).to(_device()) for size in sizes]
        return Stream(_steps(work, itertools.repeat(crops)), work.batch_size)

    def train() -> Stream:
        import numpy as np
        from torch.utils.data import DataLoader
        from torchvision import transforms

        from tools.peers.torch_loader import Endless, InMemory, Views

        normalize = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        images, views = np.load(work.images), cast(Any, work)  # what it needs of its own suite's work is there
        data = InMemory(images, Views(views, normalize))
        options: dict[str, Any] = {"num_workers": work.cores, "prefetch_factor": 1} if work.cores > 1 else {}
        loader = DataLoader(data, work.batch_size, sampler=Endless(len(images)), **options)
        return Stream(_steps(work, loader), work.batch_size, ahead=options.get("num_workers", 0))

    return {"step": step, "train": train}


def _steps(work: Distillation, batches: Any) -> Iterator[Any]:
    import torch

    from tools.peers.torch_dino import Trainer, build

    torch.manual_seed(0)
    backbone = {**work.network, "size": work.global_size}
    student, teacher = build(
        backbone, work.prototypes, hidden=work.hidden_dim, bottleneck=work.bottleneck_dim, drop=0.1
    )
    for part, expected in work.parameters.items():
        count = sum(each.numel() for each in getattr(student, part).parameters() if each.requires_grad)
        if count != expected:
            raise ValueError(f"the {part} has {count} trained parameters here and {expected} in the house")
    student, teacher = student.to(_device()), teacher.to(_device())
    trainer = Trainer(student, teacher, work.prototypes, steps=10**5, half=work.half)
    for crops in batches:
        yield trainer.step(crops)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


if __name__ == "__main__":
    main()
