"""Gradients through ReLUs by other rules than the derivative: guided backpropagation, deconvolutional networks."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.extend import core
from jaxtyping import Array

from vision.analysis.programs import as_it_is, called, equations, evaluate, traced

Rule = Literal["gradient", "guided", "deconvnet"]
_CURVED = ("erf", "erfc", "logistic", "tanh")


def through_relus(function: Callable[[Array], Array], rule: Rule) -> Callable[[Array], Array]:
    """Returns the same function with another way back through its ReLUs.

    For a ReLU of x and a gradient g that comes from above, what goes on below is

    - ``gradient``: ``g [x > 0]``, the derivative;
    - ``deconvnet``: ``g [g > 0]``, a deconvolutional network, which rectifies what it projects (Zeiler and Fergus 2014,
      section 2.1; pooling goes back through the places of the maxima as in any gradient);
    - ``guided``: ``g [x > 0] [g > 0]``, both (Springenberg et al. 2015, section 3.4, figure 1).

    The traced program is evaluated with these rules in place of ``jax.nn.relu``, so that no model knows of it.

    Args:
      function: of one array.
      rule: one of the three.

    Raises:
      ValueError: at the call, where the function has no ReLU, or one inside a loop, and the rule is not ``gradient``.
    """
    if rule == "gradient":
        return function

    def ruled(argument: Array) -> Array:
        program = traced(function)(argument)
        if not relus(program):
            raise ValueError("there is no ReLU that a gradient could be guided through")
        (result,) = evaluate(program, [argument], partial(_meaning, rule))
        return result

    return ruled


def relus(program: core.ClosedJaxpr) -> int:
    """Returns how many ReLUs a program has."""
    return sum(_is_relu(equation) for equation in equations(program))


def other_activations(program: core.ClosedJaxpr) -> tuple[str, ...]:
    """Returns what else bends in a program, such as ``erf`` of a GELU, whose way back the rules leave as it is."""
    names = {equation.primitive.name for equation in equations(program)}
    return tuple(name for name in _CURVED if name in names)


def _meaning(rule: Rule, equation: Any, values: list[Any]) -> list[Any]:
    if _is_relu(equation):
        return [_relu(rule, *values)]
    if not any(map(_is_relu, _within(equation))):
        return as_it_is(equation, values)
    inner = called(equation)
    if inner is None:
        raise ValueError(f"a ReLU inside {equation.primitive.name} cannot be guided through")
    return evaluate(inner, values, partial(_meaning, rule))


def _within(equation: Any) -> list[Any]:
    programs = [value for value in equation.params.values() if isinstance(value, core.ClosedJaxpr | core.Jaxpr)]
    programs += [each for each in equation.params.get("branches", ())]
    return [each for program in programs for each in equations(program)]


def _is_relu(equation: Any) -> bool:
    """``jax.nn.relu`` has a derivative of its own, and within it nothing but a maximum with 0."""
    if equation.primitive.name != "custom_jvp_call":
        return False
    steps = [each for each in _within(equation) if called(each) is None]
    if len(steps) != 1 or steps[0].primitive.name != "max":
        return False
    return any(isinstance(atom, core.Literal) and atom.val == 0 for atom in steps[0].invars)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _relu(rule: Rule, x: Array) -> Array:
    return jnp.maximum(x, 0)


def _forwards(rule: Rule, x: Array) -> tuple[Array, Array]:
    return jnp.maximum(x, 0), x > 0


def _backwards(rule: Rule, positive: Array, gradient: Array) -> tuple[Array]:
    rectified = jnp.maximum(gradient, 0)
    return (jnp.where(positive, rectified, 0) if rule == "guided" else rectified,)


_relu.defvjp(_forwards, _backwards)
