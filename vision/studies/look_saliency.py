"""Which pixels the scores of classes depend on, for a classifier of any family."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vision.analysis.saliency import saliency_map, score_gradient, smooth_gradient
from vision.data.prepare import normalize
from vision.errors import UserError
from vision.models.interface import Model
from vision.studies.look_network import Missing, affordable, batch_size
from vision.training.pretrained import Pretrained

SAMPLES = 16
_LEAST_SAMPLES = 4
_MOST = 10_000


def check_classifier(pretrained: Pretrained) -> None:
    """Returns nothing for a classifier.

    Raises:
      Missing: the network scores no classes.
    """
    if not getattr(pretrained.model.module, "num_classes", 0):
        raise Missing(f"{pretrained.name} has no head that would score classes")
    try:
        _ = pretrained.loss
    except UserError as error:
        raise Missing(f"{pretrained.name} was not trained to tell classes apart") from error


def samples_for(pretrained: Pretrained, images: int) -> int:
    """Returns how many noisy copies of images can be differentiated in some seconds, from 4 to 16."""
    passes = affordable(pretrained, _MOST) // (3 * max(images, 1))  # forwards, and about twice that backwards
    return min(SAMPLES, max(_LEAST_SAMPLES, passes))


def probabilities(pretrained: Pretrained, images: np.ndarray) -> np.ndarray:
    """Returns the probability of each class for uint8 images, ``[n, classes]``."""
    found = [_scores(*_of(pretrained), chunk) for chunk in _chunks(pretrained, images)]
    scores = jnp.asarray(np.concatenate(found)[: len(images)])
    return np.asarray(jax.nn.sigmoid(scores) if pretrained.loss == "sigmoid" else jax.nn.softmax(scores))


def saliency_of(
    pretrained: Pretrained, images: np.ndarray, classes: np.ndarray, *, samples: int = 0, seed: int = 0
) -> np.ndarray:
    """Returns the saliency of one class for each uint8 image, ``[n, height, width]``, by pixels on the scale 0 to 1.

    Args:
      pretrained: a classifier.
      images: uint8 ``[n, height, width, channels]``.
      classes: ``[n]``.
      samples: noisy copies of SmoothGrad; 0 for the plain gradient.
      seed: of the noise.
    """
    maps = []
    chunks = zip(_chunks(pretrained, images), _chunks(pretrained, classes.astype(np.int32)), strict=True)
    for number, (pixels, wanted) in enumerate(chunks):
        gradient = partial(_gradient, *_of(pretrained), wanted)
        scaled = jnp.asarray(pixels, jnp.float32) / 255
        if samples:
            key = jax.random.fold_in(jax.random.key(seed), number)
            gradients = smooth_gradient(gradient, scaled, key=key, samples=samples)
        else:
            gradients = gradient(scaled)
        maps.append(np.asarray(saliency_map(gradients)))
    return np.concatenate(maps)[: len(images)]


def _of(pretrained: Pretrained) -> tuple[Any, ...]:
    moments = (tuple(pretrained.preprocessing.mean), tuple(pretrained.preprocessing.std))
    return pretrained.model, moments, pretrained.params, pretrained.collections


def _chunks(pretrained: Pretrained, rows: np.ndarray) -> list[np.ndarray]:
    """Parts of one size, the last filled up with its first row; few rows are one part of their own size."""
    size = min(batch_size(pretrained), len(rows))
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    fill = size - len(parts[-1])
    return [*parts[:-1], np.concatenate([parts[-1], np.repeat(parts[-1][:1], fill, axis=0)])]


@partial(jax.jit, static_argnums=(0, 1))
def _scores(model: Model, moments: Any, params: Any, collections: Any, pixels: Any) -> Any:
    images = normalize(pixels, *moments)
    return model.apply(params, collections, images, keys=None, train=False)[0].astype(jnp.float32)


@partial(jax.jit, static_argnums=(0, 1))
def _gradient(model: Model, moments: Any, params: Any, collections: Any, classes: Any, scaled: Any) -> Any:
    return score_gradient(partial(_scores, model, moments, params, collections), scaled, classes)
