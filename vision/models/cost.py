"""What a function costs, counted as papers do: the multiplications and additions of its convolutions and matrices."""

import math
from collections.abc import Iterator
from typing import Any


def multiply_adds(jaxpr: Any) -> int:
    """Returns how many pairs of a multiplication and an addition the convolutions and matrix products of a program do.

    Twice this number are its FLOPs. As in the tables of papers, a convolution over padding counts as any other, and
    what is done to single numbers (activations, normalisations, softmax) is left out; the FLOPs that XLA reports have
    it the other way round.

    Args:
      jaxpr: as from ``jax.make_jaxpr``. A loop counts as often as it turns; of several branches the dearest counts.

    Raises:
      ValueError: the program has a loop whose end is not known before it runs.
    """
    return sum(_of_equation(equation) for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns)


def _of_equation(equation: Any) -> int:
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        inner = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        return math.prod(equation.outvars[0].aval.shape) * inner
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        outputs = kernel[parameters["dimension_numbers"].rhs_spec[0]]
        return math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // outputs
    inner_counts = [multiply_adds(each) for each in _programs(parameters)]
    if name == "cond":
        return max(inner_counts)
    if name == "while" and sum(inner_counts):
        raise ValueError("how often a while loop turns is not known before it runs")
    if name == "shard_map":  # written for one device of several
        return sum(inner_counts) * parameters["mesh"].size
    return sum(inner_counts) * (parameters["length"] if name == "scan" else 1)


def _programs(parameters: dict[str, Any]) -> Iterator[Any]:
    """The programs inside an equation: of a jitted function, a loop, a branch or a function with its own derivative."""
    for value in parameters.values():
        for each in value if isinstance(value, list | tuple) else (value,):
            if hasattr(each, "eqns") or hasattr(getattr(each, "jaxpr", None), "eqns"):
                yield each
