"""Any run as a function from images to scores: a trained model or a fitted estimator behind one face."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vision.classic import persist
from vision.classic.scores import scores
from vision.classic.size import parameter_count
from vision.config.calling import call
from vision.config.loading import plain
from vision.data.host import HostPart, dtype_of
from vision.data.inputs import host_part
from vision.data.materialize import materialize, usable
from vision.data.prepare import normalize
from vision.data.source import ArraySource
from vision.data.sources import Given, Opener
from vision.errors import UserError
from vision.training import fit, fit_schema
from vision.training.pretrained import load_pretrained
from vision.training.workdir import read_json

Note = Callable[[str], None]


class Predictor(NamedTuple):
    """A run that can be asked.

    Attributes:
      name: of the model or the estimator.
      scores: images ``[n, height, width, channels]``, uint8 or features of float32, to float ``[n, classes]``, the
        larger the likelier.
      kind: of the scores: ``logits``, ``probability``, ``margin`` or ``votes``.
      part: what brings an image to the shape that ``scores`` takes.
      config: of the run, resolved.
      parameters: how many numbers it predicts with.
    """

    name: str
    scores: Callable[[np.ndarray], np.ndarray]
    kind: str
    part: HostPart
    config: Mapping[str, Any]
    parameters: int

    def open(self, split: str | None, *, note: Note, given: Given | None = None) -> ArraySource:
        """Returns a split of the run's own data, decoded to the shape that ``scores`` takes.

        Raises:
          UserError: there is no such split.
        """
        data = self.config["data"]
        opener = Opener.of(data, note=note, given=given)
        return materialize(usable(opener(split), self.part, data["on_error"], note), self.part)


def open_predictor(
    workdir: str | Path, *, step: int | None = None, batch_size: int = 500, note: Note, given: Given | None = None
) -> Predictor:
    """Returns the predictor of a run's folder.

    Args:
      workdir: of a training or a fit.
      step: which checkpoint of a training; None for the newest.
      batch_size: images that a trained model sees at a time.
      note: told what people should know.
      given: split -> source or arrays, where the data are arrays in memory.

    Raises:
      UserError: the folder is no run, or nothing has been saved there yet.
    """
    path = Path(workdir)
    if not (path / "config.json").is_file():
        raise UserError(f"{workdir} is no run: it has no config.json")
    config = plain(read_json(path / "config.json"))
    if fit_schema.is_fit(config):
        return _of_fit(path, fit_schema.resolve(config), note, given)
    pretrained = load_pretrained(str(path), step=step, note=note)
    model, expected = pretrained.model, pretrained.preprocessing
    if not getattr(model.module, "num_classes", 0):
        raise UserError(f"{workdir}: {pretrained.name} has no head, so it gives no scores")
    height, width, channels = pretrained.image_shape
    part = HostPart((height, width), channels, expected.crop, expected.decoder, expected.filter)

    @jax.jit
    def logits_of(params, collections, pixels):
        images = normalize(pixels, expected.mean, expected.std)
        return model.apply(params, collections, images, keys=None, train=False)[0].astype(jnp.float32)

    def scores_of(images: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(images), batch_size):
            chunk = images[start : start + batch_size]
            filled = np.zeros((batch_size, *chunk.shape[1:]), chunk.dtype)
            filled[: len(chunk)] = chunk
            parts.append(np.asarray(logits_of(pretrained.params, pretrained.collections, filled))[: len(chunk)])
        return np.concatenate(parts)

    count = sum(np.size(leaf) for leaf in jax.tree.leaves(pretrained.params))
    return Predictor(pretrained.name, scores_of, "logits", part, config, count)


def _of_fit(path: Path, config: Mapping[str, Any], note: Note, given: Given | None) -> Predictor:
    chain, estimator = persist.load(path / fit.FITTED)
    data = config["data"]
    opener = Opener.of(data, note=note, given=given)
    source = opener(data["split"])
    part = host_part({**data, "eval_crop": data["crop"]}, source, seed=config["seed"], note=note)
    kind = scores(estimator, chain.transform(np.zeros((1, *part.shape), dtype_of(source)), None), source.num_classes)[1]

    def scores_of(images: np.ndarray) -> np.ndarray:
        x = call(chain.transform, {}, "config.features", images=images, fingerprint=None)
        return scores(estimator, x, source.num_classes)[0]

    name = config["estimator"]["name"]
    return Predictor(name, scores_of, kind, part, config, parameter_count(chain, estimator))
