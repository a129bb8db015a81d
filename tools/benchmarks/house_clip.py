"""The house's side of the comparison of CLIP's train steps, in a process of its own like its peer.

Command: python -m tools.benchmarks.house_clip WORK, see :mod:`tools.peers`.
"""

from collections.abc import Callable, Iterator
from typing import Any

from tools.peers import Pairs, Start, Stream, begin, serve

HALF = "params=float32,compute=bfloat16,output=float32"


def main() -> None:
    """Serves train steps."""
    work = begin(Pairs)
    from vision import program

    program.prepare_jax()
    serve(streams(work))


def streams(work: Pairs) -> dict[str, Start]:
    """Returns what can be timed: ``step``, AdamW on pairs that lie ready."""
    import jax
    import numpy as np

    def step() -> Stream:
        init, train = make_step(work)
        random = np.random.default_rng(0)
        images = random.standard_normal((work.batch_size, work.size, work.size, 3), np.float32)
        tokens = random.integers(0, work.vocab_size - 1, (work.batch_size, work.length), np.int32)
        tokens[:, -1] = work.vocab_size - 1
        batch = {"image": jax.device_put(images), "tokens": jax.device_put(tokens)}
        compiled = jax.jit(train, donate_argnums=0)

        def batches() -> Iterator[Any]:
            state = jax.jit(init)()
            while True:
                state, loss = compiled(state, batch)
                yield jax.block_until_ready(loss)

        return Stream(batches(), work.batch_size)

    return {"step": step}


def make_step(work: Pairs) -> tuple[Callable[[], Any], Callable[[Any, Any], Any]]:
    """Returns ``init() -> state`` and ``step(state, batch) -> (state, loss)`` of CLIP's objective with AdamW."""
    import jax
    import jax.numpy as jnp
    import optax

    from vision import models
    from vision.objectives.contrast import contrast

    options: dict[str, Any] = {"activation": "gelu", **({"precision": HALF} if work.half else {})}
    image: Any = {"num_classes": 0, "image_shape": (work.size, work.size, 3), **work.image}
    text: Any = {"vocab_size": work.vocab_size, "length": work.length, "out_size": work.embed_dim, **work.text}
    objective = contrast(
        models.build("vit/B16_clip", **image, **options),
        models.build_text("text/clip_512", **text, **options),
        embed_dim=work.embed_dim,
    )
    optimizer = optax.adamw(5e-4, b1=0.9, b2=0.98, eps=1e-6, weight_decay=0.2)
    spec = {
        "image": jax.ShapeDtypeStruct((work.batch_size, work.size, work.size, 3), jnp.float32),
        "tokens": jax.ShapeDtypeStruct((work.batch_size, work.length), jnp.int32),
    }

    def init() -> Any:
        params, extra = objective.init(jax.random.key(0), spec)
        return params, extra, optimizer.init(params)

    def step(state: Any, batch: Any) -> Any:
        params, extra, memory = state

        def loss_of(params: Any) -> Any:
            outputs, after = objective.forward(params, extra, batch, None, True)
            loss, (after, _) = objective.loss(params, outputs, after, batch, jnp.zeros((), jnp.int32))
            return loss, after

        (loss, extra), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, memory = optimizer.update(gradients, memory, params)
        return (objective.project(optax.apply_updates(params, updates)), extra, memory), loss

    return init, step


if __name__ == "__main__":
    main()
