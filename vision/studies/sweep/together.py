"""Many small models in one compiled program: the step mapped over seeds and over what can be traced.

Every run has the batches, keys and initial parameters that it has alone, and its step is the one of
:mod:`vision.training.step`. An accelerator computes all runs side by side (``vmap``); images of one seed are then
augmented once for all its settings. A CPU takes the runs one after another inside the same program (``lax.map``):
side by side they fell out of its caches (64 perceptrons took 1.8 times the processor time), and rounded otherwise,
which grew to 1e-4 of the loss in 600 steps. One after another they have the bits that they have alone.
"""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from vision import models
from vision.data.inputs import order_of
from vision.data.pipeline import place
from vision.errors import Stopped
from vision.objectives import WITHOUT_LABELS
from vision.studies.sweep.memory import free_bytes, needed_bytes
from vision.studies.sweep.traced import Traced, numbers_of, optimizer_of, smoothed, smooths, without_numbers
from vision.training import state
from vision.training.assemble import Experiment, assemble, make_objective
from vision.training.evaluators import make_evaluators
from vision.training.interrupt import Interrupt
from vision.training.schema import resolve
from vision.training.sharding import AXES
from vision.training.state import TrainState
from vision.training.step import Constants, make_steps, make_train_step

PyTree = Any
Config = dict[str, Any]
Note = Callable[[str], None]
Metrics = dict[str, dict[str, float]]
MOST_STEPS = 50  # in one dispatch, after which a signal is heard
_SECONDS_BETWEEN_LINES = 5.0


class NotTogether(Exception):
    """Why runs must be trained one by one."""


def check_alone(config: Config) -> None:
    """Raises NotTogether where a config, of either kind and not resolved, is one for a process of its own."""
    if "estimator" in config:
        raise NotTogether("an estimator is fitted, it has no steps")
    name = config.get("objective", {}).get("name")
    if name in WITHOUT_LABELS:
        raise NotTogether(f"{name} carries more than a model")
    optimizer = config.get("optimizer", {})
    rules = [dict(rule[1]) for rule in optimizer.get("rules", ()) if len(rule) == 2]
    late = any({"freeze_for", "train_for"} & rule.keys() for rule in rules) or config.get("data", {}).get("progressive")
    if late or optimizer.get("weight_decay_schedule") is not None:
        raise NotTogether("what changes over a training, other than the learning rate, is for single runs")
    if any(rule.get("freeze") for rule in rules):
        raise NotTogether("what is frozen runs as in evaluation, which single runs do")
    built = models.CONSTRUCTORS.get(config.get("model", {}).get("name"))
    if hasattr(getattr(built, "func", None), "from_images"):
        raise NotTogether("a model that starts from training images is for single runs")
    for key in ("early_stopping", "resume", "init_from", "freeze", "teacher"):
        if config.get(key) is not None:
            raise NotTogether(f"config.{key} is for single runs")


class Together:
    """Runs that differ in their numbers alone, see :func:`vision.studies.sweep.traced.static_part`."""

    def __init__(self, config: Config, *, side_by_side: bool | None = None):
        """Opens the data of one of the runs.

        Args:
          config: resolved.
          side_by_side: compute runs side by side, or one after another; None asks the device.

        Raises:
          NotTogether: its data do not live on the device, or it convolves on a CPU.
          UserError: the config cannot be trained at all.
        """
        on_cpu = jax.default_backend() == "cpu"
        self._side_by_side = not on_cpu if side_by_side is None else side_by_side
        self._experiment = assemble(config)
        self._evaluators = make_evaluators(self._experiment)
        if not self._experiment.pipeline.resident:
            self._experiment.pipeline.close()
            raise NotTogether("the images do not live on the device")
        if self._experiment.model.has_convolutions and on_cpu:
            raise NotTogether("a CPU convolves slowly in a loop")

    def train(self, configs: Sequence[Config], seeds: Sequence[int], *, note: Note) -> list[list[Metrics | str]]:
        """Trains every config with every seed, as many configs at once as fit in memory.

        Args:
          configs: resolved, alike but for their numbers; their seeds do not count.
          seeds: of the runs.
          note: told how far it has got.

        Returns:
          For each config and each seed what the evaluators say of the last state, or why there is none.

        Raises:
          NotTogether: not even one config fits.
          UserError: a number of a config cannot be.
          Stopped: a signal came; nothing is kept of what was not returned.
        """
        numbers = [numbers_of(config, self._experiment) for config in configs]
        at_once, results = len(configs), list[list[Metrics | str]]()
        while len(results) < len(configs):
            part = numbers[len(results) : len(results) + at_once]
            batch = _Batch(self._experiment, part, seeds, side_by_side=self._side_by_side)
            needed, free = batch.needed_bytes(), free_bytes()
            if needed > free and len(part) == 1:
                raise NotTogether(f"{len(seeds)} runs need {needed / 2**30:.1f} GiB, {free / 2**30:.1f} are free")
            if needed > free:
                at_once = math.ceil(len(part) / 2)
                continue
            results += self._evaluate(*batch.run(note), len(part), len(seeds))
        return results

    def _evaluate(self, final: TrainState, finite: np.ndarray, settings: int, seeds: int) -> list[list[Metrics | str]]:
        params, extra = jax.device_get((final.params, final.extra))

        def one(setting: int, seed: int) -> Metrics | str:
            if not finite[seed, setting]:
                return "the loss, the gradient or the parameters of a step are not finite"
            chosen = jax.tree.map(lambda leaf: leaf[seed, setting], (params, extra))
            alone = TrainState(step=final.step, params=chosen[0], extra=chosen[1], opt_state=None)
            return {
                name: {metric: value for metric, value in each.run(alone) if isinstance(value, float)}
                for name, each in self._evaluators.items()
            }

        return [[one(setting, seed) for seed in range(seeds)] for setting in range(settings)]


class _Batch:
    """Runs that are trained at once: a leading axis of seeds, then one of settings."""

    def __init__(self, experiment: Experiment, numbers: Sequence[Traced], seeds: Sequence[int], *, side_by_side: bool):
        self._experiment, self._seeds = experiment, seeds
        config = resolve(without_numbers(experiment.config))
        prepare, pipeline = experiment.inputs.prepare(training=True), experiment.pipeline
        self._objective = make_objective(
            config,
            experiment.model,
            experiment.text,
            mesh=experiment.mesh,
            total_steps=experiment.total_steps,
            in_steps=lambda duration, path: 0,
        )
        self._numbers = jax.tree.map(lambda *leaves: jnp.stack(leaves), *numbers)
        self._orders = [
            order_of(config["data"], experiment.source, batch_size=config["batch_size"], seed=seed) for seed in seeds
        ]
        params = experiment.abstract_state.params
        spec = jax.eval_shape(prepare, pipeline.spec(), pipeline.resident, experiment.constants.keys.augment, 0)
        classes = experiment.source.num_classes

        def create(key, numbers: Traced) -> TrainState:
            return state.create(self._objective, optimizer_of(config["optimizer"], params, numbers), spec, key)

        def steps(each: TrainState, batches, keys, resident, numbers: Traced):
            train_step = make_train_step(
                self._objective,
                optimizer_of(config["optimizer"], params, numbers),
                lambda step: numbers.rates[step],
                smoothed(prepare, numbers, classes) if smooths(config) else prepare,
                microbatches=config["microbatches"],
                on_nonfinite=config["on_nonfinite"],
            )
            each, metrics = make_steps(train_step)(each, batches, Constants(keys, resident))
            watched = jnp.stack([metrics[name][0] for name in ("loss", "gradient_norm", "parameter_norm")])
            return each, jnp.isfinite(watched).all()

        # Several accelerators share the runs seed by seed, where their number allows it.
        spread = side_by_side and len(seeds) % jax.device_count() == 0
        self._runs = NamedSharding(experiment.mesh, PartitionSpec(AXES) if spread else PartitionSpec())
        self._keys = jax.jit(jax.vmap(state.make_keys), out_shardings=self._runs)(np.asarray(seeds, np.uint32))
        over_seeds = partial(jax.vmap, in_axes=(0, None))
        self._create = jax.jit(over_seeds(jax.vmap(create, in_axes=(None, 0))), out_shardings=self._runs)
        over_settings, over_all = (True, False, False, False, True), (True, True, True, False, False)
        of_all = _mapped(_mapped(steps, over_settings, side_by_side), over_all, side_by_side)
        self._steps = jax.jit(of_all, donate_argnums=0, out_shardings=self._runs)

    def needed_bytes(self) -> int:
        """Compiles the step and returns what it takes of memory."""
        total = self._experiment.total_steps
        self._count = _divisor(total, MOST_STEPS)
        if self._count < min(total, MOST_STEPS) // 5:
            self._count = min(total, MOST_STEPS)  # a last, shorter dispatch is compiled too
        states = jax.eval_shape(self._create, self._keys.init, self._numbers)
        self._compiled = self._steps.lower(*self._arguments(states, self._batches(0, self._count))).compile()
        return needed_bytes(self._compiled)

    def run(self, note: Note) -> tuple[TrainState, np.ndarray]:
        """Returns the last states and, ``[seeds, settings]``, which of them were finite at every step."""
        total, count = self._experiment.total_steps, self._count
        states = self._create(self._keys.init, self._numbers)
        finite: Any = True
        began = told = time.monotonic()
        with Interrupt() as interrupt:
            for step in range(0, total, count):
                whole = step + count <= total
                program = self._compiled if whole else self._steps
                batches = self._batches(step, count if whole else total - step)
                states, fine = program(*self._arguments(states, batches))
                finite = np.asarray(fine) & finite
                number = interrupt.received()
                if number:
                    raise Stopped(f"stopped at step {step + count} of {total}", signal_number=number)
                now = time.monotonic()
                if now - told > _SECONDS_BETWEEN_LINES:
                    told = now
                    left = (now - began) / (step + count) * (total - step - count)
                    note(f"step {step + count}/{total} of {finite.size} runs  {left:.0f} s left")
        return states, finite

    def _arguments(self, states: PyTree, batches: PyTree) -> tuple[Any, ...]:
        return states, batches, self._keys, self._experiment.pipeline.resident, self._numbers

    def _batches(self, step: int, count: int) -> dict[str, jax.Array]:
        """Index and visit of each example, ``[seeds, steps, batch]``: each seed's own order."""
        rows = [[order.rows(k) for k in range(step, step + count)] for order in self._orders]
        columns = {
            name: np.stack([np.stack([getattr(each, name) for each in of_seed]) for of_seed in rows])
            for name in ("index", "visit")
        }
        return {name: place(column, self._runs) for name, column in columns.items()}


def _divisor(number: int, most: int) -> int:
    """Returns the largest divisor of ``number`` that is at most ``most``: parts of one size are one program."""
    return max(n for n in range(1, min(number, most) + 1) if number % n == 0)


def _mapped(function: Callable[..., Any], over: Sequence[bool], side_by_side: bool) -> Callable[..., Any]:
    """Returns ``function`` mapped over the leading axis of the arguments marked."""
    if side_by_side:
        return jax.vmap(function, [0 if moves else None for moves in over])

    def mapped(*arguments: Any) -> Any:
        def one(each: Any) -> Any:
            rest = iter(each)
            return function(*(next(rest) if moves else a for a, moves in zip(arguments, over, strict=True)))

        return jax.lax.map(one, tuple(argument for argument, moves in zip(arguments, over, strict=True) if moves))

    return mapped
