"""A contrastive objective for tests: its loss looks at all pairs of the batch, so it is not separable."""

import jax
import jax.numpy as jnp

from vision.objectives.base import Objective, keep_extra


def infonce(model, temperature: float = 0.2) -> Objective:
    """InfoNCE (van den Oord et al. 2018, equation 4) between an image's and its mirror image's embeddings.

    The scale is learned, so the loss has a gradient of its own beside that through ``outputs``; ``loss`` writes
    ``extra``, as a teacher's centre would be written.
    """

    def init(key, batch_spec):
        params, collections = model.init(key, batch_spec["image"])
        centre = jnp.zeros(model.module.num_classes)
        return {"tower": params, "log_scale": jnp.log(1 / temperature)}, {"collections": collections, "centre": centre}

    def forward(params, extra, batch, keys, train):
        views = batch["image"], batch["image"][:, :, ::-1]
        embeddings = []
        for number, images in enumerate(views):
            own = None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys, number)
            output, _, _ = model.apply(params["tower"], extra["collections"], images, keys=own, train=train)
            embeddings.append(output / jnp.linalg.norm(output, axis=-1, keepdims=True))
        return {"one": embeddings[0], "other": embeddings[1]}, extra

    def loss(params, outputs, extra, batch, step):
        logits = jnp.exp(params["log_scale"]) * outputs["one"] @ outputs["other"].T
        matched = jnp.diagonal(jax.nn.log_softmax(logits))
        centre = 0.9 * extra["centre"] + 0.1 * jnp.mean(outputs["other"], axis=0)
        metrics = {"matched": (jnp.sum(jnp.argmax(logits, 1) == jnp.arange(len(logits))), jnp.asarray(len(logits)))}
        return -jnp.mean(matched), ({**extra, "centre": jax.lax.stop_gradient(centre)}, metrics)

    def encode(params, extra, batch):
        output, features, _ = model.apply(params["tower"], extra["collections"], batch["image"], keys=None, train=False)
        return {**features, "output": output}

    return Objective(init, forward, loss, keep_extra, encode, separable=False)
