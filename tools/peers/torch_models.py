"""PyTorch's side of the suite of models, in a process of its own.

Command: python -m tools.peers.torch_models WORK, see :mod:`tools.peers`. It needs torch and torchvision alone.
"""

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

from tools.peers import CEILING, NETWORKS, Networks, Start, Stream, begin, serve
from tools.peers.torch_networks import NUM_CLASSES, build


def main() -> None:
    """Serves predictions and train steps."""
    serve(streams(begin(Networks)))


def streams(work: Networks) -> dict[str, Start]:
    """Returns what can be timed: ``NETWORK forward`` and ``NETWORK step``, on a batch that lies ready.

    Images and networks are in the memory format that PyTorch is faster with here, channels last. With ``half`` networks
    are compiled and computed in bfloat16 by autocast, and otherwise neither; where a GPU is there, all is on it.

    Raises:
      ValueError: when it starts, a network has another number of parameters than the house's.
    """
    import torch

    torch.set_num_threads(work.cores)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def _each(function: Callable[[], Any]) -> Iterator[Any]:
        while True:
            result = function()
            if device == "cuda":
                torch.cuda.synchronize()
            yield result

    @cache
    def made(name: str) -> Any:
        torch.manual_seed(0)
        network = NETWORKS[name]
        shape = (work.batch_sizes[name], network.channels, network.size, network.size)
        images = torch.randn(shape).to(device, memory_format=torch.channels_last)
        module = build(name).to(device, memory_format=torch.channels_last)
        count = sum(parameter.numel() for parameter in module.parameters())
        if count != work.parameters[name]:
            raise ValueError(f"{name} has {count} parameters here and {work.parameters[name]} in the house")
        labels = torch.randint(NUM_CLASSES, shape[:1]).to(device)
        return images, labels, torch.compile(module) if work.half else module

    def forward(name: str) -> Stream:
        images, _, module = made(name)

        def once() -> Any:
            module.eval()
            with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=work.half):
                return module(images)

        return Stream(_each(once), len(images))

    def step(name: str) -> Stream:
        images, labels, module = made(name)
        optimizer = torch.optim.SGD(module.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)

        def once() -> Any:
            module.train()
            optimizer.zero_grad()
            with torch.autocast(device, torch.bfloat16, enabled=work.half):
                loss = torch.nn.functional.cross_entropy(module(images), labels)
            loss.backward()
            optimizer.step()
            return loss

        return Stream(_each(once), len(images))

    def ceiling() -> Stream:
        one, other = torch.randn(2, CEILING, CEILING, device=device)
        return Stream(_each(lambda: one @ other), 1)

    return {
        "ceiling": ceiling,
        **{f"{name} forward": partial(forward, name) for name in work.batch_sizes},
        **{f"{name} step": partial(step, name) for name in work.batch_sizes},
    }


if __name__ == "__main__":
    main()
