"""From a resolved config to everything a run is made of; nothing here trains or writes."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from vision import models
from vision.config.calling import call
from vision.config.duration import Duration, steps_of
from vision.data.inputs import Inputs, open_inputs
from vision.data.pipeline import Pipeline
from vision.data.source import Source
from vision.data.sources import Given
from vision.data.tokenizer import Tokenizer
from vision.errors import ConfigError, did_you_mean
from vision.models.interface import Model
from vision.models.text_interface import TextModel
from vision.objectives import OBJECTIVES, OF_WORDS, VIEWS, WITHOUT_LABELS
from vision.objectives.base import Objective
from vision.objectives.ema import with_ema
from vision.objectives.frozen import with_frozen
from vision.objectives.l2_sp import with_l2_sp
from vision.training import sharding, state
from vision.training.freezing import frozen_until
from vision.training.make_optimizer import InSteps, make_optimizer, make_rules, make_schedule
from vision.training.rules import paths_of
from vision.training.stages import Stage, describe, plan, resized
from vision.training.step import Constants, TrainStep, make_steps, make_train_step

PyTree = Any
Config = Mapping[str, Any]
Described = Callable[[Inputs, NamedSharding], Pipeline]


@dataclass(frozen=True)
class Experiment:
    """Everything that a config describes, built.

    Attributes:
      config: resolved.
      inputs: the data.
      pipeline: batches of the training examples.
      model: what learns; of text where the objective learns language alone.
      text: the text model beside it, or None.
      teacher: the trained network that is learned from, or None.
      objective: what is learned.
      mesh: the devices.
      abstract_state: shapes, types and shardings of the state; the target of init, step and restore.
      constants: what every step reads.
      init: ``(init_key, given weights or None) -> state``, jitted.
      stages: of the training, with their steps; mostly there is one.
      total_steps: length of the training.
    """

    config: Config
    inputs: Inputs
    pipeline: Pipeline
    model: Model | TextModel
    text: TextModel | None
    teacher: Model | None
    objective: Objective
    mesh: Mesh
    abstract_state: PyTree
    constants: Constants
    init: Any
    stages: tuple[Stage, ...]
    total_steps: int

    @property
    def step(self) -> TrainStep:
        """The first stage's train step, jitted, donating the state."""
        return self.stages[0].step

    @property
    def steps(self) -> TrainStep:
        """The first stage's steps in one dispatch, likewise."""
        return self.stages[0].steps

    def stage_at(self, step: int) -> Stage:
        """Returns the stage that a step belongs to."""
        return max((stage for stage in self.stages if stage.first <= step), key=lambda stage: stage.first)

    def describe(self, stage: Stage) -> str:
        """Returns what is special about a stage, for people; empty where nothing is."""
        leaves = jax.tree.leaves(self.abstract_state.params)
        sizes = dict(zip(paths_of(self.abstract_state.params), (leaf.size for leaf in leaves), strict=True))
        return describe(stage, sizes)

    @property
    def steps_per_dispatch(self) -> int:
        """Steps in one dispatch: the config's, but 1 on a CPU where the model convolves.

        There XLA computes a convolution in the body of a loop many times slower.
        """
        convolves = any(each is not None and each.has_convolutions for each in (self.model, self.teacher))
        slow = jax.default_backend() == "cpu" and convolves
        return 1 if slow else self.config["steps_per_dispatch"]

    @property
    def source(self) -> Source:
        """The training examples."""
        return self.inputs.source

    def steps_of(self, duration: Duration | None, path: str) -> int | None:
        """Returns a period of the config in steps, or None.

        Raises:
          ConfigError: it is no duration, or zero.
        """
        if duration is None:
            return None
        steps = steps_of(duration, path, batch_size=self.config["batch_size"], num_examples=len(self.source))
        return _positive(steps, path)


def assemble(
    config: Config,
    *,
    given: Given | None = None,
    tokenizer: Tokenizer | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Experiment:
    """Builds an experiment.

    Args:
      config: resolved.
      given: split -> source or arrays, where ``config.data.name`` is ``arrays``.
      tokenizer: of a run that goes on or is evaluated, in place of the config's.
      devices: those of the mesh; None for all there are.

    Raises:
      UserError: the data are not there, or a value of the config cannot be.
    """
    mesh = call(sharding.make_mesh, config["mesh"], "config.mesh", devices=devices)
    sharding.check_batch(config["batch_size"], mesh, config["microbatches"])
    return build(config, open_inputs(config, given=given, tokenizer=tokenizer), mesh)


def build(config: Config, inputs: Inputs, mesh: Mesh, *, described: Described | None = None) -> Experiment:
    """Builds an experiment over data that are open, on a mesh.

    Args:
      config: resolved.
      inputs: the data.
      mesh: the devices.
      described: None for what is to run. Where it is to be compiled only, for devices that are not there, it gives the
        pipeline, with shapes in place of arrays; the constants are then shapes too, and nothing is put on a device.

    Raises:
      UserError: the data are not there, or a value of the config cannot be.
    """
    batch_size, microbatches = config["batch_size"], config["microbatches"]
    in_steps = partial(steps_of, batch_size=batch_size, num_examples=len(inputs.source))
    total = _positive(in_steps(config["duration"], "config.duration"), "config.duration")
    schedule = make_schedule(config["optimizer"], total, in_steps)
    classes = _outputs(config, inputs.source.num_classes)
    make_model(config, classes, {}, inputs.tokenizer)  # what cannot be is told before any image is read
    prepare = inputs.prepare(training=True)
    over_batch = sharding.batch_sharding(mesh)
    everywhere = sharding.replicated(mesh)
    # Under jit, because only so a process makes arrays that live on the devices of others too.
    make_keys = jax.jit(state.make_keys, out_shardings=everywhere)
    if described is None:
        pipeline = inputs.training_pipeline(over_batch)
        keys = make_keys(np.uint32(config["seed"]))
    else:
        pipeline = described(inputs, over_batch)
        shapes_of_keys = jax.eval_shape(make_keys, np.uint32(config["seed"]))
        keys = sharding.with_shardings(shapes_of_keys, jax.tree.map(lambda _: everywhere, shapes_of_keys))
    constants = Constants(keys, pipeline.resident)

    batch_spec = jax.eval_shape(prepare, pipeline.spec(), pipeline.resident, keys.augment, 0)
    model = make_model(config, classes, batch_spec, inputs.tokenizer)
    text = make_text(config, inputs.tokenizer)
    objective = make_objective(config, model, text, mesh=mesh, total_steps=total, in_steps=in_steps)
    params = _initial_shapes(config, objective, batch_spec, keys.init)
    rules = make_rules(config["optimizer"], params, in_steps)
    until = frozen_until(config["freeze"], rules, model, params, steps=in_steps)
    lengths: Any = {"total_steps": total, "in_steps": in_steps}
    optimizer = make_optimizer(config["optimizer"], schedule, params, frozen=until, **lengths)

    def create(key, given=None):
        return state.create(objective, optimizer, batch_spec, key, given)

    shapes = jax.eval_shape(create, keys.init)
    if microbatches > 1 and any("/batch_stats/" in path for path in paths_of(shapes.extra)):
        inputs.opener.note(f"BatchNorm takes its statistics from each of the {microbatches} microbatches")
    shardings = sharding.state_shardings(shapes, mesh, config["sharding"], "config.sharding")
    jitted = partial(jax.jit, donate_argnums=0, out_shardings=(shardings, everywhere))

    normed_head = any(path.startswith("head_collections/batch_stats") for path in paths_of(shapes.extra))
    if normed_head and any(path.startswith("head/") for path in until):
        raise ConfigError(
            "config.freeze: batch normalisation of a projection head cannot be frozen; leave out its head/"
        )

    def compiled(stage: Stage) -> Stage:
        of_model = objective
        if stage.frozen:
            prefix = "text" if isinstance(model, TextModel) else "backbone" if "backbone" in params else ""
            within = dataclasses.replace(model, frozen=_below(prefix, stage.frozen))
            words = text and dataclasses.replace(text, frozen=_below("text", stage.frozen))
            of_model = with_frozen(make_objective(config, within, words, mesh=mesh, **lengths), stage.frozen)
        if stage.image_size is not None:
            for each in (model, make_teacher(config, model)):
                if each is not None:
                    _check_size(each, stage.image_size, inputs.part.channels)
        train_step = make_train_step(
            of_model,
            optimizer,
            schedule,
            resized(prepare, stage.image_size),
            microbatches=microbatches,
            on_nonfinite=config["on_nonfinite"],
            constrain=lambda batch: jax.lax.with_sharding_constraint(batch, over_batch),
            mesh=mesh,
        )
        return dataclasses.replace(stage, step=jitted(train_step), steps=jitted(make_steps(train_step)))

    stages = plan(until, config["data"]["progressive"], steps=in_steps, total=total)
    if stages[-1].image_size is not None:
        size = stages[-1].image_size
        inputs.opener.note(f"config.data.progressive: the training ends with images of {size}x{size}, not their own")
    return Experiment(
        config=config,
        inputs=inputs,
        pipeline=pipeline,
        model=model,
        text=text,
        teacher=make_teacher(config, model),
        objective=objective,
        mesh=mesh,
        abstract_state=sharding.with_shardings(shapes, shardings),
        constants=constants,
        init=jax.jit(create, out_shardings=shardings),
        stages=tuple(compiled(stage) for stage in stages),
        total_steps=total,
    )


def make_model(
    config: Config, num_classes: int, batch_spec: PyTree, tokenizer: Tokenizer | None = None
) -> Model | TextModel:
    """Returns the config's model for the images of a prepared batch.

    Args:
      config: resolved.
      num_classes: size of the output; 0 for a model without a head.
      batch_spec: shapes of a prepared batch; empty where they are not known yet.
      tokenizer: where the model is one of text.

    Raises:
      ConfigError: the model does not take such images or not such a training.
    """
    if config["objective"]["name"] in OF_WORDS:
        return _text_model(config, "model", tokenizer, out_size=0)
    section = config["model"]
    options = {key: value for key, value in section.items() if key != "name"}
    shape = batch_spec["image"].shape[1:] if "image" in batch_spec else None
    shape = batch_spec["global"].shape[2:] if "global" in batch_spec else shape
    try:
        model = models.build(
            section["name"], num_classes=num_classes, image_shape=shape, precision=config["precision"], **options
        )
    except ConfigError as error:
        raise ConfigError(f"config.model: {error}") from error
    if model.needs_whole_batch and config["microbatches"] > 1:
        raise ConfigError(
            f"config.microbatches: {section['name']} with drop_mode 'batch_subset' draws from the whole batch; "
            "set 1, or config.model.drop_mode=example"
        )
    return model


def make_text(config: Config, tokenizer: Tokenizer | None) -> TextModel | None:
    """Returns the text model beside the image model, None where the config has none."""
    if config["text"] is None:
        return None
    return _text_model(config, "text", tokenizer, out_size=config["objective"]["embed_dim"])


def make_teacher(config: Config, model: Model | TextModel) -> Model | None:
    """Returns the network that a model learns from, for the same images and classes; None where there is none."""
    if config["teacher"] is None or not isinstance(model, Model):
        return None
    section = config["teacher"]["model"]
    options = {key: value for key, value in section.items() if key != "name"}
    sizes: dict[str, Any] = {"num_classes": model.module.num_classes, "image_shape": model.image_shape}
    try:
        return models.build(section["name"], **sizes, precision=config["precision"], **options)
    except ConfigError as error:
        raise ConfigError(f"config.teacher.model: {error}") from error


def _text_model(config: Config, key: str, tokenizer: Tokenizer | None, *, out_size: int) -> TextModel:
    assert tokenizer is not None  # the schema asks for config.data.tokens
    options = {name: value for name, value in config[key].items() if name != "name"}
    length = config["data"]["tokens"]["length"]
    sizes = {"vocab_size": tokenizer.vocab_size, "length": length, "out_size": out_size}
    try:
        return models.build_text(config[key]["name"], **sizes, precision=config["precision"], **options)
    except ConfigError as error:
        raise ConfigError(f"config.{key}: {error}") from error


def _outputs(config: Config, num_classes: int) -> int:
    """Returns how many outputs the model is to have for data of so many classes."""
    name = config["objective"]["name"]
    if name in WITHOUT_LABELS:
        return 0
    if not num_classes:
        raise ConfigError(f"config.data: {config['data']['name']} has no labels, from which objective {name} learns")
    return num_classes


def make_objective(
    config: Config,
    model: Model | TextModel,
    text: TextModel | None,
    *,
    mesh: Mesh,
    total_steps: int,
    in_steps: InSteps,
) -> Objective:
    """Returns the objective over the model.

    Args:
      config: resolved.
      model: what learns.
      text: what learns beside it.
      mesh: the devices.
      total_steps: of the training.
      in_steps: ``(duration, its place in the config)`` in steps.

    Raises:
      ConfigError: an option that cannot be.
    """
    name, path = config["objective"]["name"], "config.objective"
    supplied: dict[str, Any] = {"mesh": mesh, "total_steps": total_steps}
    supplied |= {"text": model} if name in OF_WORDS else {"model": model, "text": text}
    supplied |= {"teacher": make_teacher(config, model)}
    supplied |= {"steps_of": lambda duration, key: in_steps(duration, f"{path}.{key}")}
    for view in config["data"]["views"] or {}:
        if name in VIEWS and view not in VIEWS[name]:
            known = VIEWS[name]
            raise ConfigError(
                f"config.data.views.{view}: {name} takes no such views{did_you_mean(view, known)}; it takes "
                f"{', '.join(known)}"
            )
    asked = inspect.signature(OBJECTIVES[name]).parameters
    supplied = {key: value for key, value in supplied.items() if key in asked}
    objective = call(OBJECTIVES[name], config["objective"], path, **supplied)
    if config["l2_sp"] is not None:
        objective = call(with_l2_sp, config["l2_sp"], "config.l2_sp", objective=objective)
    if config["ema"] is not None:
        if name == "distill":
            raise ConfigError("config.ema: distill's teacher is such an average; set config.objective.teacher_momentum")
        objective = call(with_ema, config["ema"], "config.ema", objective=objective)
    return objective


def _initial_shapes(config: Config, objective: Objective, batch_spec: PyTree, key: Any) -> PyTree:
    """The shapes of the initial parameters; what the objective needs and the data do not bring is named."""
    try:
        return jax.eval_shape(lambda each: objective.init(each, batch_spec), key)[0]
    except KeyError as error:
        raise ConfigError(
            f"config.objective: {config['objective']['name']} needs {error} of each example, "
            f"config.data brings {', '.join(sorted(batch_spec))}"
        ) from error
    except ValueError as error:
        raise ConfigError(f"config.objective: {config['objective']['name']}: {error}") from error


def _below(prefix: str, frozen: frozenset[str]) -> frozenset[str]:
    """The paths below a part of an objective's parameters, as the part names them itself."""
    start = f"{prefix}/" if prefix else ""
    return frozenset(path.removeprefix(start) for path in frozen if path.startswith(start))


def _check_size(model: Model | TextModel, size: int, channels: int) -> None:
    if not isinstance(model, Model):
        raise ConfigError("config.data.progressive: resizes images, which this training has none of")
    try:
        model.check((size, size, channels))
    except ValueError as error:
        raise ConfigError(f"config.data.progressive: {error}") from error


def _positive(steps: int, path: str) -> int:
    if not steps:
        raise ConfigError(f"{path}: must be more than 0 steps")
    return steps
