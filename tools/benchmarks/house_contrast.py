"""The house's side of the suite of contrastive losses, in a process of its own like its peer.

Command: python -m tools.benchmarks.house_contrast WORK, see :mod:`tools.peers`.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tools.peers import Contrast, Start, Stream, begin, grown_by, serve

_SCALE, _BIAS = 10.0, -10.0


def main() -> None:
    """Serves losses with their gradients."""
    work = begin(Contrast)
    from vision import program

    program.prepare_jax()
    serve(streams(work))


def streams(work: Contrast) -> dict[str, Start]:
    """Returns what can be timed: ``softmax dense N``, ``softmax chunked N``, and the like of ``sigmoid``.

    When one starts it writes to the work's report how many bytes it takes beyond the embeddings: results and what lies
    between, as the compiler has laid them out; on a CPU measured too.
    """
    made: dict[str, Start] = {}
    for size, chunk in zip(work.batch_sizes, work.chunk_sizes, strict=True):
        for kind in ("softmax", "sigmoid"):
            for form, options in (("dense", {}), ("chunked", {"form": "chunked", "chunk_size": chunk})):
                name = f"{kind} {form} {size}"
                made[name] = partial(_start, work, name, value_of(kind, **options), size)
    return made


def value_of(kind: str, **options: Any) -> Callable[[Any, Any], Any]:
    """Returns ``(image, text) -> loss``."""
    import jax.numpy as jnp

    from vision.objectives.contrastive_losses import sigmoid_loss, softmax_loss

    def value(image: Any, text: Any) -> Any:
        if kind == "softmax":
            return jnp.mean(softmax_loss(image, text, _SCALE, **options)[0])
        return jnp.mean(sigmoid_loss(image, text, _SCALE, _BIAS, **options)[0])

    return value


def _start(work: Contrast, name: str, value: Callable[[Any, Any], Any], size: int) -> Stream:
    import jax

    from vision.models.projection import unit

    draw = jax.random.normal(jax.random.key(0), (2, size, work.embed_dim))
    image, text = (jax.block_until_ready(unit(each, axis=-1)) for each in draw)
    compiled = jax.jit(jax.value_and_grad(value, argnums=(0, 1))).lower(image, text).compile()

    def once() -> Any:
        return jax.block_until_ready(compiled(image, text))

    def batches() -> Iterator[Any]:
        while True:
            yield once()

    stats = compiled.memory_analysis()
    if stats is not None:
        laid_out = stats.temp_size_in_bytes + stats.output_size_in_bytes
        (Path(work.report) / f"house {name}.txt").write_text(str(laid_out))
    once()
    grown = grown_by(once) if jax.default_backend() == "cpu" else None
    if grown:
        (Path(work.report) / f"measured {name}.txt").write_text(str(grown))
    return Stream(batches(), size)


if __name__ == "__main__":
    main()
