"""PyTorch's side of the suite of models: the same networks from torchvision, or as one would write them.

Command: python -m tools.peers.torch_models WORK, see :mod:`tools.peers`. It needs torch and torchvision alone.
"""

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

from tools.peers import NETWORKS, Networks, Start, Stream, begin, serve

NUM_CLASSES = 10


def main() -> None:
    """Serves predictions and train steps."""
    serve(streams(begin(Networks)))


def streams(work: Networks) -> dict[str, Start]:
    """Returns what can be timed: ``NETWORK forward`` and ``NETWORK step``, eager, on a batch that lies ready.

    Images and networks are in the memory format that PyTorch is faster with here, channels last.

    Raises:
      ValueError: when it starts, a network has another number of parameters than the house's.
    """
    import torch

    torch.set_num_threads(work.cores)

    @cache
    def made(name: str) -> Any:
        torch.manual_seed(0)
        network = NETWORKS[name]
        shape = (work.batch_sizes[name], network.channels, network.size, network.size)
        images = torch.randn(shape).to(memory_format=torch.channels_last)
        module = build(name).to(memory_format=torch.channels_last)
        count = sum(parameter.numel() for parameter in module.parameters())
        if count != work.parameters[name]:
            raise ValueError(f"{name} has {count} parameters here and {work.parameters[name]} in the house")
        return images, torch.randint(NUM_CLASSES, shape[:1]), module

    def forward(name: str) -> Stream:
        images, _, module = made(name)

        def once() -> Any:
            module.eval()
            with torch.inference_mode():
                return module(images)

        return Stream(_each(once), len(images))

    def step(name: str) -> Stream:
        images, labels, module = made(name)
        optimizer = torch.optim.SGD(module.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)

        def once() -> Any:
            module.train()
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(module(images), labels)
            loss.backward()
            optimizer.step()
            return loss

        return Stream(_each(once), len(images))

    return {
        **{f"{name} forward": partial(forward, name) for name in work.batch_sizes},
        **{f"{name} step": partial(step, name) for name in work.batch_sizes},
    }


def build(name: str) -> Any:
    """Returns a network in PyTorch."""
    from torch import nn
    from torchvision import models

    if name == "LeNet-5":
        return nn.Sequential(
            *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, NUM_CLASSES)),
        )
    if name == "ResNet-18":
        network = models.resnet18(num_classes=NUM_CLASSES)
        network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
        return network
    sizes = {"num_layers": 12, "num_heads": 3, "hidden_dim": 192, "mlp_dim": 768}
    return models.VisionTransformer(image_size=32, patch_size=4, num_classes=NUM_CLASSES, **sizes)


def _each(function: Callable[[], Any]) -> Iterator[Any]:
    while True:
        yield function()


if __name__ == "__main__":
    main()
