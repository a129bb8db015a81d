"""Regression metrics over a split."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from vision.evaluation.base import EvalSet, Evaluator, State, Value, summed
from vision.objectives.base import Objective
from vision.objectives.classify import is_hit
from vision.objectives.regress import target_of


def regression(eval_set: EvalSet, objective: Objective) -> Evaluator:
    """Returns an evaluator that yields ``squared_error``, the mean over examples of the squared distance to the
    target, and for class labels, regressed as one-hot vectors, ``accuracy``.
    """

    def statistics(output: jax.Array, examples: dict[str, jax.Array], mask: jax.Array) -> dict[str, jax.Array]:
        error = jnp.sum(jnp.square(output - target_of(examples, output.shape[-1])), axis=-1)
        sums = {"count": jnp.sum(mask), "squared_error": jnp.sum(error * mask)}
        if "target" not in examples:
            sums["accuracy"] = jnp.sum(is_hit(jnp.argmax(output, axis=-1), examples["label"]) * mask)
        return sums

    pass_over = summed(eval_set, objective, statistics)

    def run(state: State) -> Iterator[tuple[str, Value]]:
        sums = pass_over(state)
        count = sums.pop("count")
        for name, total in sorted(sums.items()):
            yield name, float(total / count)

    source = eval_set.pipeline.source
    names = ("squared_error",) if "target" in source.fields else ("accuracy", "squared_error")
    return Evaluator(run, names, source.class_names)
