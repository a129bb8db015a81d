"""From a resolved config to everything a run is made of; nothing here trains or writes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from vision import models
from vision.config.calling import call
from vision.config.duration import Duration, steps_of
from vision.data import augment
from vision.data.augment.mix import MIXES
from vision.data.host import HostPart
from vision.data.materialize import usable
from vision.data.order import InOrder
from vision.data.pipeline import Pipeline, make_pipeline
from vision.data.prepare import Prepare, make_prepare
from vision.data.source import Source
from vision.data.sources import Given, Opener, to_stderr
from vision.errors import ConfigError
from vision.evaluation import EVALUATORS
from vision.evaluation.base import EvalSet, Evaluator
from vision.objectives import OBJECTIVES
from vision.objectives.base import Objective
from vision.objectives.ema import with_ema
from vision.training import sharding, state
from vision.training.inputs import host_part, order_of
from vision.training.optimizers import OPTIMIZERS, with_rules
from vision.training.rules import layerwise_rules
from vision.training.schedules import SCHEDULES, with_warmup
from vision.training.schema import eval_section, optimizer_section, own
from vision.training.step import Constants, TrainStep, make_steps, make_train_step

PyTree = Any
Config = Mapping[str, Any]


@dataclass(frozen=True)
class Experiment:
    """Everything that a config describes, built.

    Attributes:
      config: resolved.
      opener: opens splits of the data.
      source: the training examples.
      part: what the host does to them.
      pipeline: their batches.
      objective: what is learned.
      mesh: the devices.
      abstract_state: shapes, types and shardings of the state; the target of init, step and restore.
      constants: what every step reads.
      init: ``init_key -> state``, jitted.
      step: one train step, jitted, donating the state.
      steps: several in one dispatch, likewise.
      total_steps: length of the training.
    """

    config: Config
    opener: Opener
    source: Source
    part: HostPart
    pipeline: Pipeline
    objective: Objective
    mesh: Mesh
    abstract_state: PyTree
    constants: Constants
    init: Any
    step: TrainStep
    steps: TrainStep
    total_steps: int

    def steps_of(self, duration: Duration | None, path: str) -> int | None:
        """Returns a period of the config in steps, or None.

        Raises:
          ConfigError: it is no duration, or zero.
        """
        if duration is None:
            return None
        steps = steps_of(duration, path, batch_size=self.config["batch_size"], num_examples=len(self.source))
        return _positive(steps, path)


def assemble(config: Config, *, given: Given | None = None) -> Experiment:
    """Builds an experiment.

    Args:
      config: resolved.
      given: split -> source or arrays, where ``config.data.name`` is ``arrays``.

    Raises:
      UserError: the data are not there, or a value of the config cannot be.
    """
    mesh = call(sharding.make_mesh, config["mesh"], "config.mesh")
    batch_size, microbatches = config["batch_size"], config["microbatches"]
    sharding.check_batch(batch_size, mesh, microbatches)
    data = config["data"]
    note = to_stderr if jax.process_index() == 0 else _ignore
    opener = Opener(data["name"], data["data_dir"], data["label"], data["on_error"], note, given)
    source = opener(data["split"])
    part = host_part(data, source, seed=config["seed"], note=note)
    source = usable(source, part, data["on_error"], note)
    objective = make_objective(config, source.num_classes)
    prepare = make_prepare_of(config, part.channels, source.num_classes, training=True)
    over_batch = sharding.batch_sharding(mesh)
    order = order_of(data, source, batch_size=batch_size, seed=config["seed"])
    pipeline = call(
        make_pipeline,
        {"residency": data["residency"], "workers": data["workers"]},
        "config.data",
        source=source,
        order=order,
        part=part,
        sharding=over_batch,
        note=note,
        what=data["split"],
    )
    # Under jit, because only so a process makes arrays that live on the devices of others too.
    keys = jax.jit(state.make_keys, out_shardings=sharding.replicated(mesh))(np.uint32(config["seed"]))
    constants = Constants(keys, pipeline.resident)

    in_steps = partial(steps_of, batch_size=batch_size, num_examples=len(source))
    total = _positive(in_steps(config["duration"], "config.duration"), "config.duration")
    batch_spec = jax.eval_shape(lambda: prepare(_zeros_like(pipeline), pipeline.resident, keys.augment, 0))
    params = _initial_shapes(config, objective, batch_spec, keys.init)
    schedule = make_schedule(config["optimizer"], total, in_steps)
    optimizer = make_optimizer(config["optimizer"], schedule, params)

    def create(key):
        return state.create(objective, optimizer, batch_spec, key)

    shapes = jax.eval_shape(create, keys.init)
    shardings = sharding.state_shardings(shapes, mesh, config["sharding"], "config.sharding")
    train_step = make_train_step(
        objective,
        optimizer,
        schedule,
        prepare,
        microbatches=microbatches,
        on_nonfinite=config["on_nonfinite"],
        constrain=lambda batch: jax.lax.with_sharding_constraint(batch, over_batch),
    )
    jitted = partial(jax.jit, donate_argnums=0, out_shardings=(shardings, sharding.replicated(mesh)))
    return Experiment(
        config=config,
        opener=opener,
        source=source,
        part=part,
        pipeline=pipeline,
        objective=objective,
        mesh=mesh,
        abstract_state=sharding.with_shardings(shapes, shardings),
        constants=constants,
        init=jax.jit(create, out_shardings=shardings),
        step=jitted(train_step),
        steps=jitted(make_steps(train_step)),
        total_steps=total,
    )


def make_objective(config: Config, num_classes: int) -> Objective:
    """Returns the objective over the config's model."""
    section = config["model"]
    options = {key: value for key, value in section.items() if key != "name"}
    try:
        model = models.build(section["name"], num_classes=num_classes, precision=config["precision"], **options)
    except ConfigError as error:
        raise ConfigError(f"config.model: {error}") from error
    objective = call(OBJECTIVES[config["objective"]["name"]], config["objective"], "config.objective", model=model)
    if config["ema"] is not None:
        objective = call(with_ema, config["ema"], "config.ema", objective=objective)
    return objective


def make_prepare_of(config: Config, channels: int, num_classes: int, *, training: bool) -> Prepare:
    """Returns the device part of the pipeline; only training augments, makes views and mixes."""
    data, path = config["data"], "config.data"
    options: dict[str, Any] = {"mean": data["mean"], "std": data["std"]}
    if training and data["augment"]:
        options["augmentation"] = augment.compose(data["augment"], f"{path}.augment")
    if training and data["views"] is not None:
        options["views"] = augment.compose_views(data["views"], f"{path}.views")
    if training and data["mix"] is not None:
        options["mix"] = call(MIXES[data["mix"]["name"]], data["mix"], f"{path}.mix")
    return call(make_prepare, options, path, channels=channels, num_classes=num_classes)


def make_schedule(section: Config, total: int, in_steps: Any) -> optax.Schedule:
    """Returns the learning rate as a function of the step; a warm-up takes its share of the total."""
    warmup = in_steps(section["warmup"], "config.optimizer.warmup") if section["warmup"] is not None else 0
    if warmup > total:
        raise ConfigError(f"config.optimizer.warmup: {warmup} steps are more than the {total} of the training")
    path = "config.optimizer.schedule"
    main = call(
        SCHEDULES[section["schedule"]["name"]],
        section["schedule"],
        path,
        peak=section["learning_rate"],
        total=total - warmup,
        steps=lambda duration, key: in_steps(duration, f"{path}.{key}"),
    )
    return with_warmup(main, peak=section["learning_rate"], warmup_steps=warmup)


def make_optimizer(section: Config, schedule: optax.Schedule, params: PyTree) -> optax.GradientTransformation:
    """Returns the optimizer with its rules per parameter."""
    path = "config.optimizer"
    rules = list(section["rules"])
    if section["layerwise_decay"] is not None:
        layers, decay = section["layerwise_decay"]["layers"], section["layerwise_decay"]["decay"]
        rules += layerwise_rules(layers, decay, params, f"{path}.layerwise_decay.layers")
    function = OPTIMIZERS[section["name"]]
    return with_rules(
        lambda decay: call(function, own(section, optimizer_section), path, rate=schedule, decay=decay),
        params,
        weight_decay=section["weight_decay"],
        rules=rules,
        clip_global_norm=section["clip_global_norm"],
        where=path,
    )


def make_evaluators(experiment: Experiment, *, split: str | None = None) -> dict[str, Evaluator]:
    """Returns the config's evaluators by name, on their own splits or all on ``split``."""
    config, data = experiment.config, experiment.config["data"]
    part = replace(experiment.part, crop=data["eval_crop"])
    over_batch = sharding.batch_sharding(experiment.mesh)
    sources: dict[str | None, Source] = {}
    evaluators = {}
    for name, section in config["evals"].items():
        chosen = split or section["split"]
        if chosen not in sources:
            note = experiment.opener.note
            sources[chosen] = usable(experiment.opener(chosen), part, data["on_error"], note)
            classes = sources[chosen].num_classes
            if classes != experiment.source.num_classes:
                raise ConfigError(
                    f"config.evals.{name}: split {chosen!r} has {classes} classes, the training data have "
                    f"{experiment.source.num_classes}"
                )
        sharding.check_batch(section["batch_size"], experiment.mesh, 1, where=f"config.evals.{name}.batch_size")
        order = InOrder(len(sources[chosen]), section["batch_size"])
        pipeline = call(
            make_pipeline,
            {"residency": data["residency"]},  # passes are short: threads start at once, processes would not
            "config.data",
            source=sources[chosen],
            order=order,
            part=part,
            sharding=over_batch,
            note=experiment.opener.note,
            what=f"{name}, {chosen or 'held out'}",
        )
        prepare = make_prepare_of(config, part.channels, experiment.source.num_classes, training=False)
        eval_set = EvalSet(pipeline, prepare, tuple(order.mask(step) for step in range(order.num_batches)))
        evaluators[name] = call(
            EVALUATORS[section["name"]],
            own(section, eval_section),
            f"config.evals.{name}",
            eval_set=eval_set,
            objective=experiment.objective,
        )
    return evaluators


def _initial_shapes(config: Config, objective: Objective, batch_spec: PyTree, key: Any) -> PyTree:
    """The shapes of the initial parameters; what the objective needs and the data do not bring is named."""
    try:
        return jax.eval_shape(lambda each: objective.init(each, batch_spec), key)[0]
    except KeyError as error:
        raise ConfigError(
            f"config.objective: {config['objective']['name']} needs {error} of each example, "
            f"config.data brings {', '.join(sorted(batch_spec))}"
        ) from error


def _ignore(text: str) -> None:
    pass


def _positive(steps: int, path: str) -> int:
    if not steps:
        raise ConfigError(f"{path}: must be more than 0 steps")
    return steps


def _zeros_like(pipeline: Pipeline) -> dict[str, jax.Array]:
    """A batch of the right shapes, for shapes alone."""
    return jax.tree.map(jnp.zeros_like, pipeline.batch(0))
