"""Attention with its gradients in every form that is at hand: the house's for the device, JAX's by XLA, by cuDNN."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from tools.benchmarks.rows import Row, Settings, say, seconds_of
from vision.models.softmax_attention import attend, softmax_attention

# Name, examples, tokens, heads; all of 64 numbers.
_SHAPES = {"cpu": (("ViT-Ti/4", 32, 65, 3),), "other": (("ViT-B/16", 256, 197, 12), ("CLIP text", 256, 77, 8))}


def run(settings: Settings) -> list[Row]:
    """Measures each form in turn on arrays that lie ready, in float32 on a CPU and in bfloat16 elsewhere."""
    on_cpu = jax.default_backend() == "cpu"
    rows: list[Row] = []
    for name, batch, tokens, heads in _SHAPES["cpu" if on_cpu else "other"]:
        shape = (2, 5, 2, 8) if settings.quick else (batch, tokens, heads, 64)
        dtype = jnp.float32 if on_cpu else jnp.bfloat16
        arrays = [jax.random.normal(jax.random.key(seed), shape, dtype) for seed in range(4)]
        made = {form: partial(_with_gradients(attention), *arrays) for form, attention in forms().items()}
        calls, repeats = 1 if settings.quick else 20, settings.times(7)
        what = f"{name}, {'x'.join(map(str, shape))}, {dtype.__name__}"
        say(f"attention: {what}: {repeats} x {calls} of {', '.join(made)}")
        times: dict[str, list[float]] = {form: [] for form in made}
        for once in made.values():
            jax.block_until_ready(once())
        for _ in range(repeats):
            for form, once in made.items():
                times[form].append(1e3 * seconds_of(partial(_call, once, calls)) / calls)
        rows += [Row("attention", f"{what}: {form}", tuple(found), "ms") for form, found in times.items()]
        for form in made:
            if form != "house":
                ratios = tuple(b / a for a, b in zip(times["house"], times[form], strict=True))
                rows.append(Row("attention", f"{what}: {form} / house", ratios, "x", better="more"))
    return rows


def forms() -> dict[str, Callable[[Any, Any, Any], Any]]:
    """Returns the forms that this device has; the house's on a GPU is JAX's by XLA."""
    if jax.default_backend() in ("gpu", "cuda"):
        as_on_a_tpu = lambda query, key, value: softmax_attention(query, key, value, None)  # noqa: E731
        library = partial(jax.nn.dot_product_attention, implementation="cudnn")
        return {"house": attend, "as on a TPU": as_on_a_tpu, "JAX, cudnn": library}
    return {"house": attend, "JAX, xla": partial(jax.nn.dot_product_attention, implementation="xla")}


def _with_gradients(attention: Callable[[Any, Any, Any], Any]) -> Callable[..., Any]:
    @jax.jit
    def both(query: Any, key: Any, value: Any, gradient: Any) -> Any:
        output, pull = jax.vjp(attention, query, key, value)
        return output, pull(gradient)

    return both


def _call(once: Callable[[], Any], calls: int) -> None:
    """From an idle device to an idle device."""
    for _ in range(calls):
        result = once()
    jax.block_until_ready(result)
