"""The house's side of the suite of self-distillation, in a process of its own like its peer.

Command: python -m tools.benchmarks.house_distill WORK, see :mod:`tools.peers`.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tools.peers import Distillation, Start, Stream, begin, serve


def main() -> None:
    """Serves train steps, with and without the making of views."""
    work = begin(Distillation)
    from vision import program

    program.prepare_jax()
    serve(streams(work))


def streams(work: Distillation) -> dict[str, Start]:
    """Returns what can be timed: ``step`` on views that lie ready, ``train`` on views made on the device.

    When ``train`` starts it writes to the work's report: ``bytes`` that the compiled step takes of the device, and
    ``flops``, those of the matrix products of the network, forwards and backwards, for each image.
    """
    import jax
    import numpy as np

    from tools.benchmarks.distill_steps import make_steps, ready_views
    from vision.models.cost import multiply_adds
    from vision.studies.sweep.memory import needed_bytes

    @cache
    def made() -> Any:
        return make_steps(work, np.load(work.images))

    def step() -> Stream:
        experiment, ready = made()
        return _stream(experiment, jax.jit(ready, donate_argnums=0), lambda number: batch)

    def train() -> Stream:
        experiment, ready = made()
        state, constants = experiment.abstract_state, experiment.constants
        compiled = experiment.step.lower(state, experiment.pipeline.batch(0), constants).compile()
        products = multiply_adds(jax.make_jaxpr(ready)(state, batch, constants))
        report = {"bytes": needed_bytes(compiled), "flops": 2 * products / work.batch_size}
        Path(work.report).write_text(json.dumps(report))
        return _stream(experiment, compiled, experiment.pipeline.batch)

    def _stream(experiment: Any, function: Any, batch_of: Any) -> Stream:
        def batches() -> Iterator[Any]:
            state, number = experiment.init(experiment.constants.keys.init), 0
            while True:
                state, metrics = function(state, batch_of(number), experiment.constants)
                number += 1
                yield jax.block_until_ready(metrics["loss"])

        return Stream(batches(), work.batch_size)

    batch = ready_views(work)
    return {"step": step, "train": train}


if __name__ == "__main__":
    main()
