"""Parameters that a model makes from training images, without their labels, where training starts."""

import jax
import numpy as np

from vision.data.materialize import materialize
from vision.data.source import Subset
from vision.errors import ConfigError
from vision.models.interface import Model
from vision.training.assemble import Experiment
from vision.training.state import Given

MOST_IMAGES = 5000


def weights_from_images(experiment: Experiment) -> Given | None:
    """Returns what the model makes of the first 5,000 training images, prepared as in evaluation; None of most models.

    Every process computes it for itself from the same images.

    Raises:
      ConfigError: there are no images in the data.
    """
    model = experiment.model
    if not isinstance(model, Model) or not hasattr(model.module, "from_images"):
        return None
    inputs = experiment.inputs
    if "image" not in inputs.source.fields:
        raise ConfigError(f"config.model: {experiment.config['model']['name']} starts from images; the data have none")
    first = Subset(inputs.source, np.arange(min(MOST_IMAGES, len(inputs.source))))
    images = materialize(first, inputs.evaluation_part).arrays["image"]
    zeros = np.zeros(len(images), np.int32)
    prepare = inputs.prepare(training=False)
    batch = {"image": images, "index": zeros, "visit": zeros}
    prepared = np.asarray(jax.jit(prepare)(batch, {}, jax.random.key(0), 0)["image"])
    return Given(model.module.from_images(prepared), {})
