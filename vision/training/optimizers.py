"""Optimizers from config, all built from optax.

Each function returns the update for a learning rate and a transformation ``decay`` that adds ``weight_decay *
parameter``. Where ``decay`` stands says what kind it is: before the gradient's statistics it is the L2 penalty of
SGD, Adagrad, RMSProp and Adam, after them the decoupled decay of AdamW, LAMB, Lion and Muon (Loshchilov and
Hutter 2019). Both are scaled by the learning rate, as in PyTorch.

What can be compared with PyTorch or a paper takes the same steps (tests/test_optimizers.py); a docstring says where
it does not.
"""

import math
import re
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

PyTree = Any
Transform: TypeAlias = optax.GradientTransformation
# How a first moment is kept between steps, which is half of Adam's memory; None for the type of the parameters, and the
# step itself is float32 with them. A second moment stays as it is: it changes by a thousandth of itself, and bfloat16
# tells no two numbers apart that are so near.
MomentType = Literal["float32", "bfloat16"]


def sgd(
    rate: optax.Schedule,
    decay: Transform,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    moment_dtype: MomentType | None = None,
) -> Transform:
    """``v <- momentum v + g``, ``p <- p - rate v``; with ``nesterov`` the step looks ahead: ``g + momentum v``."""
    _check_shares(momentum=momentum)
    if nesterov and not momentum:
        raise ValueError("nesterov needs a momentum above 0")
    if moment_dtype and not momentum:
        raise ValueError("moment_dtype needs a momentum above 0")
    kept = optax.trace(decay=momentum, nesterov=nesterov, accumulator_dtype=moment_dtype)
    trace = kept if momentum else optax.identity()
    return optax.chain(decay, trace, optax.scale_by_learning_rate(rate))


def adagrad(
    rate: optax.Schedule, decay: Transform, *, initial_accumulator: float = 0.1, eps: float = 1e-7
) -> Transform:
    """Divides by the root of the sum of squared gradients, ``sqrt(sum + eps)`` (Duchi et al. 2011).

    PyTorch adds its ``eps`` to the root instead.
    """
    _check_not_negative(initial_accumulator=initial_accumulator, eps=eps)
    return optax.chain(decay, optax.scale_by_rss(initial_accumulator, eps), optax.scale_by_learning_rate(rate))


def rmsprop(
    rate: optax.Schedule, decay: Transform, *, smoothing: float = 0.9, eps: float = 1e-8, momentum: float = 0.0
) -> Transform:
    """Divides by the root of a running mean of squared gradients, ``sqrt(v) + eps`` (Hinton 2012)."""
    _check_shares(smoothing=smoothing, momentum=momentum)
    _check_not_negative(eps=eps)
    trace = optax.trace(decay=momentum) if momentum else optax.identity()
    scale = optax.scale_by_rms(decay=smoothing, eps=eps, eps_in_sqrt=False)
    return optax.chain(decay, scale, trace, optax.scale_by_learning_rate(rate))


def adam(
    rate: optax.Schedule,
    decay: Transform,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    moment_dtype: MomentType | None = None,
) -> Transform:
    """Adam (Kingma and Ba 2015, algorithm 1)."""
    _check_shares(b1=b1, b2=b2)
    _check_not_negative(eps=eps)
    moments = optax.scale_by_adam(b1, b2, eps, mu_dtype=moment_dtype)
    return optax.chain(decay, moments, optax.scale_by_learning_rate(rate))


def adamw(
    rate: optax.Schedule,
    decay: Transform,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    moment_dtype: MomentType | None = None,
) -> Transform:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2)."""
    _check_shares(b1=b1, b2=b2)
    _check_not_negative(eps=eps)
    moments = optax.scale_by_adam(b1, b2, eps, mu_dtype=moment_dtype)
    return optax.chain(moments, decay, optax.scale_by_learning_rate(rate))


def lamb(
    rate: optax.Schedule,
    decay: Transform,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    moment_dtype: MomentType | None = None,
) -> Transform:
    """AdamW whose update of each tensor gets the tensor's own norm (You et al. 2020, algorithm 2, phi = identity).

    A tensor whose norm is 0 takes the plain update.
    """
    _check_shares(b1=b1, b2=b2)
    _check_not_negative(eps=eps)
    moments = optax.scale_by_adam(b1, b2, eps, mu_dtype=moment_dtype)
    return optax.chain(moments, decay, optax.scale_by_trust_ratio(), optax.scale_by_learning_rate(rate))


def lars(
    rate: optax.Schedule,
    decay: Transform,
    *,
    momentum: float = 0.9,
    trust_coefficient: float = 0.001,
    clip: bool = False,
) -> Transform:
    """SGD whose gradient of each tensor is scaled by ``trust_coefficient ||p|| / ||g||`` (You et al. 2017).

    Here g includes weight decay, so the ratio's denominator is ``||g + decay p||`` where the paper's algorithm 1
    has ``||g|| + decay ||p||``. Tensors of one dimension, biases and normalisation scales, take the plain gradient,
    and so does a tensor whose norm is 0. With ``clip`` the scale is ``min(trust_coefficient ||p|| / (rate ||g||), 1)``
    (LARC; solo-learn's ``clip_lr``): SGD whose step without momentum moves no tensor by more than that share of it.
    """
    _check_shares(momentum=momentum)
    _check_not_negative(trust_coefficient=trust_coefficient)
    if clip:
        bounded = _bounded_steps(rate, trust_coefficient)
        return optax.chain(decay, bounded, optax.scale_by_learning_rate(rate), optax.trace(decay=momentum))
    trust = optax.masked(optax.scale_by_trust_ratio(trust_coefficient=trust_coefficient), _is_matrix)
    return optax.chain(decay, trust, optax.scale_by_learning_rate(rate), optax.trace(decay=momentum))


def _bounded_steps(rate: optax.Schedule, share: float) -> Transform:
    """Scales gradients of matrices down to a norm of ``share ||p|| / rate``."""

    def init(params: PyTree) -> optax.ScaleByScheduleState:
        return optax.ScaleByScheduleState(count=jnp.zeros([], jnp.int32))

    def update(updates: PyTree, state: optax.ScaleByScheduleState, params: PyTree = None):
        now = jnp.maximum(rate(state.count), 1e-12)

        def scaled(u: Any, p: Any) -> Any:
            if isinstance(u, optax.MaskedNode) or jnp.ndim(p) < 2:
                return u
            size, norm = jnp.linalg.norm(p), jnp.linalg.norm(u)
            bound = jnp.where((size > 0) & (norm > 0), share * size / (now * jnp.maximum(norm, 1e-30)), 1.0)
            return u * jnp.minimum(bound, 1.0)

        masked = lambda x: isinstance(x, optax.MaskedNode)  # noqa: E731
        updates = jax.tree.map(scaled, updates, params, is_leaf=masked)
        return updates, optax.ScaleByScheduleState(count=optax.safe_increment(state.count))

    return optax.GradientTransformation(init, update)


def lion(
    rate: optax.Schedule,
    decay: Transform,
    *,
    b1: float = 0.9,
    b2: float = 0.99,
    moment_dtype: MomentType | None = None,
) -> Transform:
    """The sign of an interpolated momentum (Chen et al. 2023, algorithm 2)."""
    _check_shares(b1=b1, b2=b2)
    return optax.chain(optax.scale_by_lion(b1, b2, mu_dtype=moment_dtype), decay, optax.scale_by_learning_rate(rate))


def muon(
    rate: optax.Schedule,
    decay: Transform,
    *,
    beta: float = 0.95,
    nesterov: bool = True,
    newton_schulz_steps: int = 5,
    consistent_rms: float | None = None,
    unit_rows: bool = False,
    others: Literal["adam", "sgd"] = "adam",
    exclude: tuple[str, ...] = (),
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    momentum: float = 0.85,
) -> Transform:
    """Momentum made orthogonal by Newton-Schulz iteration for matrices, Adam or SGD for all else (Jordan et al. 2024).

    A kernel of more than two dimensions is taken as a matrix with its last axis, the outputs, on one side. The
    update is scaled by ``sqrt(max(1, rows / columns))`` of the outputs-by-inputs matrix, or with
    ``consistent_rms`` to that root mean square for every shape (Liu et al. 2025). With ``unit_rows`` it is not scaled;
    instead each matrix is first brought to a norm of ``sqrt(outputs)``, for layers whose normalisation undoes their
    scale (airbench94_muon), and a ``learning_rate_scale`` of a rule holds for this part of the step too. What
    ``exclude``, regular expressions over paths, matches is no matrix, such as the head. ``others`` is Adam with
    decoupled decay (``b1``, ``b2``, ``eps``) or SGD with Nesterov's ``momentum``.
    """
    _check_shares(beta=beta, b1=b1, b2=b2, momentum=momentum)
    _check_not_negative(eps=eps)
    if newton_schulz_steps < 1:
        raise ValueError(f"newton_schulz_steps must be >= 1, got {newton_schulz_steps}")
    if consistent_rms is not None and consistent_rms <= 0.0:
        raise ValueError(f"consistent_rms must be > 0, got {consistent_rms}")
    if consistent_rms is not None and unit_rows:
        raise ValueError("consistent_rms and unit_rows are two scales of one update; give one of them")
    from optax.contrib import MuonDimensionNumbers, scale_by_muon

    def dimensions(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda p: MuonDimensionNumbers(tuple(range(p.ndim - 1)), p.ndim - 1), tree)

    # Of optax's Muon only the iteration: its momentum has a bias correction that Jordan's has not, and keeps state.
    newton_schulz = scale_by_muon(
        ns_steps=newton_schulz_steps, beta=0.0, nesterov=False, weight_dimension_numbers=dimensions
    )

    def size(u: Array) -> float:
        outputs, inputs = u.shape[-1], math.prod(u.shape[:-1])
        if unit_rows:
            return 1.0
        if consistent_rms is None:
            return math.sqrt(max(1.0, outputs / inputs))
        return consistent_rms * math.sqrt(max(outputs, inputs))

    def orthogonal(updates: PyTree, params: PyTree) -> PyTree:
        updates, _ = newton_schulz.update(updates, newton_schulz.init(updates))
        return jax.tree.map(lambda u: size(u) * u, updates)

    def unit(updates: PyTree, params: PyTree) -> PyTree:
        return jax.tree.map(lambda u, p: u + p * (math.sqrt(p.shape[-1]) / _norm(p) - 1.0), updates, params)

    def kinds(params: PyTree) -> PyTree:
        def kind(path: Any, p: Any) -> str:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            return "matrix" if jnp.ndim(p) > 1 and not any(re.search(each, name) for each in exclude) else "other"

        return jax.tree_util.tree_map_with_path(kind, params)

    by_rate = optax.scale_by_learning_rate(rate)
    matrices = optax.chain(optax.trace(decay=beta, nesterov=nesterov), optax.stateless(orthogonal), decay, by_rate)
    if unit_rows:
        matrices = optax.chain(matrices, optax.stateless(unit))
    if others == "adam":
        rest = optax.chain(optax.scale_by_adam(b1, b2, eps), decay, by_rate)
    else:
        rest = optax.chain(decay, optax.trace(decay=momentum, nesterov=True), by_rate)
    return optax.partition({"matrix": matrices, "other": rest}, kinds)


OPTIMIZERS: dict[str, Callable[..., Transform]] = {
    "sgd": sgd,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
    "lamb": lamb,
    "lars": lars,
    "lion": lion,
    "muon": muon,
}


def _check_shares(**values: float) -> None:
    for name, value in values.items():
        if not 0.0 <= value < 1.0:
            raise ValueError(f"{name} must be in [0, 1), got {value}")


def _check_not_negative(**values: float) -> None:
    for name, value in values.items():
        if not 0.0 <= value < math.inf:
            raise ValueError(f"{name} must be a number >= 0, got {value}")


def _norm(x: Array) -> Array:
    return jnp.maximum(jnp.sqrt(jnp.sum(jnp.square(x))), 1e-30)


def _is_matrix(params: PyTree) -> PyTree:
    return jax.tree.map(lambda p: jnp.ndim(p) > 1, params)
