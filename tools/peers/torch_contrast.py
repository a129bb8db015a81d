"""PyTorch's side of the suite of contrastive losses: open_clip's two losses on one device, written plainly.

Command: python -m tools.peers.torch_contrast WORK, see :mod:`tools.peers`. It needs torch alone.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tools.peers import Contrast, Start, Stream, begin, grown_by, serve

_SCALE, _BIAS = 10.0, -10.0


def main() -> None:
    """Serves losses with their gradients."""
    serve(streams(begin(Contrast)))


def streams(work: Contrast) -> dict[str, Start]:
    """Returns what can be timed: ``softmax N`` and ``sigmoid N``, the loss of N pairs and both gradients, eager.

    Where a GPU is there, they are computed on it. When one starts it writes to the work's report how many bytes it
    takes at most beyond the embeddings.
    """
    import torch

    torch.set_num_threads(work.cores)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def start(name: str, loss: Callable[[Any, Any], Any], size: int) -> Stream:
        image, text = (
            torch.nn.functional.normalize(torch.randn(size, work.embed_dim, device=device), dim=1).requires_grad_()
            for _ in range(2)
        )

        def once() -> Any:
            image.grad = text.grad = None
            value = loss(image, text)
            value.backward()
            return value.item()  # waits for the device

        def batches() -> Iterator[Any]:
            while True:
                yield once()

        once()
        taken = _peak_of_device(once) if device == "cuda" else grown_by(once)
        if taken:
            (Path(work.report) / f"torch {name}.txt").write_text(str(taken))
        return Stream(batches(), size)

    made: dict[str, Start] = {}
    for size in work.batch_sizes:
        for kind, loss in (("softmax", softmax_loss), ("sigmoid", sigmoid_loss)):
            made[f"{kind} {size}"] = partial(start, f"{kind} {size}", loss, size)
    return made


def softmax_loss(image: Any, text: Any) -> Any:
    """The cross-entropies of both directions; as in open_clip, each has a matrix product of its own."""
    import torch
    from torch.nn.functional import cross_entropy

    own = torch.arange(len(image), device=image.device)
    return (cross_entropy(_SCALE * image @ text.T, own) + cross_entropy(_SCALE * text @ image.T, own)) / 2


def sigmoid_loss(image: Any, text: Any) -> Any:
    """The log-sigmoid of every pair with its sign, summed and divided by the number of images."""
    import torch
    from torch.nn.functional import logsigmoid

    signs = 2 * torch.eye(len(image), device=image.device) - 1
    return -logsigmoid(signs * (_SCALE * image @ text.T + _BIAS)).sum() / len(image)


def _peak_of_device(once: Callable[[], Any]) -> int:
    import torch

    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    once()
    return torch.cuda.max_memory_allocated() - before


if __name__ == "__main__":
    main()
