"""A train step of the ResNet-20 for CIFAR-10 (He et al. 2016, section 4.2): what its input is measured against."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

_WIDTHS = (16, 32, 64)
State = tuple[Any, Any, Any]
Step = Callable[[State, Array, Array], tuple[State, Array]]


class ResNet(nn.Module):
    """The network of ``6 blocks + 2`` weighted layers, with shortcuts that have no weights (option A).

    Attributes:
      blocks: in each of the three stages; 3 make ResNet-20 with its 0.27 million parameters (table 6).
      num_classes: size of the output.
    """

    blocks: int = 3
    num_classes: int = 10

    @nn.compact
    def __call__(self, images: Float[Array, "batch height width channels"]) -> Float[Array, "batch classes"]:
        """Returns the logits, with the statistics of this batch."""
        x = _convolved(images, _WIDTHS[0], 1)
        for stage, width in enumerate(_WIDTHS):
            for block in range(self.blocks):
                stride = 2 if stage and not block else 1
                shortcut = x[:, ::stride, ::stride]
                more = width - x.shape[-1]
                shortcut = jnp.pad(shortcut, ((0, 0), (0, 0), (0, 0), (more // 2, more - more // 2)))
                y = _convolved(x, width, stride)
                x = nn.relu(shortcut + _convolved(y, width, 1, activate=False))
        return nn.Dense(self.num_classes)(x.mean(axis=(1, 2)))


def _convolved(x: Array, width: int, stride: int, *, activate: bool = True) -> Array:
    """A 3x3 convolution and batch normalisation, as part of the module that calls it."""
    x = nn.Conv(width, (3, 3), stride, padding=1, use_bias=False, kernel_init=nn.initializers.he_normal())(x)
    x = nn.BatchNorm(use_running_average=False, momentum=0.9)(x)
    return nn.relu(x) if activate else x


def make_step(images: Float[Array, "batch height width channels"], *, blocks: int = 3) -> tuple[State, Step]:
    """Returns a new state ``(parameters, statistics, optimizer state)`` and ``step(state, images, labels)``.

    The step is jitted, gives its old state's memory away, and returns ``state, loss``; SGD with momentum and weight
    decay as in the paper.
    """
    model = ResNet(blocks)
    variables = model.init(jax.random.key(0), images[:1])
    optimizer = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.1, momentum=0.9))

    def step(state: State, images: Array, labels: Array) -> tuple[State, Array]:
        params, statistics, memory = state

        def loss_of(params: Any) -> tuple[Array, Any]:
            variables = {"params": params, "batch_stats": statistics}
            logits, changed = model.apply(variables, images, mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), changed["batch_stats"]

        (loss, statistics), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, memory = optimizer.update(gradients, memory, params)
        return (optax.apply_updates(params, updates), statistics, memory), loss

    params = variables["params"]
    return (params, variables["batch_stats"], optimizer.init(params)), jax.jit(step, donate_argnums=0)
