"""A traced program evaluated equation by equation, so that some of them can be given another meaning."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.extend import core

from vision.models.platform import compiled_for

Meaning = Callable[[Any, list[Any]], Sequence[Any]]
_INLINED = ("jit", "pjit", "closed_call", "checkpoint", "remat2", "custom_jvp_call", "custom_vjp_call")


def traced(function: Callable[..., Any]) -> Callable[..., core.ClosedJaxpr]:
    """Returns ``jax.make_jaxpr`` of a function in which networks keep their plain forms, whatever the platform.

    On a CPU a convolution may be a product with a banded matrix, whose zeros are no structure, and a ReLU a choice.
    """

    def trace(*arguments: Any) -> core.ClosedJaxpr:
        with compiled_for("tpu"):
            return jax.make_jaxpr(function)(*arguments)

    return trace


def evaluate(program: core.ClosedJaxpr, arguments: Sequence[Any], meaning: Meaning) -> list[Any]:
    """Returns the outputs of a program whose equations mean what they are told to.

    Args:
      program: as from :func:`traced`.
      arguments: a value for each of its inputs, of any kind that ``meaning`` takes.
      meaning: ``(equation, values of its inputs) -> values of its outputs``; literals and constants come as they are.
    """
    jaxpr = program.jaxpr
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, program.consts, strict=True))
    values |= dict(zip(jaxpr.invars, arguments, strict=True))

    def of(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for equation in jaxpr.eqns:
        outputs = meaning(equation, [of(atom) for atom in equation.invars])
        values |= dict(zip(equation.outvars, outputs, strict=True))
    return [of(atom) for atom in jaxpr.outvars]


def as_it_is(equation: Any, values: Sequence[Any]) -> list[Any]:
    """Returns what an equation gives without any other meaning, derivatives of its own included."""
    primitive = equation.primitive
    result = primitive.bind(*values, **primitive.get_bind_params(equation.params))
    return list(result) if primitive.multiple_results else [result]


def called(equation: Any) -> core.ClosedJaxpr | None:
    """Returns the program that an equation merely calls; None for any other equation, loops and branches among them."""
    if equation.primitive.name not in _INLINED:
        return None
    inner = next(_inside(equation))
    return inner if isinstance(inner, core.ClosedJaxpr) else core.ClosedJaxpr(inner, ())


def equations(program: Any) -> Iterator[Any]:
    """Yields all equations of a program, those inside others too, each before what is inside it."""
    for equation in getattr(program, "jaxpr", program).eqns:
        yield equation
        for inner in _inside(equation):
            yield from equations(inner)


def _inside(equation: Any) -> Iterator[Any]:
    for value in equation.params.values():
        for each in value if isinstance(value, list | tuple) else (value,):
            if isinstance(each, core.ClosedJaxpr | core.Jaxpr):
                yield each
