"""A bare train step, and a bare prediction, of a registered model: what is timed where nothing else is to be."""

from collections.abc import Callable
from typing import Any

import jax
import optax
from jaxtyping import Array, Float, Int

from vision import models

NUM_CLASSES = 10
Images = Float[Array, "batch height width channels"]
Labels = Int[Array, " batch"]
State = tuple[Any, Any, Any]
Step = Callable[[State, Images, Labels], tuple[State, Array]]
Predict = Callable[[State, Images], Float[Array, "batch classes"]]


def make_step(name: str, images: Images, **options: Any) -> tuple[State, Step, Predict]:
    """Returns a new state ``(parameters, collections, optimizer state)``, ``step`` and ``predict``, both jitted.

    ``step(state, images, labels)`` gives its old state's memory away and returns ``state, loss``: softmax
    cross-entropy, SGD with momentum 0.9 and weight decay 1e-4. ``predict(state, images)`` returns logits.

    Args:
      name: of a model.
      images: normalised, as large as those to come.
      **options: of the model.
    """
    _, height, width, channels = images.shape
    model = models.build(name, num_classes=NUM_CLASSES, image_shape=(height, width, channels), **options)
    spec = jax.ShapeDtypeStruct(images.shape, images.dtype)
    params, collections = jax.jit(lambda key: model.init(key, spec))(jax.random.key(0))
    optimizer = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(1e-3, momentum=0.9))

    def step(state: State, images: Images, labels: Labels) -> tuple[State, Array]:
        params, collections, memory = state

        def loss_of(params: Any) -> tuple[Array, Any]:
            logits, _, after = model.apply(params, collections, images, keys=None, train=True)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), after

        (loss, collections), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, memory = optimizer.update(gradients, memory, params)
        return (optax.apply_updates(params, updates), collections, memory), loss

    def predict(state: State, images: Images) -> Float[Array, "batch classes"]:
        return model.apply(state[0], state[1], images, keys=None, train=False)[0]

    state = params, collections, optimizer.init(params)
    return state, jax.jit(step, donate_argnums=0), jax.jit(predict)
