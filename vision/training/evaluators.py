"""The evaluators of a config over the data and the objective of an experiment."""

import inspect
from typing import Any

import jax
import numpy as np

from vision.config.calling import call
from vision.errors import ConfigError
from vision.evaluation import EVALUATORS, OF_SCORES
from vision.evaluation.base import EvalSet, Evaluator
from vision.evaluation.feature_files import FeatureFiles
from vision.evaluation.features import Features
from vision.evaluation.outputs import MEAN
from vision.objectives import WITHOUT_LABELS
from vision.training import sharding
from vision.training.assemble import Experiment
from vision.training.schema import eval_section, own


def check_evaluation_shape(experiment: Experiment) -> dict[str, Any]:
    """Returns the shapes of what the model gives of an evaluation's image.

    Raises:
      ConfigError: augmentations change the size of images, and the model does not take the other.
    """
    objective, part = experiment.objective, experiment.inputs.evaluation_part
    spec = {"image": jax.ShapeDtypeStruct((1, *part.shape), np.float32)}
    if experiment.inputs.tokenizer is not None:
        length = experiment.config["data"]["tokens"]["length"]
        spec["tokens"] = jax.ShapeDtypeStruct((1, 1, length), np.int32)
    params, extra = experiment.abstract_state.params, experiment.abstract_state.extra
    try:
        return jax.eval_shape(objective.encode, params, extra, spec)
    except Exception as error:  # a model's layers each have an error of their own for shapes that do not fit
        raise ConfigError(
            f"config.data: evaluations bring images of {'x'.join(map(str, part.shape))}, which the model does not take "
            f"({str(error).splitlines()[0][:200]}); set config.data.image_size to what config.data.augment makes"
        ) from error


def make_evaluators(
    experiment: Experiment, *, split: str | None = None, files: FeatureFiles | None = None
) -> dict[str, Evaluator]:
    """Returns the config's evaluators by name.

    Args:
      experiment: the run.
      split: on which all of them run; None for each one's own.
      files: where features are kept, of the one state that the evaluators will run on.

    Raises:
      UserError: a split is not there, or an option cannot be.
    """
    evaluators: dict[str, Evaluator] = {}
    outputs = check_evaluation_shape(experiment) if experiment.config["evals"] else {}
    features = Features(experiment.objective, outputs=outputs, files=files)
    training = experiment.config["data"]["split"]
    opened: dict[tuple[str | None, int], EvalSet] = {}

    def open_once(name: str, split: str | None) -> EvalSet:
        """What is one evaluator's split and another's too is there once, and so are its features."""
        key = split, experiment.config["evals"][name]["batch_size"]
        if key not in opened:
            opened[key] = _eval_set(experiment, name, split)
        return opened[key]

    for name, section in experiment.config["evals"].items():
        sharding.check_batch(section["batch_size"], experiment.mesh, 1, where=f"config.evals.{name}.batch_size")
        output = (section.get("output") or "output").removesuffix(MEAN)
        if output not in outputs:
            raise ConfigError(f"config.evals.{name}.output: the model has no {output!r}; it has {', '.join(outputs)}")
        function = EVALUATORS[section["name"]]
        learned = experiment.config["objective"]["name"]
        if learned in WITHOUT_LABELS and section["name"] in OF_SCORES:
            raise ConfigError(
                f"config.evals.{name}: {section['name']} judges scores of classes, and {learned} learns none; "
                "evaluators of features do without: knn, linear_probe, few_shot, or zero_shot of images and words"
            )
        supplied = {
            "open_split": lambda other, name=name: open_once(name, training if other is None else other),
            "features": features,
            "tokenizer": experiment.inputs.tokenizer,
            "token_length": (experiment.config["data"]["tokens"] or {}).get("length"),
        }
        evaluators[name] = call(
            function,
            own(section, eval_section),
            f"config.evals.{name}",
            eval_set=open_once(name, split or section["split"]),
            objective=experiment.objective,
            **{key: value for key, value in supplied.items() if key in inspect.signature(function).parameters},
        )
    return evaluators


def _eval_set(experiment: Experiment, name: str, split: str | None) -> EvalSet:
    """Returns a split for one of the config's evaluators; None for the held-out one."""
    pipeline, masks = experiment.inputs.evaluation_pipeline(
        split,
        batch_size=experiment.config["evals"][name]["batch_size"],
        sharding=sharding.batch_sharding(experiment.mesh),
        what=name,
    )
    return EvalSet(pipeline, experiment.inputs.prepare(training=False), masks)
