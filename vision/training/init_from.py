"""Weights to start from: of a run of ours, of an import, or in a file of another library."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vision import models
from vision.config.calling import fill
from vision.errors import ConfigError, UserError
from vision.interop.fit import Report, compile_patterns, fit
from vision.interop.load import load_weights, resizer
from vision.interop.preprocessing import Preprocessing
from vision.interop.saved import abstract, model_arrays, preprocessing_of
from vision.interop.trees import flat, nested
from vision.models.interface import ImageShape, Model
from vision.models.scanning import stack_blocks, unstack_blocks
from vision.models.text_interface import TextModel
from vision.training.assemble import Experiment
from vision.training.checkpoint import load_arrays
from vision.training.state import Given

Note = Callable[[str], None]
HEADS = r"^params/(distillation_)?head/"
# Options that may differ: what is drawn, how it is computed, where it starts from, and how positions are resized.
FREE = (
    *("dropout", "block_dropout", "spatial_dropout", "patch_dropout", "stochastic_depth", "uniform_depth", "drop_mode"),
    *("rescale_depth", "attention_weights", "scan", "remat", "initialisation", "zero_init", "head_bias"),
    *("resize_positions", "position_antialias", "position_offset"),
)
# Options that the arrays tell themselves, by their number and shapes. All others must agree.
TOLD_BY_SHAPES = (
    *("width", "depth", "mlp_dim", "num_registers", "class_token", "mask_token", "distillation_token", "qkv_bias"),
    *("representation", "layer_scale", "hidden_sizes", "conv_widths", "stage_sizes", "widths", "width_factor"),
    *("block_depths", "batch_norm", "tokens_dim", "channels_dim"),
)


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
    if isinstance(model, TextModel):
        raise ConfigError("config.init_from: weights of text models are not taken; config.resume goes on with a run")
    if shape is None:
        raise ConfigError("config.init_from: the batches bring no images")
    if experiment.text is not None:
        note("config.init_from: fills the image model; the text model and the projection stay as initialised")
    try:
        given, report, preprocessing = weights_for(
            model, shape, experiment.config["model"], section, note, class_names=experiment.source.class_names
        )
    except UserError as error:
        raise UserError(f"config.init_from: {error}") from error
    for line in report.lines():
        note(f"config.init_from: {line}")
    _compare_preprocessing(preprocessing, experiment.config["data"], note, "config.init_from")
    return given, f"started from the weights of {section['path']}"


def teacher_weights(experiment: Experiment, note: Note) -> Given:
    """Returns the weights of ``config.teacher`` alone; the model stays as initialised.

    Raises:
      UserError: the source cannot be read or does not fit, its head included.
    """
    teacher, config = experiment.teacher, experiment.config
    assert teacher is not None
    assert teacher.image_shape is not None
    where, options = "config.teacher.init_from", config["teacher"]["model"]
    try:
        given, report, preprocessing = weights_for(
            *(teacher, teacher.image_shape, options, config["teacher"]["init_from"], note),
            class_names=experiment.source.class_names,
        )
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    if report.fresh:
        raise UserError(
            f"{where}: a teacher's weights must all be there; missing or of another shape: "
            f"{', '.join(report.fresh[:4])}"
        )
    for line in report.lines():
        note(f"{where}: {line}")
    _compare_preprocessing(preprocessing, config["data"], note, where)
    return Given({}, {}, {"params": given.params, "collections": given.collections})


def weights_for(
    model: Model,
    shape: ImageShape,
    options: Mapping[str, Any],
    section: Mapping[str, Any],
    note: Note,
    *,
    class_names: Sequence[str] = (),
) -> tuple[Given, Report, Preprocessing | None]:
    """Returns weights in the form that a model takes, what was done to them, and what they expect of images.

    Args:
      model: whose blocks may be scanned or not, whatever those of the source are.
      shape: of the images.
      options: of the model, with its name.
      section: see :func:`vision.training.schema.init_section`.
      note: told what people should know.
      class_names: that the model is to tell apart; a run's head of other classes is left out, whatever its shape.

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
        _check_options(own, options, str(path), section["may_differ"])
        found = model_arrays(arrays, average=section["average"], note=note)
        names = tuple(metadata.get("class_names") or ())
        if names and class_names and names != tuple(class_names):
            note(f"{path} tells other classes apart ({', '.join(names[:3])}, ...): its head is left out")
            found = {array: leaf for array, leaf in found.items() if not re.search(HEADS, array)}
        taken, others = nested(found)
        fitted = fit(
            flat(unstack_blocks(taken), others),
            flat(params, collections),
            may_differ=may_differ,
            resize=resizer(model.module),
            source=str(path),
        )
        taken, others = nested(fitted.arrays)
        report, preprocessing = fitted.report, preprocessing_of(metadata, shape[2])
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
    if scan:
        absent = [path for path in report.fresh if re.search(r"/block\d+/", path)]
        if absent:
            raise UserError(f"{path}: with scan=True every block needs its weights; missing: {', '.join(absent[:3])}")
        taken = stack_blocks(taken)
    return Given(taken, others), report, preprocessing


def _check_options(saved: Mapping[str, Any], wanted: Mapping[str, Any], source: str, may_differ: Sequence[str]) -> None:
    """Refuses options that change what the same arrays compute; one that is new to this list is among them."""
    name = saved["name"]
    there = _complete(saved) if name in models.CONSTRUCTORS else dict(saved)
    here = _complete(wanted)
    patterns = compile_patterns(may_differ)
    deciding = [key for key in here if key in there and key not in (*FREE, *TOLD_BY_SHAPES)]
    deciding = [key for key in deciding if not any(pattern.search(key) for pattern in patterns)]
    differing = [key for key in deciding if _plain(there[key]) != _plain(here[key])]
    if differing:
        said = ", ".join(f"{key} {there[key]!r} there and {here[key]!r} here" for key in differing)
        raise UserError(f"{source} is of {name}, with {said}: the same weights would compute something else")


def _complete(section: Mapping[str, Any]) -> dict[str, Any]:
    options = {key: value for key, value in section.items() if key != "name"}
    known = fill(models.CONSTRUCTORS[section["name"]], {}, "model", provided=models.SUPPLIED)
    return {**known, **options}


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _compare_preprocessing(
    preprocessing: Preprocessing | None, data: Mapping[str, Any], note: Note, where: str
) -> None:
    if preprocessing is None:
        return
    for key in ("mean", "std"):
        expected, own = getattr(preprocessing, key), data[key]
        if own is None or tuple(own) != tuple(expected):
            note(f"{where}: the weights were trained with {key} {expected}, config.data.{key} is {own}")
