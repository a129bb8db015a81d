"""Weights to start from: of a run of ours, of an import, or in a file of another library."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vision import models
from vision.config.calling import fill
from vision.errors import ConfigError, UserError
from vision.interop.fit import Report, fit
from vision.interop.load import load_weights, resizer
from vision.interop.preprocessing import Preprocessing, from_json
from vision.interop.saved import abstract, model_arrays
from vision.interop.trees import flat, nested
from vision.models.interface import ImageShape, Model
from vision.models.scanning import stack_blocks, unstack_blocks
from vision.training.assemble import Experiment
from vision.training.checkpoint import load_arrays
from vision.training.state import Given

Note = Callable[[str], None]
HEADS = r"^params/(distillation_)?head/"
# Options that change what the same arrays compute, so that they must agree; the shapes do not tell them.
DECIDING = ("activation", "epsilon", "num_heads", "patch_size", "norm_order", "pooling", "groups")


def given_weights(section: Mapping[str, Any], experiment: Experiment, note: Note) -> tuple[Given, str]:
    """Returns the weights that ``config.init_from`` names for an experiment's model, and a sentence for people.

    Everything must fit, but for heads, which stay as initialised where they differ, and for what ``may_differ``
    lists. Learned positions are resized to the grid of the images.

    Args:
      section: see :func:`vision.training.schema.init_section`.
      experiment: whose model takes them.
      note: told what was resized and what stays as initialised.

    Raises:
      UserError: the source cannot be read or does not fit; the message names arrays of both sides.
    """
    model, shape = experiment.model, experiment.model.image_shape
    if shape is None:
        raise ConfigError("config.init_from: the batches bring no images")
    try:
        given, report, preprocessing = weights_for(model, shape, experiment.config["model"], section, note)
    except UserError as error:
        raise UserError(f"config.init_from: {error}") from error
    for line in report.lines():
        note(f"config.init_from: {line}")
    _compare_preprocessing(preprocessing, experiment.config["data"], note)
    return given, f"started from the weights of {section['path']}"


def weights_for(
    model: Model, shape: ImageShape, options: Mapping[str, Any], section: Mapping[str, Any], note: Note
) -> tuple[Given, Report, Preprocessing | None]:
    """Returns weights in the form that a model takes, what was done to them, and what they expect of images.

    Args:
      model: whose blocks may be scanned or not, whatever those of the source are.
      shape: of the images.
      options: of the model, with its name.
      section: see :func:`vision.training.schema.init_section`.
      note: told what people should know.

    Raises:
      UserError: see :func:`given_weights`.
    """
    scan = getattr(model.module, "scan", False)
    unrolled = Model(model.module.clone(scan=False), model.precision, shape) if scan else model
    params, collections = abstract(unrolled, shape)
    may_differ = (HEADS, *section["may_differ"])
    path = Path(section["path"])
    if (path / "checkpoints").is_dir():
        _, arrays, metadata = load_arrays(path, section["step"])
        own = metadata.get("model") or metadata["config"]["model"]
        _check_options(own, options, str(path))
        taken, others = nested(model_arrays(arrays, average=section["average"], note=note))
        fitted = fit(
            flat(unstack_blocks(taken), others),
            flat(params, collections),
            may_differ=may_differ,
            resize=resizer(model.module),
            source=str(path),
        )
        taken, others = nested(fitted.arrays)
        report, stored = fitted.report, metadata.get("preprocessing")
        preprocessing = from_json(stored) if stored else None
    else:
        loaded = load_weights(
            section["path"],
            module=unrolled.module,
            abstract_params=params,
            abstract_collections=collections,
            may_differ=may_differ,
            naming=section["naming"],
            branch=section["branch"],
            note=note,
        )
        taken, others, report, preprocessing = loaded.params, loaded.collections, loaded.report, loaded.preprocessing
    return Given(stack_blocks(taken) if scan else taken, others), report, preprocessing


def _check_options(saved: Mapping[str, Any], wanted: Mapping[str, Any], source: str) -> None:
    name = saved["name"]
    there = {**_complete(saved)} if name in models.CONSTRUCTORS else dict(saved)
    here = _complete(wanted)
    differing = [key for key in DECIDING if key in there and key in here and _plain(there[key]) != _plain(here[key])]
    if differing:
        said = ", ".join(f"{key} {there[key]!r} there and {here[key]!r} here" for key in differing)
        raise UserError(f"{source} is of {name}, with {said}: the same weights would compute something else")


def _complete(section: Mapping[str, Any]) -> dict[str, Any]:
    options = {key: value for key, value in section.items() if key != "name"}
    known = fill(models.CONSTRUCTORS[section["name"]], {}, "model", provided=models.SUPPLIED)
    return {**known, **options}


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _compare_preprocessing(preprocessing: Preprocessing | None, data: Mapping[str, Any], note: Note) -> None:
    if preprocessing is None:
        return
    for key in ("mean", "std"):
        expected, own = getattr(preprocessing, key), data[key]
        if own is None or tuple(own) != tuple(expected):
            note(f"config.init_from: the weights were trained with {key} {expected}, config.data.{key} is {own}")
