"""How large the networks of the suite of models are, and what a prediction of them costs."""

from typing import Any

from tools.peers import NETWORKS


def count_parameters(name: str) -> int:
    """Returns how many parameters the house's network has."""
    import jax

    return sum(leaf.size for leaf in jax.tree.leaves(_traced(name)[1]))


def count_products(name: str) -> int:
    """Returns the multiplications and additions, twice their pairs, of a prediction of one image, as papers count."""
    from vision.models.cost import multiply_adds

    return 2 * multiply_adds(_traced(name)[0])


def _traced(name: str) -> Any:
    """The program that draws a network and predicts with it, and the shapes of its parameters."""
    import jax
    import jax.numpy as jnp

    from tools.benchmarks.model_steps import NUM_CLASSES
    from vision import models
    from vision.models.platform import compiled_for

    network = NETWORKS[name]
    shape = (network.size, network.size, network.channels)
    model = models.build(network.model, num_classes=NUM_CLASSES, image_shape=shape, **dict(network.options))
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    with compiled_for("tpu"):  # where convolutions stay convolutions
        init = jax.make_jaxpr(lambda key: model.init(key, images), return_shape=True)
        jaxpr, (params, _) = init(jax.random.key(0))
    return jaxpr, params
