"""Receptive fields: which pixels a unit depends on by the structure of its network, whatever the weights."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from vision.analysis.programs import as_it_is, called, evaluate, traced

_AT_ONCE = 8
# Each entry of the result comes from the entries of the operands at its own place.
# fmt: off
_BY_ENTRY = frozenset((
    "abs", "add", "add_any", "and", "atan2", "cbrt", "ceil", "clamp", "convert_element_type", "copy", "cos",
    "div", "eq", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow",
    "is_finite", "le", "log", "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "nextafter", "not",
    "or", "pow", "reduce_precision", "rem", "round", "rsqrt", "select_n", "sign", "sin", "sqrt", "square",
    "stop_gradient", "sub", "tan", "tanh", "xor",
))
# fmt: on
# Entries change their places; padding and what does not depend on the image are 0.
_BY_PLACE = frozenset(
    ("broadcast_in_dim", "concatenate", "expand_dims", "pad", "reshape", "rev", "slice", "split", "squeeze")
) | {"transpose"}
_REDUCTIONS = frozenset(f"reduce_{name}" for name in ("sum", "max", "min", "prod", "and", "or")) | {"argmax", "argmin"}
_WINDOWS = frozenset(f"reduce_window_{name}" for name in ("max", "min", "sum"))


def receptive_fields(
    function: Callable[[Any, Array], Array], inputs: Any, images: jax.ShapeDtypeStruct, places: np.ndarray
) -> Bool[np.ndarray, "places height width"]:
    """Returns the pixels that units depend on.

    The program is traced, never run on weights. Each of its equations is replaced by the sum of what its result
    depends on (a kernel of ones for every kernel, a sum for every maximum), and a one at the unit is taken back to the
    image by the transpose; at every equation a sum above 0 becomes 1. So any padding, stride, dilation, shortcut and
    pooling counts as it is. What depends on its operand in a way that is not known here counts as depending on all of
    it: the field can be too large then, never too small.

    Args:
      function: ``(inputs, images) -> feature``, ``[1, rows, columns, channels]``, ``[1, places, channels]`` or ``[1,
        channels]``.
      inputs: what else it takes, such as parameters; shapes suffice.
      images: spec of one image, ``[1, height, width, channels]``.
      places: of the units, counted row by row, ``[n]``.
    """
    inputs, images = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), (inputs, images))
    leaves, structure = jax.tree.flatten(inputs)
    program = traced(lambda flat, image: function(jax.tree.unflatten(structure, flat), image))(leaves, images)
    shape = program.out_avals[0].shape

    def dependence(image: Float[Array, "1 height width channels"]) -> Float[Array, "places width_of_feature"]:
        (result,) = evaluate(program, [None] * len(leaves) + [_Carried(image)], _meaning)
        return (jnp.zeros(shape) if result is None else result.sums).reshape(-1, shape[-1])

    @jax.jit
    def fields(chosen: Array) -> Array:
        start = jnp.zeros(images.shape, jnp.float32)
        count = int(np.prod(shape[:-1]))
        pull = jax.vjp(dependence, start)[1]
        ones = jnp.broadcast_to(jax.nn.one_hot(chosen, count)[..., None], (_AT_ONCE, count, shape[-1]))
        return jnp.any(jax.vmap(lambda one: pull(one)[0][0])(ones) > 0, axis=-1)

    distinct, where = np.unique(np.asarray(places), return_inverse=True)
    found = []
    for first in range(0, len(distinct), _AT_ONCE):
        chunk = distinct[first : first + _AT_ONCE]
        filled = np.zeros(_AT_ONCE, np.int32)
        filled[: len(chunk)] = chunk
        found.append(np.asarray(fields(filled))[: len(chunk)])
    return np.concatenate(found)[where.reshape(-1)]


def box(field: Bool[np.ndarray, "height width"]) -> tuple[slice, slice]:
    """Returns the rows and the columns of the smallest rectangle around a field."""
    sides = []
    for axis in (1, 0):
        inside = np.flatnonzero(field.any(axis=axis))
        sides.append(slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0))
    return sides[0], sides[1]


@jax.custom_vjp
def _marked(x: Array) -> Array:
    return x


_marked.defvjp(lambda x: (x, None), lambda _, gradient: ((gradient > 0).astype(gradient.dtype),))


class _Carried(NamedTuple):
    """What depends on the image: a sum of all that it depends on, of its own shape."""

    sums: Array


def _meaning(equation: Any, values: list[Any]) -> list[_Carried | None]:
    """Weights, constants and literals carry nothing, and neither does what comes of them alone."""
    operands = [value.sums if isinstance(value, _Carried) else None for value in values]
    if all(operand is None for operand in operands):
        return [None] * len(equation.outvars)
    inner = called(equation)
    if inner is not None:
        return evaluate(inner, values, _meaning)
    return [_Carried(_marked(sums)) for sums in _sums(equation, operands)]


def _sums(equation: Any, operands: list[Array | None]) -> list[Array]:
    """Returns what each result depends on, with at least one operand that is not None."""
    name, shapes = equation.primitive.name, [variable.aval.shape for variable in equation.outvars]
    there = [operand for operand in operands if operand is not None]
    parameters = {**equation.params, "preferred_element_type": jnp.dtype("float32")}
    if name in _BY_ENTRY:
        return [sum((jnp.broadcast_to(operand, shapes[0]) for operand in there), jnp.zeros(shapes[0]))]
    if name in _BY_PLACE:
        return as_it_is(equation, _with_zeros(equation, operands))
    if name == "conv_general_dilated" and operands[1] is None:
        kernel = jnp.ones(equation.invars[1].aval.shape)
        return [equation.primitive.bind(operands[0], kernel, **parameters)]
    if name == "dot_general":
        left, right = (jnp.ones(variable.aval.shape) for variable in equation.invars)
        total = jnp.zeros(shapes[0])
        for pair in ((operands[0], right), (left, operands[1])):
            if pair[0] is not None and pair[1] is not None:
                total = total + equation.primitive.bind(*pair, **parameters)
        return [total]
    if name in _REDUCTIONS:
        return [jnp.sum(there[0], axis=equation.params["axes"])]
    if name in _WINDOWS:
        parts = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")
        return [lax.reduce_window(there[0], 0.0, lax.add, *(equation.params[part] for part in parts))]
    if name == "cond":
        return _of_branches(equation, operands)
    everything = sum(jnp.sum(operand) for operand in there)
    return [jnp.broadcast_to(everything, shape) for shape in shapes]


def _with_zeros(equation: Any, operands: list[Array | None]) -> list[Array]:
    pairs = zip(equation.invars, operands, strict=True)
    return [jnp.zeros(atom.aval.shape) if operand is None else operand for atom, operand in pairs]


def _of_branches(equation: Any, operands: list[Array | None]) -> list[Array]:
    """Which branch is taken is not known: a result depends on what it depends on in any of them."""
    carried = [None if operand is None else _Carried(operand) for operand in operands[1:]]
    branches = [evaluate(branch, carried, _meaning) for branch in equation.params["branches"]]
    shapes = [variable.aval.shape for variable in equation.outvars]
    each = zip(shapes, *branches, strict=True)
    results = [sum((one.sums for one in ones if one is not None), jnp.zeros(shape)) for shape, *ones in each]
    if operands[0] is not None:
        results = [result + jnp.sum(operands[0]) for result in results]
    return results
