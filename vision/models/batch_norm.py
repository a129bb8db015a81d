"""Batch normalisation that reads a feature map as seldom as can be, forwards and backwards."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from vision.models.platform import platform

Rows = Float[Array, "*rows features"]
Features = Float[Array, " features"]


class BatchNorm(nn.BatchNorm):
    """Flax's over all axes but the last, with its parameters and statistics; those of a batch are float32.

    Of Flax's attributes it has momentum, epsilon, scale, bias, their initializers and the types; the output has the
    type of the input where ``dtype`` is None. The others are Flax's defaults.

    On a CPU the variance is taken around the mean of the batch, in two passes. Elsewhere, where memory is what takes
    time, both are taken in the one pass that also computes what is normalised, as Flax's fast variance is, but around
    the running mean: exact once that has come near the mean. Before, in the first steps, it is as good as Flax's fast
    one and worse than two passes for a channel whose mean is some hundred times its deviation.
    """

    @nn.compact
    def __call__(self, x: Rows, use_running_average: bool | None = None) -> Rows:  # type: ignore[override]
        """Returns ``x`` normalised, and in training keeps the running statistics."""
        use_running = nn.merge_param("use_running_average", self.use_running_average, use_running_average)
        features = x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", lambda: jnp.zeros(features, jnp.float32))
        running_var = self.variable("batch_stats", "var", lambda: jnp.ones(features, jnp.float32))
        one, zero = jnp.ones(features, self.param_dtype), jnp.zeros(features, self.param_dtype)
        scale = self.param("scale", self.scale_init, features, self.param_dtype) if self.use_scale else one
        bias = self.param("bias", self.bias_init, features, self.param_dtype) if self.use_bias else zero
        if use_running:
            factor = lax.rsqrt(running_var.value + self.epsilon) * scale
            y = (x - running_mean.value) * factor + bias
        else:
            shift = None if platform() == "cpu" else lax.stop_gradient(running_mean.value)
            y, mean, var = normalize(x, scale, bias, shift, self.epsilon)
            if not self.is_initializing():
                running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
                running_var.value = self.momentum * running_var.value + (1 - self.momentum) * var
        return y.astype(self.dtype or x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def normalize(
    x: Rows, scale: Features, bias: Features, shift: Features | None, epsilon: float
) -> tuple[Rows, Features, Features]:
    """Returns ``scale (x - mean) / sqrt(var + epsilon) + bias`` in float32, the mean and the biased variance.

    Its backward pass takes two sums in one pass over the map and its gradient, and a second one (Ioffe and Szegedy
    2015, section 3, their six equations put together). Mean and variance are for the running statistics: what is
    computed from them has no gradient.

    Args:
      x: values.
      scale: of each feature.
      bias: likewise.
      shift: near the mean; the variance then comes from the same pass as the mean, with a relative error of about
        ``(mean - shift)^2 / var`` times the spacing of float32. None takes a second pass.
      epsilon: added to the variance.
    """
    return _forward(x, scale, bias, shift, epsilon)[0]


def _forward(x: Rows, scale: Features, bias: Features, shift: Features | None, epsilon: float):
    axes = tuple(range(x.ndim - 1))
    exact = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if shift is None:
        mean = exact.mean(axes)
        var = jnp.square(exact - mean).mean(axes)
    else:
        moved = exact - shift
        mean = moved.mean(axes)
        var = jnp.maximum(0.0, jnp.square(moved).mean(axes) - jnp.square(mean))
        mean = mean + shift
    inverse = lax.rsqrt(var + epsilon)
    y = (exact - mean) * (inverse * scale) + bias
    return (y, mean, var), (x, scale, mean, inverse)


def _backward(epsilon: float, kept, gradients):
    x, scale, mean, inverse = kept
    gradient, *_ = gradients
    axes = tuple(range(x.ndim - 1))
    count = x.size // x.shape[-1]
    centred = x.astype(mean.dtype) - mean
    of_bias = gradient.sum(axes)
    along = (gradient * centred).sum(axes) * inverse
    of_x = (gradient - of_bias / count - centred * (inverse * along / count)) * (inverse * scale)
    return of_x.astype(x.dtype), along.astype(scale.dtype), of_bias.astype(scale.dtype), None


normalize.defvjp(_forward, _backward)
