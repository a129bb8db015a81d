"""What a config may say: every key with its type and default, and the check of a whole config against them."""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from vision import models
from vision.config.calling import call, fill, fill_named
from vision.config.duration import Duration
from vision.errors import ConfigError
from vision.evaluation import EVALUATORS
from vision.models.precision import FLOAT32, Precision
from vision.objectives import OBJECTIVES, OF_IMAGES_AND_WORDS, OF_WORDS, WITH_TEACHER
from vision.objectives.ema import with_ema
from vision.objectives.l2_sp import with_l2_sp
from vision.training.early_stopping import early_stopping, mode_of
from vision.training.optimizers import OPTIMIZERS
from vision.training.rules import Rule
from vision.training.schedules import SCHEDULES
from vision.training.schema_data import resolve_data
from vision.training.sharding import Strategy
from vision.training.step import OnNonFinite

Section = Mapping[str, Any]
SUPPLIED_TO_OBJECTIVES = ("model", "text", "teacher", "mesh", "total_steps", "steps_of")
RESERVED = ("train", "speed", "workdir", "step", "steps", "complete", "warnings")


def experiment(
    *,
    data: Section,
    model: Section,
    objective: Section,
    optimizer: Section,
    duration: Duration,
    batch_size: int,
    text: Section | None = None,
    teacher: Section | None = None,
    seed: int = 0,
    precision: str = FLOAT32,
    ema: Section | None = None,
    microbatches: int = 1,
    steps_per_dispatch: int = 1,
    on_nonfinite: OnNonFinite = "stop",
    resume: str | None = None,
    init_from: str | Section | None = None,
    freeze: Section | None = None,
    l2_sp: Section | None = None,
    mesh: Section = {},
    sharding: Strategy = "auto",
    evals: Section = {},
    checkpoint: Section = {},
    early_stopping: Section | None = None,
    logging: Section = {},
) -> None:
    """The top level of a config.

    Args:
      data: see :func:`vision.training.schema_data.data_section`.
      model: ``name`` of a registered variant, and its options; of a text model where the objective learns language.
      objective: ``name``, and the options of :data:`vision.objectives.OBJECTIVES`.
      optimizer: ``name``, its options, and :func:`optimizer_section`.
      duration: of the training, in steps, epochs or examples.
      batch_size: examples a step, over all devices.
      text: ``name`` of a text model and its options, where the objective learns from images and words.
      teacher: the trained network that the objective learns from beside the labels, see :func:`teacher_section`.
      seed: of everything that is random.
      precision: types of parameters, computation and output.
      ema: ``decay`` of an average of the parameters that evaluators use, or None.
      microbatches: parts a batch is computed in.
      steps_per_dispatch: steps in one call of the compiled program.
      on_nonfinite: stop the run, or skip the update, where a loss is not finite.
      resume: another run's folder whose newest state this run starts from.
      init_from: weights that this run starts from: a path, or a section, see :func:`init_section`.
      freeze: parts that are not trained, or not from the start, see :func:`freeze_section`.
      l2_sp: pull towards the weights of ``init_from``, see :func:`vision.objectives.l2_sp.with_l2_sp`.
      mesh: sizes of the axes data, fsdp and tensor.
      sharding: a strategy's name, or ``(regex, tactic)`` rules over the paths of the state, see
        :func:`vision.training.sharding.state_shardings`.
      evals: ``name -> section``, see :func:`eval_section`.
      checkpoint: see :func:`checkpoint_section`.
      early_stopping: see :func:`vision.training.early_stopping.early_stopping`; None trains to the end.
      logging: see :func:`logging_section`.
    """


def optimizer_section(
    *,
    learning_rate: float,
    schedule: Section = {"name": "constant"},
    warmup: Duration | None = None,
    weight_decay: float = 0.0,
    weight_decay_schedule: Section | None = None,
    clip_global_norm: float | None = None,
    clip_tensor_norm: float | None = None,
    clip_module_norm: float | None = None,
    rules: tuple[Rule, ...] = (),
    layerwise_decay: Section | None = None,
) -> None:
    """What every optimizer has: its peak learning rate, how that changes, and rules per parameter.

    Args:
      learning_rate: at its peak.
      schedule: see :data:`vision.training.schedules.SCHEDULES`.
      warmup: a straight line from 0 to the peak, before the schedule begins.
      weight_decay: of every parameter that no rule gives another.
      weight_decay_schedule: how it changes over the whole training, such as ``{"name": "cosine", "final": 0.4}``.
      clip_global_norm: bound on the norm of the whole gradient, see :func:`vision.training.clipping.clip_norms`.
      clip_tensor_norm: on that of each parameter.
      clip_module_norm: on that of each part at the top of the parameters, such as backbone and head.
      rules: ``(regex, settings)``, see :mod:`vision.training.rules`; ``freeze_for`` and
        ``train_for`` are durations here.
      layerwise_decay: see :func:`layerwise_section`.
    """


def layerwise_section(*, decay: float, layers: tuple[str, ...], factors: tuple[tuple[str, float], ...] = ()) -> None:
    """Learning rates that fall by ``decay`` from each layer to the one below; see ``rules.layerwise_rules``."""


def eval_section(
    *, split: str | None = None, every: Duration | None = None, at_start: bool = False, batch_size: int = 512
) -> None:
    """What every evaluator has: its split, and how often it runs (always at the end, and ``at_start`` before step 1).

    Without a split it is the held-out one: the first there is of validation, val, valid and test.
    """


def checkpoint_section(
    *,
    every: Duration | None = None,
    keep: int = 3,
    best: str | None = None,
    best_mode: Literal["max", "min"] | None = None,
) -> None:
    """When to save, beside at the end and at a signal, and what to keep.

    ``best`` names a metric such as ``test/accuracy``; less of it is better where ``best_mode`` says so, or where
    it says nothing and the name ends in loss or error.
    """


def logging_section(
    *,
    every: Duration = {"steps": 50},
    tensorboard: bool = True,
    wandb: str | None = None,
    progress: bool = True,
) -> None:
    """How often metrics are written, and where beside ``metrics.jsonl``; ``wandb`` names a project."""


def init_section(
    *,
    path: str,
    step: int | None = None,
    average: bool = True,
    may_differ: tuple[str, ...] = (),
    naming: str | None = None,
    branch: str | None = None,
) -> None:
    """Weights to start from; the optimizer and the step number start anew.

    Args:
      path: folder of a run or of converted weights, or a weight file, folder or Hub name of another library, see
        :func:`vision.interop.files.read_weights`.
      step: which checkpoint of a run; None for the newest.
      average: take the moving average of a run's parameters where there is one.
      may_differ: regular expressions of arrays, and of the model's options, that need not agree; heads never need to.
      naming: whose names a file uses, where it is not clear.
      branch: which network of a training run's file.
    """


def teacher_section(*, model: Section, init_from: str | Section) -> None:
    """A trained network whose predictions are learned.

    Args:
      model: ``name`` of a registered variant, and its options.
      init_from: its weights, as in ``config.init_from``; read where training starts from scratch, and never again.
    """


def freeze_section(
    *, patterns: tuple[str, ...] = (), blocks: int = 0, unfreeze: Duration | None = None, unfreeze_blocks: int = 1
) -> None:
    """What is not trained: no gradient, no update, no memory of the optimizer, and statistics that stay.

    Args:
      patterns: regular expressions over paths of parameters; what they match is never trained.
      blocks: so many blocks, and all before them; -1 for everything but the head.
      unfreeze: after each such time the last frozen blocks are trained too, until all are (Howard and Ruder 2018,
        section 3.3); None never.
      unfreeze_blocks: how many each time.
    """


def mesh_section(*, data: int = -1, fsdp: int = 1, tensor: int = 1) -> None:
    """Sizes of the mesh axes; -1 takes what is left."""


def resolve(config: Section) -> dict[str, Any]:
    """Returns the config complete with every default.

    Raises:
      ConfigError: naming the key, where anything in it is unknown, missing, of a wrong type or not allowed.
    """
    full = fill(experiment, config, "config")
    full["data"] = resolve_data(full["data"], "config.data")
    full["objective"] = fill_named(
        OBJECTIVES, full["objective"], "config.objective", kind="objective", provided=SUPPLIED_TO_OBJECTIVES
    )
    objective = full["objective"]["name"]
    if objective in OF_WORDS:
        full["model"] = _text(full["model"], "config.model")
    else:
        full["model"] = _model(full["model"], "config.model")
    if (objective in OF_IMAGES_AND_WORDS) != (full["text"] is not None):
        told = "missing; name a text model" if full["text"] is None else "no code reads it"
        raise ConfigError(f"config.text: {told} (the objective is {objective})")
    if full["text"] is not None:
        full["text"] = _text(full["text"], "config.text")
    if (objective in WITH_TEACHER) != (full["teacher"] is not None):
        told = "missing; name a trained network" if full["teacher"] is None else "no code reads it"
        raise ConfigError(f"config.teacher: {told} (the objective is {objective})")
    if full["teacher"] is not None:
        teacher = fill(teacher_section, full["teacher"], "config.teacher")
        model = _model(teacher["model"], "config.teacher.model")
        full["teacher"] = {"model": model, "init_from": _init(teacher["init_from"], "config.teacher.init_from")}
    if objective in OF_WORDS | OF_IMAGES_AND_WORDS and full["data"]["tokens"] is None:
        raise ConfigError(f"config.data.tokens: missing; {objective} learns from captions, and {{}} takes the defaults")
    full["optimizer"] = _optimizer(full["optimizer"])
    if full["ema"] is not None:
        full["ema"] = fill(with_ema, full["ema"], "config.ema", provided=("objective",))
    if full["init_from"] is not None:
        full["init_from"] = _init(full["init_from"], "config.init_from")
        if full["resume"] is not None:
            raise ConfigError("config.init_from: not together with config.resume, which brings its own weights")
    if full["freeze"] is not None:
        full["freeze"] = fill(freeze_section, full["freeze"], "config.freeze")
    if full["l2_sp"] is not None:
        full["l2_sp"] = fill(with_l2_sp, full["l2_sp"], "config.l2_sp", provided=("objective",))
        if full["init_from"] is None:
            raise ConfigError("config.l2_sp: pulls towards the weights of config.init_from, which is missing")
    full["mesh"] = fill(mesh_section, full["mesh"], "config.mesh")
    full["evals"] = {name: _eval(section, f"config.evals.{name}") for name, section in full["evals"].items()}
    full["checkpoint"] = fill(checkpoint_section, full["checkpoint"], "config.checkpoint")
    if full["early_stopping"] is not None:
        full["early_stopping"], full["checkpoint"] = _early_stopping(full)
    full["logging"] = fill(logging_section, full["logging"], "config.logging")
    _check_values(full)
    return full


def _model(section: Section, path: str) -> dict[str, Any]:
    return fill_named(models.CONSTRUCTORS, section, path, kind="model", provided=models.SUPPLIED)


def _init(section: str | Section, path: str) -> dict[str, Any]:
    return fill(init_section, {"path": section} if isinstance(section, str) else section, path)


def _text(section: Section, path: str) -> dict[str, Any]:
    return fill_named(models.TEXT_CONSTRUCTORS, section, path, kind="text model", provided=models.TEXT_SUPPLIED)


def _optimizer(section: Section) -> dict[str, Any]:
    path = "config.optimizer"
    full = fill_named(OPTIMIZERS, section, path, kind="optimizer", provided=("rate", "decay"), common=optimizer_section)
    full["schedule"] = fill_named(
        SCHEDULES, full["schedule"], f"{path}.schedule", kind="schedule", provided=("peak", "total", "steps")
    )
    if full["weight_decay_schedule"] is not None:
        full["weight_decay_schedule"] = fill_named(
            SCHEDULES,
            full["weight_decay_schedule"],
            f"{path}.weight_decay_schedule",
            kind="schedule",
            provided=("peak", "total", "steps"),
        )
    if full["layerwise_decay"] is not None:
        full["layerwise_decay"] = fill(layerwise_section, full["layerwise_decay"], f"{path}.layerwise_decay")
    return full


def _eval(section: Section, path: str) -> dict[str, Any]:
    return fill_named(
        EVALUATORS,
        section,
        path,
        kind="evaluator",
        provided=("eval_set", "objective", "open_split", "features", "tokenizer", "token_length"),
        common=eval_section,
    )


def _early_stopping(full: Section) -> tuple[dict[str, Any], dict[str, Any]]:
    """The section, and the checkpoints' with the same metric, as the best state is one of theirs."""
    path = "config.early_stopping"
    section = fill(early_stopping, full["early_stopping"], path)
    call(early_stopping, section, path)
    metric, checkpoint = section["metric"], full["checkpoint"]
    section["mode"] = mode_of(metric, section["mode"] or checkpoint["best_mode"])
    name = metric.split("/")[0]
    if name not in full["evals"]:
        raise ConfigError(
            f"{path}.metric: {metric!r} is not eval/metric; evals here: {', '.join(full['evals']) or 'none'}"
        )
    if full["evals"][name]["every"] is None:
        raise ConfigError(f"config.evals.{name}.every: missing; {path} asks for {metric} during training")
    for key, value in (("best", metric), ("best_mode", section["mode"])):
        if checkpoint[key] not in (None, value):
            raise ConfigError(
                f"config.checkpoint.{key}: {checkpoint[key]!r}, but {path} ends on the best {metric} ({value!r})"
            )
    return section, {**checkpoint, "best": metric, "best_mode": section["mode"]}


def _check_values(full: Section) -> None:
    """Checks what needs no data and no device; the rest is checked where it is built."""
    call(Precision.parse, {"policy": full["precision"]}, "config.precision")
    for key in ("batch_size", "microbatches", "steps_per_dispatch"):
        if full[key] < 1:
            raise ConfigError(f"config.{key}: must be >= 1, got {full[key]}")
    if not 0 <= full["seed"] < 2**32:
        raise ConfigError(f"config.seed: must be in [0, 2**32), got {full['seed']}")
    if not 0 <= full["optimizer"]["learning_rate"] < float("inf"):
        raise ConfigError(
            f"config.optimizer.learning_rate: must be a number >= 0, got {full['optimizer']['learning_rate']}"
        )
    for name, section in full["evals"].items():
        if not re.fullmatch(r"\w+", name) or name in RESERVED:
            raise ConfigError(f"config.evals.{name}: an eval's name is one word, and none of {', '.join(RESERVED)}")
        if section["batch_size"] < 1:
            raise ConfigError(f"config.evals.{name}.batch_size: must be >= 1, got {section['batch_size']}")
    if full["checkpoint"]["keep"] < 1:
        raise ConfigError(f"config.checkpoint.keep: must be >= 1, got {full['checkpoint']['keep']}")
    best = full["checkpoint"]["best"]
    if best is not None and best.split("/")[0] not in full["evals"]:
        names = ", ".join(full["evals"]) or "none"
        raise ConfigError(f"config.checkpoint.best: {best!r} is not eval/metric; evals here: {names}")


def own(section: Section, common: Callable) -> dict[str, Any]:
    """Returns the keys of a resolved section that belong to the function it names, without the common ones."""
    shared = inspect.signature(common).parameters
    return {key: value for key, value in section.items() if key not in shared}
