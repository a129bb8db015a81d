"""The train step of a config, compiled for chips that need not be there, and what the compiler says of it."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from tools.planning.chips import Devices, Target
from tools.planning.described import Facts, describe_inputs, described_pipeline
from tools.planning.traffic import bytes_of
from vision.analysis import hlo
from vision.analysis.collectives import Collective, collectives_of
from vision.config.calling import call
from vision.errors import ConfigError, UserError
from vision.models.cost import multiply_adds
from vision.training.assemble import Experiment, build
from vision.training.sharding import check_batch, describe, make_mesh

PyTree = Any
_OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"
_SIZE = r"([\d.]+)([KMGT]?)"
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Memory:
    """Bytes on one chip, as the compiler lays them out.

    Attributes:
      arguments: state, batch and constants.
      outputs: of the step.
      aliased: part of the outputs that takes the place of arguments.
      temporaries: activations, gradients and all else between.
      code: of the program.
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    code: int

    @property
    def total(self) -> int:
        """What a step needs at once."""
        return self.arguments + self.outputs - self.aliased + self.temporaries + self.code


@dataclass(frozen=True)
class Compiled:
    """What a compiled train step is like, on one chip.

    Attributes:
      mesh: sizes of the axes larger than 1.
      batch_size: of all chips together.
      data: where what is known of the data comes from.
      state: part of the state -> bytes, exact.
      inputs: bytes of the batch and of the data on the device.
      memory: None where the compiler refused because it does not fit.
      needed: bytes by the compiler's words where it refused.
      limit: bytes that it says there are, likewise; 0 where it does not.
      flops: of a step by the compiler; 0 where it says nothing.
      accessed: bytes that a step reads and writes; 0 where nobody says.
      accessed_by: who counted them.
      model_flops: of the products and convolutions of the model, without what ``remat`` and microbatches compute twice;
        with attention's scores, which on a TPU are computed again in any case, about 1% of a ViT.
      step_flops: the same with it.
      collectives: of a step.
      loops: how often loops with products turn; 0 where it is not known.
      unknown_loops: loops, of products or not, of which that is not known, and which are counted as one turn.
      seconds: it took to trace, to lower and to compile.
      main_accessed: bytes that a step reads from and writes to the chip's main memory, counted from the program's text;
        what the compiler keeps in a chip's own fast memory is not among them.
    """

    mesh: Mapping[str, int]
    batch_size: int
    data: str
    state: Mapping[str, int]
    inputs: int
    memory: Memory | None
    needed: int
    limit: int
    flops: float
    accessed: float
    accessed_by: str
    model_flops: float
    step_flops: float
    collectives: tuple[Collective, ...]
    loops: tuple[int, ...]
    unknown_loops: int
    seconds: Mapping[str, float]
    main_accessed: float = 0.0


def prepare_experiment(config: Mapping[str, Any], devices: Devices, facts: Facts | None) -> tuple[Experiment, str]:
    """Returns the experiment over described data, by the code that builds what runs, and where the facts come from.

    Raises:
      UserError: a value of the config cannot be, or the data are not known.
    """
    mesh = call(make_mesh, config["mesh"], "config.mesh", devices=devices.devices)
    check_batch(config["batch_size"], mesh, config["microbatches"])
    inputs, origin = describe_inputs(config, facts)
    return build(config, inputs, mesh, described=described_pipeline), origin


def compile_step(config: Mapping[str, Any], target: Target, devices: Devices, facts: Facts | None) -> Compiled:
    """Compiles the first stage's train step and reads what the compiler says.

    Raises:
      UserError: a value of the config cannot be, or the data are not known.
    """
    began = time.monotonic()
    experiment, origin = prepare_experiment(config, devices, facts)
    batch = batch_of(experiment)
    traced = experiment.step.trace(experiment.abstract_state, batch, experiment.constants)  # type: ignore[attr-defined]
    chips = experiment.mesh.size
    step_flops = _flops(traced.jaxpr)
    model_flops = _model_flops(config, devices, facts, step_flops)
    at_trace = time.monotonic()
    lowered = traced.lower()
    at_lower = time.monotonic()
    memory, needed, limit, flops, accessed, accessed_by, main_accessed = None, 0, 0, 0.0, 0.0, "", 0.0
    collectives: tuple[Collective, ...] = ()
    loops: tuple[int, ...] = ()
    unknown_loops = 0
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if _OUT_OF_MEMORY not in str(error):
            raise UserError(f"{target.text}: {devices.compiler}: {str(error).splitlines()[0]}") from error
        needed, limit = _refused(str(error))
    else:
        memory = _memory(compiled)
        program = hlo.read(compiled.as_text())
        loops = tuple(program.loops())
        unknown_loops = count_unknown_loops(program)
        collectives = tuple(collectives_of(program, experiment.mesh))
        flops, accessed, accessed_by = _costs(compiled, program, loops)
        main_accessed = float(bytes_of(program, main=True))
    seconds = {"trace": at_trace - began, "lower": at_lower - at_trace, "compile": time.monotonic() - at_lower}
    state = experiment.abstract_state
    parts = {"parameters": state.params, "optimizer": state.opt_state, "beside them": state.extra, "step": state.step}
    return Compiled(
        mesh=describe(experiment.mesh),
        batch_size=config["batch_size"],
        data=origin,
        state={name: bytes_per_chip(tree) for name, tree in parts.items()},
        inputs=bytes_per_chip((batch, experiment.constants.resident)),
        memory=memory,
        needed=needed,
        limit=limit,
        flops=flops,
        accessed=accessed,
        accessed_by=accessed_by,
        model_flops=model_flops / chips,
        step_flops=step_flops / chips,
        collectives=collectives,
        loops=loops,
        unknown_loops=unknown_loops,
        seconds={name: round(value, 2) for name, value in seconds.items()},
        main_accessed=main_accessed,
    )


def count_unknown_loops(program: hlo.Program) -> int:
    """Returns how many loops of a program turn nobody knows how often."""
    run = (each for name, instructions in program.computations.items() if program.times[name] for each in instructions)
    return sum(each.opcode == "while" and not program.turns(each) for each in run)


def bytes_per_chip(tree: PyTree) -> int:
    """Returns the bytes that one chip holds of shapes with shardings."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        shape = leaf.sharding.shard_shape(leaf.shape) if leaf.sharding is not None else leaf.shape
        total += int(np.prod(shape, dtype=np.int64)) * leaf.dtype.itemsize
    return total


def batch_of(experiment: Experiment) -> PyTree:
    """Returns shapes and shardings of a batch, as the pipeline places it."""
    sharding = experiment.pipeline.sharding
    return {
        name: jax.ShapeDtypeStruct(each.shape, each.dtype, sharding=sharding)
        for name, each in experiment.pipeline.spec().items()
    }


def _flops(jaxpr: Any) -> float:
    """Of all chips; where a loop's length is unknown it is not counted: 0."""
    try:
        return 2.0 * multiply_adds(jaxpr)
    except ValueError:
        return 0.0


def _model_flops(config: Mapping[str, Any], devices: Devices, facts: Facts | None, step_flops: float) -> float:
    """Those of the same step in one batch, where nothing is computed again to save memory."""
    plain = {**config, "microbatches": 1}
    for section in ("model", "text"):
        if config[section] is not None and config[section].get("remat", "none") != "none":
            plain[section] = {**config[section], "remat": "none"}
    if all(plain[key] == config[key] for key in ("microbatches", "model", "text")):
        return step_flops
    try:
        experiment, _ = prepare_experiment(plain, devices, facts)
    except ConfigError:
        return step_flops
    traced = experiment.step.trace(  # type: ignore[attr-defined]
        experiment.abstract_state, batch_of(experiment), experiment.constants
    )
    return _flops(traced.jaxpr)


def _memory(compiled: Any) -> Memory:
    stats = compiled.memory_analysis()
    return Memory(
        stats.argument_size_in_bytes,
        stats.output_size_in_bytes,
        stats.alias_size_in_bytes,
        stats.temp_size_in_bytes,
        stats.generated_code_size_in_bytes,
    )


def _costs(compiled: Any, program: hlo.Program, loops: tuple[int, ...]) -> tuple[float, float, str]:
    """FLOPs and bytes of a step, and who counted the bytes; the compiler takes the body of a loop once."""
    costs = compiled.cost_analysis()
    costs = costs[0] if isinstance(costs, list) else costs
    if not costs or not costs.get("bytes accessed"):
        return 0.0, float(bytes_of(program)), "counted from the program's text"
    flops, accessed = float(costs.get("flops", 0.0)), float(costs["bytes accessed"])
    if not loops:
        return flops, accessed, "by the compiler"
    factor = bytes_of(program) / max(1, bytes_of(program, loops=False))
    return 0.0, accessed * factor, "by the compiler, times how often loops turn by the program's text"


def _refused(message: str) -> tuple[int, int]:
    """The bytes that are needed and those that there are, in the words of a compiler that ran out of memory."""
    needed = re.search(rf"(?:required for HLO temporaries \(|Used ){_SIZE}", message)
    limit = re.search(rf"(?:available HBM \(|of ){_SIZE}\)? ?(?:hbm|\.|$)", message)
    return tuple(  # type: ignore[return-value]
        round(float(match.group(1)) * _UNITS[match.group(2)]) if match else 0 for match in (needed, limit)
    )
