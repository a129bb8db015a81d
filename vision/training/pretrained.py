"""A model with its weights, of a run of ours, of an import, or straight from a file; and its evaluation on any data."""

from collections.abc import Callable, Mapping
from functools import cache
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from vision import models
from vision.config.calling import call, lookup
from vision.config.loading import plain
from vision.data.inputs import open_inputs
from vision.data.source import has_several_labels
from vision.data.tokenizer import Tokenizer
from vision.errors import UserError
from vision.evaluation import EVALUATORS
from vision.evaluation.base import EvalSet, Evaluator
from vision.evaluation.features import Features
from vision.interop.files import read_weights
from vision.interop.pair import Pair, pair_of
from vision.interop.preprocessing import Preprocessing, override
from vision.interop.saved import model_of
from vision.interop.trees import nested
from vision.interop.variant import import_variant
from vision.models.interface import ImageShape, Model, Variables
from vision.objectives import WITH_TEACHER
from vision.objectives.base import Objective
from vision.objectives.classify import classify
from vision.objectives.contrast import contrast
from vision.training import sharding
from vision.training.checkpoint import load_arrays
from vision.training.saved_tokenizer import tokenizer_of
from vision.training.schema import eval_section, own, resolve
from vision.training.state import TrainState

Note = Callable[[str], None]
FEATURES = "features:"  # begins the name of data that nothing is done to
# How the authors of these sets evaluate: which label counts, and which classes compete.
PROTOCOLS: dict[str, dict[str, Any]] = {
    "imagenet2012_real": {"label": "real_label"},
    "imagenet_a": {"among": "present"},
    "imagenet_r": {"among": "present"},
}


class Pretrained(NamedTuple):
    """A model with its weights.

    Attributes:
      model: built for the images.
      params: nested.
      collections: likewise, such as ``batch_stats``.
      name: of the variant.
      image_shape: ``(height, width, channels)``.
      preprocessing: what it expects of its images.
      objective: the section of the config that it was trained with, empty where there is none.
      pair: both towers, where it learned from images and words.
    """

    model: Model
    params: Variables
    collections: Variables
    name: str
    image_shape: ImageShape
    preprocessing: Preprocessing
    objective: Mapping[str, Any] = MappingProxyType({})
    pair: Pair | None = None

    @property
    def loss(self) -> Literal["softmax", "sigmoid"]:
        """The form of its probabilities: one of many, or each class on its own.

        Raises:
          UserError: it was not trained to classify.
        """
        if self.objective.get("name", "classify") not in ("classify", *WITH_TEACHER):
            raise UserError(
                f"{self.name} was trained by {self.objective['name']}, which tells no classes apart; "
                "evaluators of features do without: --evaluator knn, or linear_probe"
            )
        return self.objective.get("loss", "softmax")

    def learner(self) -> tuple[Objective, TrainState]:
        """Returns what gives evaluators their features, and its state."""
        if self.pair is None:
            return classify(self.model), TrainState(0, self.params, {"collections": self.collections}, ())
        options = {name: self.pair.objective[name] for name in ("embed_dim", "loss", "image_projection")}
        objective = contrast(self.pair.model, self.pair.text, **options)
        return objective, TrainState(0, self.pair.params, {"collections": self.pair.collections}, ())


def load_pretrained(
    path: str,
    *,
    model: str | None = None,
    options: Mapping[str, Any] | None = None,
    step: int | None = None,
    image_size: int | None = None,
    given: Mapping[str, Any] | None = None,
    naming: str | None = None,
    average: bool = True,
    note: Note,
) -> Pretrained:
    """Returns a model with its weights; every array must fit.

    Args:
      path: folder of a run or an import, or a weight file, folder or Hub name of another library.
      model: the variant, for weights that do not say it.
      options: of the model, over the variant's own.
      step: which checkpoint of a run; None for the newest.
      image_size: side of the images; None for what the model was trained with.
      given: ``mean``, ``std``, ``crop_ratio``, ``interpolation``, in place of what the weights say.
      naming: whose names a file uses, where it is not clear.
      average: take the moving average of a run's parameters where there is one.
      note: told what people should know.

    Raises:
      UserError: the weights cannot be read, do not fit, or do not say what is needed.
    """
    if (Path(path) / "checkpoints").is_dir():
        if model is not None or options:
            raise UserError(f"{path} knows its model; leave --model and --option out")
        _, arrays, metadata = load_arrays(path, step)
        shape = _shape_of_run(metadata)
        if image_size is not None:
            shape = (image_size, image_size, shape[2])
        saved = model_of(arrays, metadata, image_shape=shape, average=average, source=path, note=note)
        params, collections = nested(saved.arrays)
        found = override(saved.preprocessing, **(given or {}))
        config = plain(metadata.get("config") or {})
        complete = _complete(saved.model, params, collections, saved.name, shape, found, path)
        pair = None
        if metadata.get("text") or config.get("text"):
            pair = pair_of(arrays, metadata, image_shape=shape, source=path)
        objective = config.get("objective") or metadata.get("objective") or {}
        return complete._replace(objective=objective, pair=pair)
    if model is None:
        raise UserError(f"{path} is no folder with checkpoints; for a weight file say which --model it is of")
    lookup(models.VARIANTS, model, "--model", kind="model")
    weights = read_weights(path, note=note)
    built, _, shape, loaded = import_variant(
        weights, model, options=options or {}, image_size=image_size, naming=naming, note=note
    )
    for line in loaded.report.lines():
        note(line)
    found = override(loaded.preprocessing, **(given or {}))
    return _complete(built, loaded.params, loaded.collections, model, shape, found, path)


def evaluate(
    pretrained: Pretrained,
    data: str,
    *,
    split: str | None = None,
    data_dir: str | None = None,
    label: str | None = None,
    evaluators: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    tokenizer: str | Path | None = None,
    batch_size: int = 64,
    note: Note,
) -> dict[str, dict[str, float]]:
    """Returns the metrics of a model on any data, prepared as its weights expect, by the evaluators' names.

    Args:
      pretrained: the model.
      data: as ``config.data.name``.
      split: of the data; None for the held-out one.
      data_dir: folder of prepared TFDS data sets.
      label: the feature that is the label; by default that of the set's own protocol, see :data:`PROTOCOLS`.
      evaluators: sections as in ``config.evals``; by default ``zero_shot`` of a pair, else ``classification``, or
        ``any_label`` where the protocol asks for it.
      tokenizer: a file of it, for a pair that has none.
      batch_size: images at a time.
      note: told what people should know.

    Raises:
      UserError: the data are not there, have other classes than the model, or several labels where one is needed; or
        the tokenizer is not of the model.
    """
    made, state = evaluators_on(
        pretrained,
        data,
        split=split,
        data_dir=data_dir,
        label=label,
        evaluators=evaluators,
        tokenizer=tokenizer,
        batch_size=batch_size,
        note=note,
    )
    result: dict[str, dict[str, float]] = {}
    for name, evaluator in made.items():
        values = dict(evaluator.run(state))
        result[name] = {metric: value for metric, value in values.items() if not isinstance(value, np.ndarray)}
    return result


def evaluators_on(
    pretrained: Pretrained,
    data: str,
    *,
    split: str | None = None,
    data_dir: str | None = None,
    label: str | None = None,
    evaluators: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    tokenizer: str | Path | None = None,
    batch_size: int = 64,
    note: Note,
    **selection: Any,
) -> tuple[dict[str, Evaluator], TrainState]:
    """Returns the evaluators of :func:`evaluate`, compiled once for all weights of this model, and its own state.

    ``selection`` is more of the data's section, such as the classes that a run learned.
    """
    protocol = PROTOCOLS.get(data.split("/")[0].split(":")[0], {})
    pair = pretrained.pair
    words = _words(pretrained, tokenizer)
    usual = "zero_shot" if pair is not None else "any_label" if protocol else "classification"
    sections = {
        name: _by_default(section, protocol, pretrained, batch_size)
        for name, section in (evaluators or {usual: {"name": usual}}).items()
    }
    height, width, channels = pretrained.image_shape
    expected = pretrained.preprocessing
    config = config_on(
        pretrained,
        {
            "name": data,
            "data_dir": data_dir,
            "label": label or protocol.get("label"),
            "tokens": None if words is None or pair is None else {"length": pair.text.length},
            **selection,
        },
        batch_size=batch_size,
        evals=sections,
    )
    mesh = call(sharding.make_mesh, config["mesh"], "config.mesh")
    sharding.check_batch(batch_size, mesh, 1, where="--batch_size")
    inputs = open_inputs({**config, "data": {**config["data"], "split": split}}, tokenizer=words)
    prepared = (
        f"{height}x{width}, mean {expected.mean}, std {expected.std}, crop ratio {expected.crop_ratio:g}, "
        f"{expected.interpolation} ({expected.source})"
    )
    if data.startswith(FEATURES):
        prepared = "features, as they are"
    note(f"{pretrained.name} on {len(inputs.source):,} images of {data}: {prepared}")
    objective, state = pretrained.learner()
    state = jax.device_put(state, sharding.replicated(mesh))
    image = jax.ShapeDtypeStruct((1, height, width, channels), np.float32)
    outputs = jax.eval_shape(objective.encode, state.params, state.extra, {"image": image})

    @cache
    def opened(other: str | None) -> EvalSet:
        pipeline, masks = inputs.evaluation_pipeline(
            other, batch_size=batch_size, sharding=sharding.batch_sharding(mesh), what="evaluation"
        )
        return EvalSet(pipeline, inputs.prepare(training=False), masks)

    supplied = {
        "open_split": lambda other: opened(config["data"]["split"] if other is None else other),
        "features": Features(objective, outputs=outputs),
        "tokenizer": words,
        "token_length": None if pair is None else pair.text.length,
    }
    made: dict[str, Evaluator] = {}
    for name, section in config["evals"].items():
        function = EVALUATORS[section["name"]]
        asked = {key: value for key, value in supplied.items() if key in signature(function).parameters}
        if section["name"] == "zero_shot" and has_several_labels(inputs.source):
            raise UserError(
                f"zero_shot asks for one label of each image, {data} has several: give --label with a feature of one, "
                "such as original_label of imagenet2012_real"
            )
        classes = pretrained.model.module.num_classes
        if "features" not in asked and inputs.source.num_classes != classes:
            raise UserError(f"{pretrained.name} tells {classes} classes apart, {data} has {inputs.source.num_classes}")
        made[name] = call(
            function,
            own(section, eval_section),
            f"evaluator {name}",
            eval_set=opened(split),
            objective=objective,
            **asked,
        )
    return made, state


def config_on(
    pretrained: Pretrained,
    data: Mapping[str, Any],
    *,
    batch_size: int,
    evals: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Returns a complete config whose data are prepared as a model's weights expect; no model of it is built.

    Args:
      pretrained: the model.
      data: the section of the config, without what is done to images.
      batch_size: images at a time.
      evals: sections of evaluators.

    Raises:
      ConfigError: the sections are wrong.
    """
    height, width, channels = pretrained.image_shape
    expected = pretrained.preprocessing
    prepared = {
        "image_size": (height, width),
        "channels": channels,
        "eval_crop": expected.crop,
        "decoder": expected.decoder,
        "interpolation": expected.filter,
        "mean": expected.mean,
        "std": expected.std,
    }
    if data["name"].startswith(FEATURES):
        prepared = {}
    return resolve(
        {
            "data": {**prepared, **data},
            "model": {"name": "linear"},
            "objective": {"name": "classify"},
            "optimizer": {"name": "sgd", "learning_rate": 0.0},
            "duration": {"steps": 1},
            "batch_size": batch_size,
            "evals": evals,
        }
    )


def _by_default(
    section: Mapping[str, Any], protocol: Mapping[str, Any], pretrained: Pretrained, batch_size: int
) -> dict[str, Any]:
    """A section with what the data's protocol and the weights say of its evaluator."""
    known: dict[str, Any] = {}
    if section["name"] in ("any_label", "zero_shot") and "among" in protocol:
        known = {"among": protocol["among"]}
    if section["name"] == "classification":
        known = {"loss": pretrained.loss}
    return {**known, **section, "batch_size": batch_size}


def _words(pretrained: Pretrained, file: str | Path | None) -> Tokenizer | None:
    """The tokenizer of a pair, None where there is none."""
    if pretrained.pair is None:
        if file is not None:
            raise UserError(f"--tokenizer: {pretrained.name} has no text tower that would read its tokens")
        return None
    if file is None and not pretrained.pair.tokenizer:
        return None
    size = pretrained.pair.text.vocab_size
    return tokenizer_of(pretrained.name, pretrained.pair.tokenizer, file, vocab_size=size)


def _shape_of_run(metadata: Mapping[str, Any]) -> ImageShape:
    """The shape of the images that a checkpoint's model was built for; where it does not say, the data are asked."""
    if metadata.get("image_shape"):
        height, width, channels = metadata["image_shape"]
        return height, width, channels
    return open_inputs(resolve(plain(metadata["config"]))).part.shape


def _complete(model, params, collections, name, shape, preprocessing, path) -> Pretrained:
    if preprocessing is None:
        raise UserError(f"{path} does not say what its model expects of images; give --mean and --std")
    return Pretrained(model, params, collections, name, shape, preprocessing)
