"""The house's side of the suite of models, in a process of its own like its peer.

Command: python -m tools.benchmarks.house_models WORK, see :mod:`tools.peers`.
"""

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

from tools.peers import CEILING, NETWORKS, Networks, Start, Stream, begin, serve

HALF = "params=float32,compute=bfloat16,output=float32"


def main() -> None:
    """Serves predictions and train steps."""
    work = begin(Networks)
    from vision import program

    program.prepare_jax()
    serve(streams(work))


def streams(work: Networks) -> dict[str, Start]:
    """Returns what can be timed: ``NETWORK forward`` and ``NETWORK step``, on a batch that lies ready."""
    import jax
    import numpy as np

    from tools.benchmarks.model_steps import NUM_CLASSES, make_step

    @cache
    def made(name: str) -> Any:
        network = NETWORKS[name]
        random = np.random.default_rng(0)
        shape = (work.batch_sizes[name], network.size, network.size, network.channels)
        images = jax.device_put(random.standard_normal(shape, np.float32))
        labels = jax.device_put(random.integers(0, NUM_CLASSES, shape[0]))
        options = dict(network.options) | ({"precision": HALF} if work.half else {})
        return images, labels, *make_step(network.model, images, **options)

    def forward(name: str) -> Stream:
        images, _, state, _, predict = made(name)
        return Stream(_each(lambda: predict(state, images)), len(images))

    def step(name: str) -> Stream:
        images, labels, state, train, _ = made(name)
        state = jax.tree.map(lambda leaf: leaf.copy(), state)  # the step gives the memory of its state away

        def once() -> Any:
            nonlocal state
            state, loss = train(state, images, labels)
            return loss

        return Stream(_each(once), len(images))

    def _each(function: Callable[[], Any]) -> Iterator[Any]:
        while True:
            yield jax.block_until_ready(function())

    def ceiling() -> Stream:
        matrices = np.random.default_rng(0).standard_normal((2, CEILING, CEILING), np.float32)
        one, other = map(jax.device_put, matrices)
        return Stream(_each(partial(jax.jit(jax.numpy.matmul), one, other)), 1)

    return {
        "ceiling": ceiling,
        **{f"{name} forward": partial(forward, name) for name in work.batch_sizes},
        **{f"{name} step": partial(step, name) for name in work.batch_sizes},
    }


if __name__ == "__main__":
    main()
